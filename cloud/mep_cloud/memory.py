"""A bounded dictionary that forgets after a while, and a bounded set."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Droppable(Protocol):
    """A memory by the texts of its keys, as other processes see it."""

    def drop(self, key: str | None) -> None:
        """Look this up again next time; None: everything."""


class Memory(Generic[K, V]):
    """Remembers what was looked up: at most `size` answers, each for `seconds`.

    An answer of None is not remembered. `told` hears of what is forgotten (None: everything), so
    that other processes can :meth:`drop` it too.
    """

    def __init__(
        self,
        look_up: Callable[[K], Awaitable[V | None]],
        *,
        seconds: float,
        size: int,
        clock: Callable[[], float] = time.monotonic,
        told: Callable[[K | None], None] = lambda _: None,
    ) -> None:
        self._look_up = look_up
        self._seconds = seconds
        self._size = size
        self._clock = clock
        self._told = told
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
        """It was changed here: look this up again next time."""
        self.drop(key)
        self._told(key)

    def forget_all(self) -> None:
        """Much was changed here: look everything up again next time."""
        self.drop(None)
        self._told(None)

    def drop(self, key: K | None) -> None:
        """It was changed elsewhere: look this up again next time; None: everything."""
        self._generation += 1
        if key is None:
            self._known.clear()
        else:
            self._known.pop(key, None)


class Seen(Generic[K]):
    """A set of the `size` members that were added last."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._members: OrderedDict[K, None] = OrderedDict()

    def __contains__(self, member: K) -> bool:
        return member in self._members

    def __len__(self) -> int:
        return len(self._members)

    def add(self, member: K) -> None:
        """One more; the oldest goes when there are too many."""
        self._members[member] = None
        self._members.move_to_end(member)
        if len(self._members) > self._size:
            self._members.popitem(last=False)
