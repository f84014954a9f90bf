"""A line between two processes that outlives its connections: nothing is lost, nothing comes twice.

TCP tells neither end what the other had when a connection broke. So every message has a number,
and is kept until the other end says that it has it. Each end has a :class:`Line`; the one that
connects says ``resume`` on every new connection, and how many messages it has; the other answers
``resumed`` likewise; then both send again what is missing. ``unknown`` instead says that it knows
nothing of such a line: it was another process, and both begin anew.

On the wire the first frame of a message begins with :data:`PREFIX`: kind, number of the message,
how many the sender has received. After that, ``resume`` has the name of the node pool, and
``data`` how many frames of :mod:`mep.wire.frames` follow (``>I``), the length of each (``>Q``),
and those below :data:`APART_BYTES`, one after the other: each frame on the wire is encrypted, sent
and received by itself, which takes longer than the bytes of a small one. Larger ones come after
that, in order, each in a frame of its own.

Pure; runs on Python 3.8 and newer; standard library only.
"""

import struct
from collections import deque
from typing import Deque, List, NamedTuple, Sequence, Tuple

from mep.wire.frames import FrameError, Piece

PREFIX = struct.Struct(">BQQ")
_COUNT = struct.Struct(">I")
_LENGTH = struct.Struct(">Q")

APART_BYTES = 64 * 1024

DATA, RESUME, RESUMED, UNKNOWN, ASK, ACK = range(1, 7)
"""``ask`` wants an ``ack`` at once."""

SOCKET_OPTIONS = {
    "IPV6": 1,
    "LINGER": 0,
    "SNDHWM": 0,
    "RCVHWM": 0,
    "TCP_KEEPALIVE": 1,
    "TCP_KEEPALIVE_IDLE": 20,
    "TCP_KEEPALIVE_INTVL": 5,
    "TCP_KEEPALIVE_CNT": 4,
    "TCP_MAXRT": 30_000,
}
"""Of ZeroMQ's socket at both ends, by their names there; seconds, the last in milliseconds. Each
end's kernel finds out about a dead connection in about half a minute, idle or not, however long one
message takes. Heartbeats of ZeroMQ would end a slow transfer of a large one."""

OWED_MESSAGES = 64
OWED_BYTES = 1024 * 1024
"""Received without having said so: then an ``ack`` is due, that the other end may forget them."""


class Prefix(NamedTuple):
    """What every message begins with."""

    kind: int
    number: int
    """Of this message; of ``resume``: how many the other end is known to have."""
    received: int
    """How many the sender has."""


def split(frame: Piece) -> Tuple[Prefix, bytes]:
    """Prefix of a first frame, and what follows it.

    Raises:
        FrameError: it has no prefix.
    """
    if len(frame) < PREFIX.size:
        raise FrameError("a message of %d bytes, too short for its prefix" % len(frame))
    prefix = Prefix(*PREFIX.unpack_from(frame))
    if not DATA <= prefix.kind <= ACK:
        raise FrameError("a message of kind %d" % prefix.kind)
    return prefix, bytes(frame[PREFIX.size :])


def message_of(rest: bytes, apart: Sequence[Piece]) -> List[Piece]:
    """The frames of a ``data`` message, from what follows its prefix and its other frames.

    Raises:
        FrameError: lengths that do not add up.
    """
    if len(rest) < _COUNT.size:
        raise FrameError("a message without a count of its frames")
    (count,) = _COUNT.unpack_from(rest)
    at = _COUNT.size + count * _LENGTH.size
    if not count or at > len(rest):
        raise FrameError("a message of fewer frames than it says")
    message: List[Piece] = []
    left = iter(apart)
    for (length,) in _LENGTH.iter_unpack(rest[_COUNT.size : at]):
        if length < APART_BYTES:
            message.append(rest[at : at + length])
            at += length
        else:
            piece = next(left, b"")
            if len(piece) != length:
                raise FrameError("%d bytes where %d should be" % (len(piece), length))
            message.append(piece)
    if at != len(rest) or next(left, None) is not None:
        raise FrameError("a message whose frames are longer or shorter than it says")
    return message


class Line:
    """One end."""

    def __init__(self) -> None:
        self.received = 0
        """Messages that came."""
        self._kept: Deque[Sequence[Piece]] = deque()
        self._there = 0
        self._told = 0
        self._owed_bytes = 0

    @property
    def there(self) -> int:
        """Messages that the other end is known to have."""
        return self._there

    @property
    def settled(self) -> bool:
        """Whether the other end has everything."""
        return not self._kept

    @property
    def owes(self) -> bool:
        """Whether an ``ack`` is due."""
        owed = self.received - self._told
        return owed >= OWED_MESSAGES or self._owed_bytes >= OWED_BYTES

    def data(self, message: Sequence[Piece]) -> List[Piece]:
        """A message as it is sent; it is kept."""
        self._kept.append(message)
        return self._stamped(self._there + len(self._kept), message)

    def control(self, kind: int, name: bytes = b"") -> bytes:
        """A message that is not kept."""
        return self._prefix(kind, self._there) + name

    def take(self, prefix: Prefix, size: int) -> bool:
        """Note a ``data`` message of so many bytes; whether it is new.

        Raises:
            FrameError: one before it is missing, or it acknowledges what was never sent.
        """
        self.acknowledged(prefix.received)
        if prefix.number > self.received + 1:
            raise FrameError("message %d after %d" % (prefix.number, self.received))
        if prefix.number <= self.received:
            return False
        self.received += 1
        self._owed_bytes += size
        return True

    def acknowledged(self, received: int) -> None:
        """The other end has so many.

        Raises:
            FrameError: that is more than there were.
        """
        if received > self._there + len(self._kept):
            raise FrameError("%d messages acknowledged, more than there were" % received)
        while self._there < received:
            self._kept.popleft()
            self._there += 1

    def again(self) -> List[List[Piece]]:
        """All that the other end may not have, as it is sent."""
        return [
            self._stamped(number, message)
            for number, message in enumerate(self._kept, self._there + 1)
        ]

    def _stamped(self, number: int, message: Sequence[Piece]) -> List[Piece]:
        sizes = [len(piece) for piece in message]
        lengths = struct.pack(">I%dQ" % len(sizes), len(sizes), *sizes)
        small, apart = message, []
        if max(sizes) >= APART_BYTES:
            small = [piece for piece in message if len(piece) < APART_BYTES]
            apart = [piece for piece in message if len(piece) >= APART_BYTES]
        return [b"".join([self._prefix(DATA, number), lengths, *small]), *apart]

    def _prefix(self, kind: int, number: int) -> bytes:
        self._told = self.received
        self._owed_bytes = 0
        return PREFIX.pack(kind, number, self.received)
