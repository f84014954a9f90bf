"""The interchange's socket for node pools beside it: in the user endpoint's private directory.

What ZeroMQ's ipc is, without its threads: a task takes four wake-ups of processes instead of eight.
"""

import contextlib
import logging
import os
import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence, Set
from typing import Final

from mep.endpoint.interchange.noise import GARBAGE, Noise
from mep.wire.frames import FrameError, Piece
from mep.wire.stream import Stream, frames_of, head_of

log = logging.getLogger(__name__)

_SOCKET: Final = "interchange.sock"
_NAME: Final = 512
"""Characters of a pool's name."""
_UCRED: Final = struct.Struct("3i")
_STRANGER: Final = "another account connected to the interchange"


def listen(directory: str) -> tuple[socket.socket, int]:
    """The socket in this directory, and the directory open; both become the router's."""
    folder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    with contextlib.suppress(FileNotFoundError):  # left by an earlier process
        os.unlink(_SOCKET, dir_fd=folder)
    listener = socket.socket(socket.AF_UNIX)
    listener.setblocking(False)
    # A path by descriptor: socket paths are limited to 107 bytes, home directories are not.
    listener.bind(f"/proc/self/fd/{folder}/{_SOCKET}")
    listener.listen(socket.SOMAXCONN)
    return listener, folder


class _Connection(Stream):
    name = ""
    """Of the node pool; it comes first."""


class Router:
    """Messages from and to node pools, by the names they gave themselves. Nothing here waits.

    Who can open the directory is the user; that the peer has the same account is checked besides.
    Nothing bounds what is kept for a peer but the credits of the pools.

    Args:
        listener: see :func:`listen`.
        directory: the same.
    """

    def __init__(self, listener: socket.socket, directory: int) -> None:
        self._listener = listener
        self._directory = directory
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._connections: dict[int, _Connection] = {}
        self._names: dict[str, _Connection] = {}
        self.descriptors = (self._epoll.fileno(),)
        """Readable when :meth:`messages` is to be called."""
        self.noise = Noise(log.warning)
        """Where trouble with peers is counted."""

    def pending(self) -> bool:
        """Nothing is ever left behind by :meth:`messages`."""
        return False

    def messages(self, ready: Set[int]) -> Iterator[tuple[str, list[Piece]]]:
        """What has come: the peer's name, its frames.

        Args:
            ready: those of our descriptors that are readable.
        """
        if ready.isdisjoint(self.descriptors):
            return
        for descriptor, events in self._epoll.poll(0):
            connection = self._connections.get(descriptor)
            if connection is None:
                self._accept()
                continue
            if events & select.EPOLLOUT and connection.flush():
                self._epoll.modify(descriptor, select.EPOLLIN)
            if events & ~select.EPOLLOUT:
                yield from self._read(connection)

    def send(self, pool_id: str, message: Sequence[Piece]) -> None:
        """Send one message; it is dropped when the peer is gone, whose end settles the rest."""
        connection = self._names.get(pool_id)
        if connection is None:
            log.info("node pool %s cannot be reached", pool_id)
            return
        waiting = connection.unsent
        if not connection.send(head_of(message), *message[1:]) and not waiting:
            self._epoll.modify(connection.socket, select.EPOLLIN | select.EPOLLOUT)

    def forget(self, block_id: str) -> None:
        """A block has ended; nothing is kept of it here."""

    def close(self) -> None:
        """Give everything back."""
        for connection in self._connections.values():
            connection.close()
        self._epoll.close()
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):  # the directory was cleaned up first
            os.unlink(_SOCKET, dir_fd=self._directory)
        os.close(self._directory)

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        _, uid, _ = _UCRED.unpack(
            peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        )
        if uid != os.geteuid():
            self.noise.note(_STRANGER, f"uid {uid}", time.monotonic())
            peer.close()
            return
        peer.setblocking(False)
        self._connections[peer.fileno()] = _Connection(peer)
        self._epoll.register(peer, select.EPOLLIN)

    def _read(self, connection: _Connection) -> Iterator[tuple[str, list[Piece]]]:
        """What this peer has said; one that says nonsense, or no more, is let go."""
        try:
            alive = connection.fill() > 0
            while (taken := connection.take()) is not None:
                frames = frames_of(*taken)
                if connection.name:
                    yield connection.name, frames
                else:
                    self._introduce(connection, frames)
        except BlockingIOError:
            return
        except FrameError as error:
            self.noise.note(GARBAGE, str(error), time.monotonic())
            alive = False
        if not alive:
            self._let_go(connection)

    def _introduce(self, connection: _Connection, frames: Sequence[Piece]) -> None:
        name = str(frames[0], "ascii", "replace")
        if len(frames) != 1 or not 0 < len(name) <= _NAME or name in self._names:
            raise FrameError(f"a node pool calls itself {name[:_NAME]}")
        connection.name = name
        self._names[name] = connection

    def _let_go(self, connection: _Connection) -> None:
        self._epoll.unregister(connection.socket)
        del self._connections[connection.socket.fileno()]
        self._names.pop(connection.name, None)
        connection.close()
