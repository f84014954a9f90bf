"""Reads which tasks of a dead node pool may have begun, from the file that :mod:`mep.worker.begun`
describes.
"""

from collections.abc import Collection
from typing import Final

_HEAD: Final = 3
_NUMBER: Final = 8


def read(content: bytes) -> Collection[int]:
    """The places of the tasks that may have begun, of those whose end has not been told.

    Raises:
        ValueError: this is no such file.
    """
    if len(content) < _NUMBER * _HEAD or len(content) % _NUMBER:
        raise ValueError("not a whole file of places")
    numbers = memoryview(content).cast("Q")
    count, rings, size = numbers[:_HEAD]
    if not rings:
        return range(count)
    if len(numbers) != _HEAD + rings * (1 + size):
        raise ValueError("not a whole file of places")
    begun: set[int] = set()
    for start in range(_HEAD, len(numbers), 1 + size):
        begun.update(numbers[start + 1 : start + 1 + min(numbers[start], size)])
    return begun
