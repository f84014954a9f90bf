"""Why a user endpoint cannot start: one tree, each with a code and a sentence for the user.

::

    StartError
    |-- OptionsRefused      user_endpoint_config: reserved word, schema, missing option
    |-- TemplateFailed      the administrator's template does not render, or to no YAML mapping
    |-- ConfigRefused       unknown setting or wrong type; also user_environment.yaml
    |-- EngineFailed        the engine cannot be brought up
    `-- StartFailed         the process itself: handover, directory, lock, set-up command
"""

from typing import ClassVar

from mep.wire import codes


class StartError(Exception):
    """A user endpoint that cannot start; the message is a sentence for the user."""

    code: ClassVar[str] = codes.START_FAILED


class OptionsRefused(StartError):
    """The user's options."""

    code = codes.OPTIONS_REFUSED


class TemplateFailed(StartError):
    """The administrator's template."""

    code = codes.TEMPLATE_FAILED


class ConfigRefused(StartError):
    """The configuration that the template renders to."""

    code = codes.CONFIG_REFUSED


class EngineFailed(StartError):
    """The engine."""

    code = codes.ENGINE_FAILED


class StartFailed(StartError):
    """The process itself."""
