"""The dispatcher of engines whose tasks take one worker each: the queue, and the slots. Pure."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Generic

from mep.endpoint.interchange.dispatch import Placing, W
from mep.endpoint.interchange.events import PoolUp
from mep.endpoint.interchange.scheduler import Scheduler
from mep.endpoint.interchange.waiting import Waiting


class Slots(Generic[W]):
    """A :class:`~mep.endpoint.interchange.dispatch.Dispatcher`: any task fits any free slot.

    Args:
        prefetch: see :class:`~mep.endpoint.interchange.scheduler.Scheduler`.
    """

    def __init__(self, prefetch: int | None) -> None:
        self._scheduler = Scheduler(prefetch)
        self._waiting: Waiting[W] = Waiting()
        self._timed: deque[W] = deque()
        """Tasks that have said how long they take, and that no pool had the time for."""
        self._try_timed = False
        self._owed = False
        """One of these would fit a pool as soon as that has a free worker."""
        self.leave = self._scheduler.leave
        self.hold = self._scheduler.hold
        self.learn = self._scheduler.learn
        self.recalled = self._scheduler.recalled
        self.held = self._scheduler.held

    @property
    def workers(self) -> int:
        """Of all pools together."""
        return self._scheduler.workers

    def add(self, item: W) -> None:
        """Last of its group, among those of its priority."""
        self._waiting.append(item.task.task_group_id, item, item.request.priority)

    def put_back(self, item: W) -> None:
        """First of its group, which is the next in turn."""
        self._waiting.put_back(item.task.task_group_id, item, item.request.priority)

    def remove(self, item: W) -> None:
        """It is left out when its turn comes."""
        item.removed = True

    def clear(self) -> list[W]:
        """Take out all that waits."""
        timed, self._timed = self._timed, deque()
        return [item for item in (*timed, *self._waiting.clear()) if not item.removed]

    def demand(self, waiting: int, placed: int) -> tuple[int, int]:
        """A worker each; where no pool lives for long enough, their workers are as good as none."""
        placed -= self._scheduler.leaving
        if waiting and not self._owed and any(not item.removed for item in self._timed):
            placed = max(placed, self._scheduler.open_workers)
        return waiting, placed

    def join(self, pool: PoolUp) -> None:
        """A pool has come up."""
        self._scheduler.join(pool.pool_id, pool.workers, pool.credit, pool.ends_at)
        self._try_timed = True

    def adopt(self, pool_id: str, item: W) -> None:
        """It has a slot there."""
        self._scheduler.adopt(pool_id)

    def next(self, now: float) -> Placing[W] | None:
        """The task whose turn it is, and a free slot for it.

        One that says how long it takes waits for a free worker of a pool that lives as long. It
        holds up no other; but none goes ahead of it to where workers are busy, so that one will be.
        """
        if self._try_timed and (placing := self._next_timed(now)) is not None:
            return placing
        while (item := self._waiting.peek()) is not None:
            if item.removed:
                self._waiting.pop()
                continue
            if item.request.walltime_s is not None:
                self._waiting.pop()
                pool_id = self._scheduler.take_until(now + item.request.walltime_s)
                if pool_id is not None:
                    return item, pool_id, None
                self._timed.append(item)
                self._owe(now + item.request.walltime_s)
                continue
            pool_id = self._scheduler.take(len(item.task.payload), ahead=not self._owed)
            if pool_id is None:
                return None
            self._waiting.pop()
            return item, pool_id, None
        return None

    def _next_timed(self, now: float) -> Placing[W] | None:
        """In the order in which they came, but for those that take longer than any pool has."""
        shortest = math.inf
        for item in list(self._timed):
            needed = item.request.walltime_s or 0.0
            if not item.removed and needed >= shortest:
                continue
            if item.removed:
                self._timed.remove(item)
            elif (pool_id := self._scheduler.take_until(now + needed)) is not None:
                self._timed.remove(item)
                return item, pool_id, None
            else:
                shortest = needed
        self._try_timed = self._owed = False
        self._owe(now + shortest)
        return None

    def _owe(self, end: float) -> None:
        """A task that needs a pool until then waits; infinite: none does."""
        self._owed = self._owed or (end < math.inf and self._scheduler.lives_until(end))

    def free(self, pool_id: str, items: Sequence[W]) -> None:
        """Their slots are free."""
        self._try_timed = bool(self._timed)
        self._scheduler.free(pool_id, len(items))

    def stray(self, pool_id: str, task_id: str) -> None:
        """It never had a slot."""

    def recalls(self) -> Iterator[tuple[str, int]]:
        """See :meth:`~mep.endpoint.interchange.scheduler.Scheduler.recalls`."""
        return self._scheduler.recalls()
