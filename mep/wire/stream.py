"""Messages on a Unix stream socket, in both directions, without copies of what is large.

On the wire a message is ``>IQ`` (length of its head, length of its payload), the head, and the
payload. Used between node pool and worker (:mod:`mep.worker.channel`), where the head is the header
of :mod:`mep.wire.frames`; and between interchange and node pools beside it, where a message is a
list of frames: the head is then ``>I`` and their count, ``>Q`` and the length of each but the
first, and the first frame; the payload is the others.

Runs on Python 3.8 and newer; standard library only.
"""

import contextlib
import mmap
import socket
import struct
from collections import deque
from itertools import islice
from typing import Deque, List, Optional, Sequence, Tuple

from mep.wire.frames import MAX_HEADER, FrameError, Piece

READ_BYTES = 64 * 1024
LARGE_BYTES = 64 * 1024
"""From here on payloads are read into memory of their own, and written as they are."""
MAX_PAYLOAD = 2**30
"""Bytes of one payload; senders close a message long before."""
_HUGE_BYTES = 2 * 1024 * 1024
"""A huge page, on most machines."""
_BUFFER_BYTES = 1024 * 1024
_GATHER = 64
"""Pieces that leave with one call."""
_LENGTHS = struct.Struct(">IQ")
_COUNT = struct.Struct(">I")
_LENGTH = struct.Struct(">Q")


class Stream:
    """One end of the socket. With a non-blocking socket nothing here waits."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self._in = bytearray()
        self._head = b""
        self._payload: Optional[memoryview] = None
        """Of the message that is being read, if it is large."""
        self._missing = memoryview(b"")
        self._out: Deque[memoryview] = deque()

    @property
    def unsent(self) -> bool:
        """Whether :meth:`flush` has something to do."""
        return bool(self._out)

    def fill(self) -> int:
        """Read once; how many bytes, 0 when the peer has closed.

        Raises:
            BlockingIOError: nothing there (non-blocking socket).
        """
        try:
            if self._missing:
                count = self.socket.recv_into(self._missing)
                self._missing = self._missing[count:]
                return count
            chunk = self.socket.recv(READ_BYTES)
        except ConnectionResetError:
            return 0
        self._in += chunk
        return len(chunk)

    def take(self) -> Optional[Tuple[bytes, Piece]]:
        """Head and payload of the next message that has been read whole, or None.

        A large payload can be written to: it is nobody else's.

        Raises:
            FrameError: bytes that are no message.
        """
        if self._payload is not None:
            return None if self._missing else self._taken(self._payload)
        have = len(self._in)
        if have < _LENGTHS.size:
            return None
        head_bytes, payload_bytes = _LENGTHS.unpack_from(self._in)
        if head_bytes > MAX_HEADER or payload_bytes > MAX_PAYLOAD:
            raise FrameError("a message of %d and %d bytes" % (head_bytes, payload_bytes))
        start = _LENGTHS.size + head_bytes
        end = start + payload_bytes
        if have < end and (have < start or payload_bytes < LARGE_BYTES):
            return None
        with memoryview(self._in) as view:
            self._head = bytes(view[_LENGTHS.size : start])
            payload = bytes(view[start:end]) if payload_bytes < LARGE_BYTES else b""
            if not payload and payload_bytes:
                begun = min(have, end) - start
                self._payload = _memory(payload_bytes)
                self._payload[:begun] = view[start:end]
                self._missing = self._payload[begun:]
        del self._in[:end]
        if self._payload is not None:
            return None if self._missing else self._taken(self._payload)
        return self._taken(payload)

    def _taken(self, payload: Piece) -> Tuple[bytes, Piece]:
        self._payload = None
        return self._head, payload

    def send(self, head: bytes, *payload: Piece) -> bool:
        """Send one message, its payload in pieces; True when all of it has left.

        On a non-blocking socket the rest is kept for :meth:`flush`, and what is kept may not be
        changed. A peer that is gone counts as one that took everything: its end is noticed where it
        is read from.
        """
        size = sum(map(len, payload))
        pieces: List[Piece] = [_LENGTHS.pack(len(head), size), head, *payload]
        if size < LARGE_BYTES:
            return self._send_small(b"".join(pieces))
        self._out.extend(memoryview(piece) for piece in pieces if piece)
        return self.flush()

    def _send_small(self, message: bytes) -> bool:
        """As most messages are: one piece, that leaves at once."""
        sent = 0
        if not self._out:
            try:
                sent = self.socket.send(message)
            except BlockingIOError:
                pass
            except (BrokenPipeError, ConnectionResetError):
                return True
            if sent == len(message):
                return True
        self._out.append(memoryview(message)[sent:])
        return self.flush()

    def flush(self) -> bool:
        """Send what is left; True when nothing is."""
        while self._out:
            try:
                sent = self.socket.sendmsg(list(islice(self._out, _GATHER)))
            except BlockingIOError:
                return False
            except (BrokenPipeError, ConnectionResetError):
                self._out.clear()
                return True
            while sent:
                piece = self._out.popleft()
                if sent < len(piece):
                    self._out.appendleft(piece[sent:])
                sent -= min(sent, len(piece))
        return True

    def close(self) -> None:
        """Close this end."""
        self.socket.close()


def _memory(size: int) -> memoryview:
    """Writable memory; in huge pages, where faults of small ones would cost more than all else."""
    if size < _HUGE_BYTES:
        return memoryview(bytearray(size))
    whole = size + -size % _HUGE_BYTES
    memory = mmap.mmap(-1, whole, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)[:size]


def lead(head: bytes, payload_bytes: int) -> bytes:
    """A message up to its payload."""
    return _LENGTHS.pack(len(head), payload_bytes) + head


def head_of(frames: Sequence[Piece]) -> bytes:
    """The head of a message that is a list of frames; its payload is all but the first of them."""
    lengths = [_LENGTH.pack(len(frame)) for frame in frames[1:]]
    return b"".join([_COUNT.pack(len(lengths)), *lengths, frames[0]])


def frames_of(head: bytes, payload: Piece) -> List[Piece]:
    """The frames of a message.

    Raises:
        FrameError: lengths that do not add up.
    """
    if len(head) < _COUNT.size:
        raise FrameError("a message without a count of its frames")
    (count,) = _COUNT.unpack_from(head)
    start = _COUNT.size + count * _LENGTH.size
    if start > len(head):
        raise FrameError("a message of fewer frames than it says")
    frames: List[Piece] = [head[start:]]
    at = 0
    rest = memoryview(payload)
    small = len(rest) < LARGE_BYTES
    for (length,) in _LENGTH.iter_unpack(head[_COUNT.size : start]):
        frame = rest[at : at + length]
        frames.append(bytes(frame) if small else frame)
        at += length
    if at != len(rest):
        raise FrameError("frames of %d bytes in a payload of %d" % (at, len(rest)))
    return frames
