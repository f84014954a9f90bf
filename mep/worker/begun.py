"""A count that outlives the node pool: how many of its tasks may have begun."""

import mmap
import os
import struct


class Begun:
    """How many tasks have been handed to workers, readable after the death of this process."""

    _NUMBER = struct.Struct("<Q")

    def __init__(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(descriptor, self._NUMBER.size)
        self._map = mmap.mmap(descriptor, self._NUMBER.size)
        os.close(descriptor)
        self.set(0)

    def set(self, count: int) -> None:
        """The first `count` tasks that this pool was given may have begun."""
        self.count = count
        self._NUMBER.pack_into(self._map, 0, count)
