"""UUIDs: made, checked on the way in, derived for user endpoints."""

import os
import re
import time
import uuid
from typing import Any, Final

from mep.wire import codes
from mep_cloud.errors import Refusal
from mep_cloud.grants import canonical

_CANONICAL: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def new_id() -> str:
    """A random UUID as text."""
    return str(uuid.uuid4())


def new_ids(count: int) -> list[str]:
    """UUIDs that begin with the time (version 7 of RFC 9562): 48 bits of it, 74 random ones.

    What is made together lies together in an index, so that a burst of tasks touches a few of its
    pages instead of one for each task.
    """
    now = f"{time.time_ns() // 1_000_000:012x}"
    head = f"{now[:8]}-{now[8:]}-7"
    made = []
    for _ in range(count):
        drawn = os.urandom(10).hex()
        variant = "89ab"[int(drawn[3], 16) & 3]
        made.append(f"{head}{drawn[:3]}-{variant}{drawn[4:7]}-{drawn[7:19]}")
    return made


def checked(text: str, what: str) -> str:
    """`text` in the canonical spelling of a UUID.

    Raises:
        Refusal: 400, it is none; `what` names it in the message.
    """
    if _CANONICAL.fullmatch(text):
        return text
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
