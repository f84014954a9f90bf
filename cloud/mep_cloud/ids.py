"""UUIDs: checked on the way in, derived for user endpoints."""

import uuid
from typing import Any

from mep.wire import codes
from mep_cloud.errors import Refusal
from mep_cloud.grants import canonical


def new_id() -> str:
    """A random UUID as text."""
    return str(uuid.uuid4())


def checked(text: str, what: str) -> str:
    """`text` in the canonical spelling of a UUID.

    Raises:
        Refusal: 400, it is none; `what` names it in the message.
    """
    try:
        return str(uuid.UUID(text))
    except ValueError:
        message = f"{text[:80]!r} is not a valid {what}: a UUID is expected."
        raise Refusal(400, codes.INVALID_UUID, message) from None


def user_endpoint_id(
    endpoint_id: str, identity_id: str, options: dict[str, Any], runtime: dict[str, Any]
) -> str:
    """The stable id of one person's endpoint process with these options (``docs/protocol.md``)."""
    name = canonical([identity_id, options, _python(runtime), _sdk(runtime)])
    return str(uuid.uuid5(uuid.UUID(endpoint_id), name.decode("ascii")))


def _python(runtime: dict[str, Any]) -> str:
    """``X.Y`` from either SDK's runtime record; empty where it does not say."""
    python = runtime.get("python")
    version = python.get("version") if isinstance(python, dict) else runtime.get("python_version")
    return ".".join(version.split(".")[:2]) if isinstance(version, str) else ""


def _sdk(runtime: dict[str, Any]) -> str:
    for key in ("mep_sdk_version", "globus_compute_sdk_version", "sdk_version"):
        version = runtime.get(key)
        if isinstance(version, str):
            return version
    return ""
