"""From a node pool to an interchange on the same machine: a socket in the endpoint's directory."""

import contextlib
import os
import select
import socket
from typing import List, Optional, Sequence

from mep.wire.frames import Piece
from mep.wire.stream import READ_BYTES, Stream, frames_of, head_of

ALONE = "the user endpoint is gone"


class Beside:
    """The connection; it ends when the interchange ends."""

    def __init__(self, pool_id: str, directory: str) -> None:
        sock = _connected(directory)
        self._stream = Stream(sock)
        self._epoll = select.epoll()
        self._epoll.register(sock, select.EPOLLIN)
        self._drained = False
        self.descriptors = [self._epoll.fileno()]
        """Readable when :meth:`receive` is to be called, until it returns None."""
        self.ended = ""
        """Why there will be nothing more."""
        self.send([pool_id.encode()])

    def pending(self) -> bool:
        """Nothing is left behind once :meth:`receive` has returned None."""
        return False

    def receive(self) -> Optional[List[Piece]]:
        """The next message; None: there is none now.

        Raises:
            mep.wire.frames.FrameError: bytes that are no message.
        """
        if self._stream.unsent and self._stream.flush():
            self._epoll.modify(self._stream.socket, select.EPOLLIN)
        while True:
            taken = self._stream.take()
            if taken is not None:
                return frames_of(*taken)
            if self._drained or self.ended:
                self._drained = False
                return None
            self._read()

    def _read(self) -> None:
        try:
            count = self._stream.fill()
        except BlockingIOError:
            self._drained = True
            return
        self._drained = count < READ_BYTES
        if not count:
            self.ended = ALONE

    def send(self, message: Sequence[Piece]) -> None:
        """Send a message; never waits."""
        waiting = self._stream.unsent
        if not self._stream.send(head_of(message), *message[1:]) and not waiting:
            self._epoll.modify(self._stream.socket, select.EPOLLIN | select.EPOLLOUT)

    def close(self, linger_s: float) -> None:
        """Let go; what has been sent has so many seconds to leave."""
        self._stream.socket.settimeout(linger_s)
        with contextlib.suppress(OSError):  # nobody is left to read it
            self._stream.flush()
        self._stream.close()
        self._epoll.close()


def _connected(directory: str) -> socket.socket:
    opened = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX)
    try:
        # A path by descriptor: socket paths are limited to 107 bytes, home directories are not.
        sock.connect("/proc/self/fd/%d/interchange.sock" % opened)
    except OSError:
        sock.close()
        raise
    finally:
        os.close(opened)
    sock.setblocking(False)
    return sock
