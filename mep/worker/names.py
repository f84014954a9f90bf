"""Host names to addresses, in threads: a name server may take its time."""

import contextlib
import queue
import socket
import threading
from typing import List, Tuple

Found = Tuple[str, List[str], str]
"""Name, addresses, and why there are none."""


class Names:
    """Names that are being looked up."""

    def __init__(self) -> None:
        self._found: "queue.SimpleQueue[Found]" = queue.SimpleQueue()
        self._woken, self._wake = socket.socketpair()

    def fileno(self) -> int:
        """Readable when :meth:`answer` has one."""
        return self._woken.fileno()

    def ask(self, name: str) -> None:
        """Look a name up."""
        wake = self._wake.dup()
        threading.Thread(target=self._look_up, args=(name, wake), daemon=True).start()

    def answer(self) -> Found:
        """One of the answers."""
        self._woken.recv(1)
        return self._found.get()

    def close(self) -> None:
        """Wait for no more of them."""
        self._woken.close()
        self._wake.close()

    def _look_up(self, name: str, wake: socket.socket) -> None:
        addresses: List[str] = []
        failure = ""
        try:
            infos = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))
        except (OSError, UnicodeError) as error:
            failure = getattr(error, "strerror", None) or str(error)
        self._found.put((name, addresses, failure))
        with contextlib.suppress(BrokenPipeError), wake:  # an address has answered meanwhile
            wake.send(b"x")


def is_ip(address: str) -> bool:
    """Whether it is an address and no name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, address.partition("%")[0])
        except OSError:
            continue
        return True
    return False
