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

Standard library only, like everything in this package.
"""

import json
import struct
from dataclasses import asdict, dataclass, fields
from typing import Final

MAX_PACKET: Final = 128 * 1024
_START: Final = struct.Struct(">cIII32s")
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
_REPLIES: Final[dict[bytes, type[Reply]]] = {
    b"R": Running,
    b"s": Started,
    b"r": Refused,
    b"x": Exited,
}
_KINDS: Final = {reply: kind for kind, reply in _REPLIES.items()}


def pack_request(request: Request) -> bytes:
    """The packet of one request (the manager's side)."""
    match request:
        case Start(grant, signature, options, runtime):
            head = _START.pack(b"S", len(grant), len(options), len(runtime), signature)
            return head + grant + options + runtime
        case Stop(user_endpoint_id):
            return b"P" + user_endpoint_id.encode("ascii")


def parse_request(packet: bytes) -> Request:
    """The request in a packet (root's side).

    Raises:
        MessageError: too large, unknown kind, lengths that do not add up.
    """
    if len(packet) > MAX_PACKET:
        raise MessageError(f"packet of {len(packet)} bytes")
    match packet[:1]:
        case b"S":
            return _parse_start(packet)
        case b"P" if len(packet) == 1 + _UUID_BYTES and packet.isascii():
            return Stop(packet[1:].decode("ascii"))
        case kind:
            raise MessageError(f"packet of kind {kind!r}, {len(packet)} bytes")


def _parse_start(packet: bytes) -> Start:
    if len(packet) < _START.size:
        raise MessageError("truncated start")
    _, *lengths, signature = _START.unpack_from(packet)
    if _START.size + sum(lengths) != len(packet):
        raise MessageError("lengths of a start do not add up")
    grant_end = _START.size + lengths[0]
    options_end = grant_end + lengths[1]
    return Start(
        packet[_START.size : grant_end],
        signature,
        packet[grant_end:options_end],
        packet[options_end:],
    )


def pack_reply(reply: Reply) -> bytes:
    """The packet of one reply (root's side)."""
    return _KINDS[type(reply)] + json.dumps(asdict(reply), separators=(",", ":")).encode()


def parse_reply(packet: bytes) -> Reply:
    """The reply in a packet (the manager's side).

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
