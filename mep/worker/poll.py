"""What the node pool waits for, and whom it calls then."""

import select
from typing import Callable, Dict


class Poll:
    """An epoll whose descriptors each have a function to call."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._calls: Dict[int, Callable[[int], None]] = {}

    def add(self, descriptor: int, call: Callable[[int], None]) -> None:
        """Call with the event mask whenever it is readable."""
        self._calls[descriptor] = call
        self._epoll.register(descriptor, select.EPOLLIN)

    def want_write(self, descriptor: int, wanted: bool) -> None:
        """Also, or no longer, when it is writable."""
        self._epoll.modify(descriptor, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def remove(self, descriptor: int) -> None:
        """Forget it; before it is closed."""
        self._epoll.unregister(descriptor)
        del self._calls[descriptor]

    def wait(self, timeout_s: float) -> None:
        """Wait, then call for each descriptor that is ready."""
        for descriptor, events in self._epoll.poll(timeout_s):
            call = self._calls.get(descriptor)
            if call is not None:
                call(events)
