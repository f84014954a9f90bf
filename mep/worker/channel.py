"""Messages on the stream socket between node pool and worker, see :mod:`mep.wire.frames`."""

import array
import contextlib
import socket
from collections import deque
from typing import Any, Deque, Iterator, List, NamedTuple, Optional

from mep.wire.frames import LENGTHS, MAX_HEADER, FrameError, pack, parse

READ_BYTES = 64 * 1024
_READ_MORE_BYTES = 1024 * 1024
_JOIN_BYTES = 64 * 1024


class Message(NamedTuple):
    """One message of a channel."""

    kind: str
    fields: List[Any]
    payload: bytes


class Channel:
    """One end of the socket. With a non-blocking socket nothing here waits."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._in = bytearray()
        self._out: Deque[memoryview] = deque()

    def fill(self) -> bool:
        """Read once; False when the peer has closed.

        Raises:
            BlockingIOError: nothing there (non-blocking socket).
        """
        try:
            chunk = self.socket.recv(_READ_MORE_BYTES if self._in else READ_BYTES)
        except ConnectionResetError:
            return False
        self._in += chunk
        return bool(chunk)

    def fill_with_descriptor(self) -> int:
        """Read once, and with it the descriptor that the peer sent by :meth:`pass_descriptor`.

        Raises:
            FrameError: there is none.
        """
        space = socket.CMSG_SPACE(array.array("i").itemsize)
        chunk, rights, _, _ = self.socket.recvmsg(READ_BYTES, space, socket.MSG_CMSG_CLOEXEC)
        self._in += chunk
        if not rights:
            raise FrameError("no descriptor came with the first message")
        (descriptor,) = array.array("i", rights[0][2])
        return descriptor

    def pass_descriptor(self, header: bytes, descriptor: int) -> None:
        """Send a message, the first of all, and a descriptor with it."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # as in flush()
            self.socket.sendmsg(pack(header, b""), rights)

    def take(self) -> Optional[Message]:
        """The next whole message that has been read, or None.

        Raises:
            FrameError: bytes that are no message.
        """
        have = len(self._in)
        if have < LENGTHS.size:
            return None
        header_bytes, payload_bytes = LENGTHS.unpack_from(self._in)
        if header_bytes > MAX_HEADER:
            raise FrameError("header of %d bytes" % header_bytes)
        start = LENGTHS.size + header_bytes
        end = start + payload_bytes
        if have < end:
            return None
        with memoryview(self._in) as view:
            kind, fields = parse(bytes(view[LENGTHS.size : start]))
            payload = bytes(view[start:end])
        del self._in[:end]
        return Message(kind, fields, payload)

    def messages(self) -> Iterator[Message]:
        """All whole messages that have been read."""
        while True:
            message = self.take()
            if message is None:
                return
            yield message

    def send(self, header: bytes, payload: bytes = b"") -> bool:
        """Send one message; True when all of it has left.

        On a non-blocking socket the rest is kept for :meth:`flush`. A peer that is gone counts as
        one that took everything: its end is noticed where it is read from.
        """
        pieces = pack(header, payload)
        if len(payload) <= _JOIN_BYTES:
            pieces = [b"".join(pieces)]
        self._out.extend(memoryview(piece) for piece in pieces if piece)
        return self.flush()

    def flush(self) -> bool:
        """Send what is left; True when nothing is."""
        while self._out:
            piece = self._out[0]
            try:
                sent = self.socket.send(piece)
            except BlockingIOError:
                return False
            except (BrokenPipeError, ConnectionResetError):
                self._out.clear()
                return True
            if sent == len(piece):
                self._out.popleft()
            else:
                self._out[0] = piece[sent:]
        return True

    def close(self) -> None:
        """Close this end."""
        self.socket.close()
