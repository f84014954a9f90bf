"""Which of the tasks that lie at a worker it may begin: one number each, in a pipe.

A worker is given several quick tasks at once, and takes one number from the pipe before it begins
each. The node pool holds the pipe too and can take the numbers back: what it gets, no worker has
begun and none will; what it does not get has begun. The kernel hands each number out once.
"""

import os
import struct
from typing import Optional, Sequence, Set

_NUMBER = struct.Struct("<I")
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

    def issue(self, numbers: Sequence[int]) -> None:
        """Let the worker begin these tasks, in this order."""
        os.write(self._writer, b"".join(map(_NUMBER.pack, numbers)))

    def take_back(self) -> Set[int]:
        """The numbers of the tasks that the worker has not begun; it will not begin them."""
        try:
            taken = os.read(self._taker, _MOST)
        except BlockingIOError:
            return set()
        return {number for (number,) in _NUMBER.iter_unpack(taken)}

    def close(self) -> None:
        """Close the pipe; the worker's own copy stays."""
        for descriptor in (self.reader, self._writer, self._taker):
            if descriptor >= 0:
                os.close(descriptor)


def claim(descriptor: int) -> Optional[int]:
    """The worker's side: wait for the next number; None when the pool is gone."""
    number = os.read(descriptor, _NUMBER.size)
    return _NUMBER.unpack(number)[0] if number else None
