"""Which tasks of a node pool may have begun, in a file that outlives the pool.

The file holds numbers of 8 bytes: a *count*, how many *rings*, how many *places* a ring has, and
the rings. Without rings the first `count` tasks that the pool was given may have begun. With them
each worker writes the place of a task into its ring before it begins it, and whoever reads the
file when all of them are dead knows exactly which have begun.

A ring has a place for every task that the pool may hold. A worker's tasks end in the order in which
it begins them, and are told in that order, so those whose end has not been told are the last ones
that it began, and they are all in its ring.

Runs on Python 3.8 and newer; standard library only.
"""

import mmap
import os

_HEAD = 3
_NUMBER = 8
_MOST_BYTES = 1024 * 1024
"""More than this is not worth the knowledge: then the pool counts."""


class Begun:
    """The node pool's side.

    Args:
        path: of the file.
        workers: how many will write for themselves; 0: the pool counts for them.
        credit: tasks that the pool may hold at once.
    """

    def __init__(self, path: str, workers: int, credit: int) -> None:
        size = _NUMBER * (_HEAD + workers * (1 + credit))
        if size > _MOST_BYTES:
            workers, size = 0, _NUMBER * _HEAD
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self.descriptor = os.open(path, flags, 0o600)
        os.posix_fallocate(self.descriptor, 0, size)  # or a full disk is a SIGBUS
        self._numbers = memoryview(mmap.mmap(self.descriptor, size)).cast("Q")
        self._numbers[1], self._numbers[2] = workers, credit
        self.by_workers = workers > 0
        """Whether workers need :attr:`descriptor`, to write for themselves."""

    def hand_over(self, place: int) -> None:
        """Tasks up to this place are about to be handed to workers."""
        if place >= self._numbers[0]:
            self._numbers[0] = place + 1


class Ring:
    """One worker's side: the places of the tasks that it has begun last.

    Args:
        descriptor: of the file, which is closed here. Python keeps one of its own with the mapping;
            a function that closes that does no harm.
        worker: the number of the worker; one that comes after another goes on where that stopped.
    """

    def __init__(self, descriptor: int, worker: int) -> None:
        size = os.fstat(descriptor).st_size
        numbers = memoryview(mmap.mmap(descriptor, size)).cast("Q")
        os.close(descriptor)
        self._size = numbers[2]
        start = _HEAD + worker * (1 + self._size)
        self._ring = numbers[start : start + 1 + self._size]

    def note(self, place: int) -> None:
        """The task of this place is about to begin."""
        ring = self._ring
        count = ring[0]
        ring[1 + count % self._size] = place
        ring[0] = count + 1
