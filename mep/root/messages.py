"""What the manager may say to the warden, and the warden to the manager: the whole list.

One packet of a root-owned ``SOCK_SEQPACKET`` Unix socket is one message. The manager says
:class:`Start` and :class:`Stop`; the warden says :class:`Running` (first, on every connection),
:class:`Started`, :class:`Refused` and :class:`Exited`. Anything else closes the connection.

Nothing in a packet is parsed beyond fixed-size numbers and lengths until the grant's HMAC holds.

Start packet, all numbers big-endian::

    b"S"  grant length u32  options length u32  runtime length u32  signature 32 bytes
          grant  options  runtime

Stop packet: ``b"P"`` and the user endpoint id, 36 bytes. The warden's packets are one kind byte
and a JSON object with exactly the fields below; the manager trusts them, they come from root.

The manager's half, which is not root's to run, is :mod:`mep.manager.packets`. Standard library
only, like everything in this package.
"""

import json
import struct
from dataclasses import asdict, dataclass
from typing import Final

MAX_PACKET: Final = 128 * 1024
START: Final = struct.Struct(">cIII32s")
_UUID_BYTES: Final = 36


class MessageError(ValueError):
    """A packet that is no message of this list."""


@dataclass(frozen=True)
class Start:
    """Start a user endpoint. `signature` = HMAC-SHA256(key, ``mep-grant-1\\0`` + grant)."""

    grant: bytes
    signature: bytes
    options: bytes
    runtime: bytes


@dataclass(frozen=True)
class Stop:
    """Stop a user endpoint: SIGTERM to its process group, then SIGKILL."""

    user_endpoint_id: str


@dataclass(frozen=True)
class Running:
    """The state of the warden: bind `boot_id` into grants; these user endpoints live."""

    boot_id: str
    user_endpoint_ids: list[str]


@dataclass(frozen=True)
class Started:
    """The user's process is forked (or was running already)."""

    user_endpoint_id: str
    account: str
    pid: int


@dataclass(frozen=True)
class Refused:
    """No process was started. `message` is for the user; `reference` names the log record.

    `user_endpoint_id` and `nonce` are empty where the grant could not be believed: such a
    packet is only counted, by `packet` (SHA-256 of the grant bytes, hex).
    """

    user_endpoint_id: str
    nonce: str
    packet: str
    code: str
    message: str
    reference: str


@dataclass(frozen=True)
class Exited:
    """A user endpoint ended. `code` and `message` when its process said why, else empty;
    `status` and `signal` are None where the warden cannot know (an adopted process).
    """

    user_endpoint_id: str
    nonce: str
    status: int | None
    signal: int | None
    code: str
    message: str


Request = Start | Stop
Reply = Running | Started | Refused | Exited
KINDS: Final = {Running: b"R", Started: b"s", Refused: b"r", Exited: b"x"}


def parse_request(packet: bytes) -> Request:
    """The request in a packet.

    Raises:
        MessageError: too large, unknown kind, lengths that do not add up.
    """
    if packet[:1] == b"P" and len(packet) == 1 + _UUID_BYTES and packet.isascii():
        return Stop(packet[1:].decode())
    if packet[:1] == b"S" and START.size <= len(packet) <= MAX_PACKET:
        _, grant, options, runtime, signature = START.unpack_from(packet)
        body = packet[START.size :]
        if grant + options + runtime == len(body):
            parts = body[:grant], signature, body[grant : grant + options], body[grant + options :]
            return Start(*parts)
    raise MessageError(f"packet of kind {packet[:1]!r}, {len(packet)} bytes")


def pack_reply(reply: Reply) -> bytes:
    """The packet of one reply."""
    return KINDS[type(reply)] + json.dumps(asdict(reply), separators=(",", ":")).encode()
