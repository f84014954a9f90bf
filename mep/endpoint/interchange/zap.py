"""Who may connect to the interchange: ZeroMQ's authentication (ZAP, ZeroMQ RFC 27).

libzmq asks before it lets a connection in; the answer names the block that the key was made for,
and libzmq attaches that name to every message of the connection. A key that is not on the list,
another mechanism and another domain are refused.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import zmq

from mep.endpoint.interchange.noise import Noise

ENDPOINT: Final = "inproc://zeromq.zap.01"
"""Where libzmq looks for the handler of a context."""
DOMAIN: Final = b"mep-interchange"
"""Must be set on a socket before it is bound: without one libzmq does not ask."""
_VERSION: Final = b"1.0"
_FIELDS: Final = 6
"""Version, request id, domain, address, identity, mechanism; credentials follow."""


@dataclass(frozen=True)
class Verdict:
    """The answer to one request."""

    block_id: str | None
    """None: refused."""
    why: str
    """For the log."""
    reply: tuple[bytes, ...]


class Guests:
    """The credentials that are let in, each for one block.

    Args:
        mechanism: ``CURVE`` (credential: the client's public key) or ``PLAIN`` (user, password).
    """

    def __init__(self, mechanism: str) -> None:
        self.mechanism = mechanism.encode()
        self._blocks: dict[bytes, str] = {}

    def admit(self, block_id: str, credential: Sequence[bytes]) -> None:
        """Let pools with this credential in, as those of that block."""
        self._blocks[_digest(credential)] = block_id

    def forget(self, block_id: str) -> None:
        """The block has ended."""
        self._blocks = {key: block for key, block in self._blocks.items() if block != block_id}

    def block_of(self, credential: Sequence[bytes]) -> str | None:
        """The block that a credential was made for."""
        return self._blocks.get(_digest(credential))


def decide(request: Sequence[bytes], guests: Guests) -> Verdict:
    """The answer to a request of libzmq's. Pure."""
    if len(request) < _FIELDS or request[0] != _VERSION:
        return _verdict(request, None, "a request that is not ZAP 1.0")
    domain, address, _, mechanism = request[2:_FIELDS]
    where = address.decode("ascii", "replace")
    if domain != DOMAIN:
        return _verdict(request, None, f"{where}: domain {domain!r}")
    if mechanism != guests.mechanism:
        return _verdict(request, None, f"{where}: mechanism {mechanism!r}")
    block_id = guests.block_of(request[_FIELDS:])
    if block_id is None:
        return _verdict(request, None, f"{where}: not the key of a block")
    return _verdict(request, block_id, where)


def _verdict(request: Sequence[bytes], block_id: str | None, why: str) -> Verdict:
    status, text = (b"400", b"refused") if block_id is None else (b"200", b"")
    request_id = request[1] if len(request) > 1 else b""
    user = (block_id or "").encode()
    return Verdict(block_id, why, (_VERSION, request_id, status, text, user, b""))


def _digest(credential: Sequence[bytes]) -> bytes:
    """Looked up by digest: how long a comparison takes says nothing of a password."""
    return hashlib.sha256(b"\0".join(credential)).digest()


class Gate:
    """The handler's socket, to be polled with the others. Make it before anything is bound."""

    def __init__(self, context: "zmq.Context[Any]", guests: Guests, noise: Noise) -> None:
        self._guests = guests
        self._noise = noise
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(ENDPOINT)

    def answer(self, now: float) -> None:
        """Decide about everybody who waits."""
        while int(self.socket.getsockopt(zmq.EVENTS)) & int(zmq.POLLIN):
            asker, empty, *request = self.socket.recv_multipart(zmq.NOBLOCK)
            verdict = decide(request, self._guests)
            if verdict.block_id is None:
                self._noise.note("refused a connection to the interchange", verdict.why, now)
            self.socket.send_multipart([asker, empty, *verdict.reply], zmq.NOBLOCK)
