"""Why there is no runtime."""

from mep.endpoint.engines.base import EngineError


class RuntimeUnavailable(EngineError):
    """It cannot be made or staged; the message is a sentence for the user, with the remedy."""
