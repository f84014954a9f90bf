"""What the manager may say to the warden, and the warden to the manager: the whole list.

One packet of a root-owned ``SOCK_SEQPACKET`` Unix socket is one message. The manager says
:class:`Start` and :class:`Stop`; the warden says what :data:`REPLIES` lists. Anything else closes
the connection.

Nothing in a packet is parsed beyond fixed-size numbers and lengths until the grant's HMAC holds.

Start packet, all numbers big-endian::

    b"S"  grant length u32  options length u32  runtime length u32  signature 32 bytes
          grant  options  runtime

Stop packet: ``b"P"`` and the user endpoint id, 36 bytes. The warden's packets are one kind byte
and a JSON object with exactly the fields listed; the manager trusts them, they come from root.

The manager's half, which is not root's to run, is :mod:`mep.manager.packets`. Standard library
only, like everything in this package.
"""

import json
import struct
from typing import Final, NamedTuple

MAX_PACKET: Final = 128 * 1024
START: Final = struct.Struct(">cIII32s")
RUNNING, STARTED, REFUSED, EXITED = b"R", b"s", b"r", b"x"
REPLIES: Final = {
    RUNNING: ("boot_id", "user_endpoint_ids"),
    STARTED: ("user_endpoint_id", "account", "pid"),
    REFUSED: ("user_endpoint_id", "packet", "code", "reference"),
    EXITED: ("user_endpoint_id", "status", "said"),
}
"""Kind and fields of what the warden says; what they mean is said at the classes of
:mod:`mep.manager.packets`."""


class MessageError(ValueError):
    """A packet that is no message of this list."""


class Start(NamedTuple):
    """Start a user endpoint. `signature` = HMAC-SHA256(key, ``mep-grant-1\\0`` + grant)."""

    grant: bytes
    signature: bytes
    options: bytes
    runtime: bytes


class Stop(NamedTuple):
    """Stop a user endpoint: SIGTERM to its process group, then SIGKILL."""

    user_endpoint_id: str


def parse_request(packet: bytes) -> Start | Stop:
    """The request in a packet.

    Raises:
        MessageError: too large, unknown kind, lengths that do not add up.
    """
    if packet[:1] == b"P" and len(packet) == len(b"P") + 36 and packet.isascii():
        return Stop(packet[1:].decode())
    if packet[:1] == b"S" and START.size <= len(packet) <= MAX_PACKET:
        _, grant, options, runtime, signature = START.unpack_from(packet)
        body = packet[START.size :]
        if grant + options + runtime == len(body):
            parts = body[:grant], signature, body[grant : grant + options], body[grant + options :]
            return Start(*parts)
    raise MessageError(f"packet of kind {packet[:1]!r}, {len(packet)} bytes")


def pack_reply(kind: bytes, *values: object) -> bytes:
    """The packet of one reply."""
    fields = dict(zip(REPLIES[kind], values, strict=True))
    return kind + json.dumps(fields, separators=(",", ":")).encode()
