"""The interchange's socket: a ROUTER in the user endpoint's private directory."""

import logging
import os
from collections.abc import Iterator, Sequence
from typing import Final

import zmq

log = logging.getLogger(__name__)

_COPY_BELOW: Final = 64 * 1024
_READABLE: Final = int(zmq.POLLIN)
_MORE: Final = int(zmq.NOBLOCK) | int(zmq.SNDMORE)
_LAST: Final = int(zmq.NOBLOCK)
"""Plain numbers: arithmetic of enums takes longer than asking the socket."""


class Router:
    """Messages from and to node pools, by the names they gave themselves. Nothing here waits.

    Nothing bounds its queues but the credits of the pools.
    """

    def __init__(self, directory: str) -> None:
        self._context = zmq.Context()
        self._directory = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.socket = self._context.socket(zmq.ROUTER)
        for option in (zmq.SNDHWM, zmq.RCVHWM, zmq.LINGER):
            self.socket.setsockopt(option, 0)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        # A path by descriptor: socket paths are limited to 107 bytes, home directories are not.
        self.socket.bind(f"ipc:///proc/self/fd/{self._directory}/interchange.sock")

    def messages(self) -> Iterator[tuple[str, list[bytes]]]:
        """Everything that is at hand: the peer's name, its frames."""
        while int(self.socket.getsockopt(zmq.EVENTS)) & _READABLE:
            peer, *message = self.socket.recv_multipart(zmq.NOBLOCK)
            yield peer.decode("ascii", "replace"), message

    def send(self, pool_id: str, message: Sequence[bytes]) -> None:
        """Send one message; it is dropped when the peer is gone, whose end settles the rest."""
        copy = sum(map(len, message)) < _COPY_BELOW
        try:
            self.socket.send(pool_id.encode(), _MORE)
            for frame in message[:-1]:
                self.socket.send(frame, _MORE, copy=copy)
            self.socket.send(message[-1], _LAST, copy=copy)
        except zmq.ZMQError as error:
            log.info("node pool %s cannot be reached: %s", pool_id, error)

    def close(self) -> None:
        """Give everything back."""
        self.socket.close(linger=0)
        self._context.term()
        os.close(self._directory)
