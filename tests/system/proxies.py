"""A TCP relay for tests that cut connections: as a firewall, a switch or a restart would."""

import contextlib
import select
import socket
import struct
import threading

_ABORT = struct.pack("ii", 1, 0)
"""SO_LINGER: the connection is reset when it is closed, and what is on its way is lost."""


class CuttingProxy:
    """Forwards every connection to a port of 127.0.0.1, until it is told to cut them.

    Use as a context; `port` is where it listens.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.accepted = 0
        self._wake, self._woken = socket.socketpair()
        self._lock = threading.Lock()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._forwarding = True
        self._ended = False
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "CuttingProxy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._wake.send(b"x")
        self._thread.join()
        self.cut()
        for sock in (self._listening, self._wake, self._woken):
            sock.close()

    def cut(self) -> int:
        """Reset all connections; how many there were."""
        with self._lock:
            count = len(self._pairs) // 2
            for sock in list(self._pairs):
                self._drop(sock)
        return count

    def block(self) -> None:
        """Cut, and reset whoever connects, until :meth:`unblock`."""
        self._forwarding = False
        self.cut()

    def unblock(self) -> None:
        """Forward again."""
        self._forwarding = True

    def _run(self) -> None:
        while not self._ended:
            with self._lock:
                socks = [self._listening, self._woken, *self._pairs]
            with contextlib.suppress(OSError, ValueError):  # one of them has just been cut
                ready, _, _ = select.select(socks, [], [], 1.0)
                self._serve(ready)

    def _serve(self, ready: list[socket.socket]) -> None:
        for sock in ready:
            if sock is self._woken:
                return
            if sock is self._listening:
                self._accept()
            else:
                self._forward(sock)

    def _accept(self) -> None:
        sock, _ = self._listening.accept()
        with self._lock:
            if not self._forwarding:
                self._reset(sock)
                return
            other = socket.create_connection(("127.0.0.1", self._target))
            self._pairs[sock] = other
            self._pairs[other] = sock
            self.accepted += 1

    def _forward(self, sock: socket.socket) -> None:
        with self._lock:
            other = self._pairs.get(sock)
            if other is None:
                return
            try:
                data = sock.recv(65536)
                if data:
                    other.sendall(data)
                    return
            except OSError:
                pass
            self._drop(sock)

    def _drop(self, sock: socket.socket) -> None:
        other = self._pairs.pop(sock, None)
        self._reset(sock)
        if other is not None:
            del self._pairs[other]
            self._reset(other)

    @staticmethod
    def _reset(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        sock.close()
