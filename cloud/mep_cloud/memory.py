"""A bounded dictionary that forgets after a while."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Memory(Generic[K, V]):
    """Remembers what was looked up: at most `size` answers, each for `seconds`.

    An answer of None is not remembered.
    """

    def __init__(
        self,
        look_up: Callable[[K], Awaitable[V | None]],
        *,
        seconds: float,
        size: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look_up = look_up
        self._seconds = seconds
        self._size = size
        self._clock = clock
        self._known: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._generation = 0

    async def get(self, key: K) -> V | None:
        """The answer for `key`, remembered or looked up."""
        known = self._known.get(key)
        if known is not None and known[0] > self._clock():
            return known[1]
        generation = self._generation
        value = await self._look_up(key)
        # An answer that was on its way while something was forgotten may be the old one.
        if value is not None and generation == self._generation:
            self._known[key] = (self._clock() + self._seconds, value)
            if len(self._known) > self._size:
                self._known.popitem(last=False)
        return value

    def forget(self, key: K) -> None:
        """Look this up again next time."""
        self._generation += 1
        self._known.pop(key, None)

    def forget_all(self) -> None:
        """Look everything up again next time."""
        self._generation += 1
        self._known.clear()
