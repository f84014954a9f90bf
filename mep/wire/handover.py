"""Warden -> user endpoint: the sealed memory file at descriptor 3.

The warden writes it (:mod:`mep.root.leader`, separate code, held together by a test), the user
endpoint reads it once and closes it. Every section is opaque bytes to root.

Format: the magic line ``MEP handover 1\\n``, then sections until the end of the file, each
``>16sI`` (name padded with NUL, length) and the bytes.

Standard library only.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

DESCRIPTOR: Final = 3
"""The memory file, read-only and sealed."""
REPORT_DESCRIPTOR: Final = 4
"""Leads to root: nothing is written when all is well; before a failed exit one JSON object
``{"code", "message"}`` of at most :data:`REPORT_BYTES`. Closed when the endpoint is up."""
REPORT_BYTES: Final = 4096

MAGIC: Final = b"MEP handover 1\n"
_SECTION: Final = struct.Struct(">16sI")
_MAX_BYTES: Final = 8 * 1024 * 1024


class HandoverError(ValueError):
    """The memory file is not what the warden writes."""


@dataclass(frozen=True)
class Handover:
    """What the warden hands to a user endpoint."""

    token: bytes
    """The relay token of this user endpoint, as it goes into the Authorization header."""
    facts: bytes
    """JSON object, made by root from the verified grant: ``{"endpoint_id", "user_endpoint_id",
    "identity_id" (the one that was mapped), "identities" (ids), "events_socket" (path or null),
    "template_directory"}``. The account is the one that the process runs as."""
    options: bytes
    """JSON object: ``user_endpoint_config`` as the user sent it."""
    runtime: bytes
    """JSON object: ``user_runtime`` as the SDK sent it."""
    template: bytes
    """``user_config_template.yaml.j2``."""
    schema: bytes
    """``user_config_schema.json``; empty where there is none."""
    environment: bytes
    """``user_environment.yaml``; empty where there is none."""
    parent: bytes
    """``parent.json``: the non-secret settings of the manager, see :mod:`mep.wire.parent`."""


def decode(data: bytes) -> Handover:
    """Parse a memory file.

    Raises:
        HandoverError: bad magic, truncated, an unknown, doubled or missing section.
    """
    sections: dict[str, bytes] = {}
    for name, body in _sections(data):
        if name in sections:
            raise HandoverError(f"section {name!r} stands twice")
        sections[name] = body
    try:
        return Handover(**sections)
    except TypeError as error:
        raise HandoverError(f"sections {sorted(sections)}: {error}") from error


def _sections(data: bytes) -> Iterator[tuple[str, bytes]]:
    if not data.startswith(MAGIC) or len(data) > _MAX_BYTES:
        raise HandoverError("not a handover of this version")
    at = len(MAGIC)
    while at < len(data):
        if len(data) - at < _SECTION.size:
            raise HandoverError("truncated section header")
        raw, length = _SECTION.unpack_from(data, at)
        at += _SECTION.size
        if len(data) - at < length:
            raise HandoverError("truncated section")
        yield raw.rstrip(b"\0").decode("ascii", "replace"), data[at : at + length]
        at += length
