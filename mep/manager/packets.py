"""The manager's half of what is spoken with the warden: :mod:`mep.root.messages` has the list."""

import json
from dataclasses import fields
from typing import Final

from mep.root.messages import KINDS, START, MessageError, Reply, Request, Start, Stop

_REPLIES: Final[dict[bytes, type[Reply]]] = {kind: reply for reply, kind in KINDS.items()}


def pack_request(request: Request) -> bytes:
    """The packet of one request."""
    match request:
        case Start(grant, signature, options, runtime):
            head = START.pack(b"S", len(grant), len(options), len(runtime), signature)
            return head + grant + options + runtime
        case Stop(user_endpoint_id):
            return b"P" + user_endpoint_id.encode("ascii")


def parse_reply(packet: bytes) -> Reply:
    """The reply in a packet.

    Raises:
        MessageError: unknown kind, not JSON, not exactly the declared fields.
    """
    kind = _REPLIES.get(packet[:1])
    if kind is None:
        raise MessageError(f"packet of kind {packet[:1]!r}")
    try:
        body = json.loads(packet[1:])
    except ValueError as error:
        raise MessageError(f"reply is not JSON: {error}") from error
    if not isinstance(body, dict) or set(body) != {field.name for field in fields(kind)}:
        raise MessageError("reply does not have the declared fields")
    return kind(**body)
