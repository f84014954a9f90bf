"""Which of the tasks that lie at a worker it may begin: a number and a place each, in a pipe.

A worker is given several quick tasks at once, and takes one ticket from the pipe before it begins
each. The node pool holds the pipe too and can take tickets back: what it gets, no worker has begun
and none will; what it does not get has begun. The kernel hands each out once. The number is the
worker's, the place is the pool's (:mod:`mep.worker.begun`).
"""

import os
import struct
from typing import Optional, Sequence, Set, Tuple

_TICKET = struct.Struct("<QQ")
_MOST = 4096


class Tickets:
    """The node pool's side: both ends of one worker's pipe."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        self._taker = os.open(
            "/proc/self/fd/%d" % self.reader, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        )

    def handed_over(self) -> None:
        """The worker has its copy of the reader: a node has many workers, and few descriptors."""
        os.close(self.reader)
        self.reader = -1

    def issue(self, first: int, places: Sequence[int]) -> None:
        """Let the worker begin the tasks of these places, in this order, numbered from `first`."""
        tickets = [_TICKET.pack(number, place) for number, place in enumerate(places, first)]
        os.write(self._writer, b"".join(tickets))

    def take_back(self) -> Set[int]:
        """The numbers of the tasks that the worker has not begun; it will not begin them."""
        try:
            taken = os.read(self._taker, _MOST)
        except BlockingIOError:
            return set()
        return {number for number, _ in _TICKET.iter_unpack(taken)}

    def close(self) -> None:
        """Close the pipe; the worker's own copy stays."""
        for descriptor in (self.reader, self._writer, self._taker):
            if descriptor >= 0:
                os.close(descriptor)


def claim(descriptor: int) -> Optional[Tuple[int, int]]:
    """The worker's side: wait for the next (number, place); None when the pool is gone."""
    ticket = os.read(descriptor, _TICKET.size)
    return _TICKET.unpack(ticket) if ticket else None
