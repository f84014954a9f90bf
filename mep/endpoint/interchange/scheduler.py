"""Which node pool gets the next task. Pure: no sockets, no clock, no tasks.

A pool has as many slots as workers, and a prefetch on top: tasks that wait at the pool for the
moment a worker is free. Workers are filled first, in turn over all pools; prefetch after that, and
only up to so many bytes of arguments, that large ones wait here and not in the memory of a node.
Nothing here looks at all pools, so a thousand idle ones cost nothing.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

QUICK_S = 0.005
"""Tasks that end within this time gain from a longer prefetch: it doubles."""
SLOW_S = 0.050
"""A task that takes longer would hold up those behind it: prefetch falls back to one."""
STOCK_BYTES = 16 * 1024 * 1024
"""A pool whose waiting tasks have so many bytes of arguments gets no more of them."""
_LOOK_AT = 64
"""Idle pools counted for one recall."""


@dataclass(slots=True)
class _Pool:
    workers: int
    credit: int
    prefetch: int
    ends_at: float = math.inf
    held: int = 0
    holding: bool = False
    recalling: bool = False
    stock: deque[int] = field(default_factory=deque)
    """The sizes of the tasks that wait there, in the order in which they go to its workers."""
    stock_bytes: int = 0

    @property
    def has_room(self) -> bool:
        """Whether one more task may wait there."""
        window = min(self.workers + self.prefetch, self.credit)
        return self.workers <= self.held < window and self.stock_bytes < STOCK_BYTES

    def add(self, size: int) -> None:
        """It has one more task."""
        self.held += 1
        if self.held > self.workers:
            self.stock.append(size)
            self.stock_bytes += size

    def remove(self, tasks: int) -> None:
        """So many have ended or come back, whichever: as many others have gone to workers."""
        self.held -= tasks
        while len(self.stock) > max(self.held - self.workers, 0):
            self.stock_bytes -= self.stock.popleft()


class Scheduler:
    """Free slots of all pools.

    Args:
        prefetch: tasks beyond its workers that a pool may hold; None: learnt, between 1 and what
            the pool's credit allows, from how long tasks take.
    """

    def __init__(self, prefetch: int | None = None) -> None:
        self._adaptive = prefetch is None
        self._prefetch = 1 if prefetch is None else prefetch
        self._pools: dict[str, _Pool] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()
        self._spare: OrderedDict[str, None] = OrderedDict()
        self._stocked: set[str] = set()
        self._holding: set[str] = set()
        self.workers = 0

    def join(self, pool_id: str, workers: int, credit: int, ends_at: float | None = None) -> None:
        """A pool has come up, whose job ends at this epoch time."""
        end = math.inf if ends_at is None else ends_at
        self._pools[pool_id] = _Pool(workers, credit, self._prefetch, end)
        self.workers += workers
        self._file(pool_id)

    def leave(self, pool_id: str) -> None:
        """A pool is gone."""
        self.workers -= self._pools.pop(pool_id).workers
        self._idle.pop(pool_id, None)
        self._spare.pop(pool_id, None)
        self._stocked.discard(pool_id)
        self._holding.discard(pool_id)

    @property
    def leaving(self) -> int:
        """Tasks at pools that get nothing more."""
        return sum(self._pools[pool_id].held for pool_id in self._holding)

    @property
    def open_workers(self) -> int:
        """Of the pools that may get more."""
        return self.workers - sum(self._pools[pool_id].workers for pool_id in self._holding)

    def hold(self, pool_id: str) -> None:
        """Give this pool nothing more."""
        self._pools[pool_id].holding = True
        self._holding.add(pool_id)
        self._file(pool_id)

    def take(self, size: int = 0, *, ahead: bool = True) -> str | None:
        """Reserve a slot for one task of so many bytes, and name its pool; None: all are full.

        Not `ahead`: a free worker, or none.
        """
        ring = self._idle or (self._spare if ahead else None)
        if not ring:
            return None
        pool_id = next(iter(ring))
        ring.move_to_end(pool_id)
        self._pools[pool_id].add(size)
        self._file(pool_id)
        return pool_id

    def adopt(self, pool_id: str) -> None:
        """Count a task that this pool has and was not given here."""
        self._pools[pool_id].add(0)
        self._file(pool_id)

    def take_until(self, end: float) -> str | None:
        """As :meth:`take`, a free worker of a pool that lives until then; looks at all of them."""
        for pool_id in self._idle:
            pool = self._pools[pool_id]
            if pool.ends_at >= end:
                self._idle.move_to_end(pool_id)
                pool.add(0)
                self._file(pool_id)
                return pool_id
        return None

    def lives_until(self, end: float) -> bool:
        """Whether a pool that takes tasks lives until then; looks at all of them."""
        return any(pool.ends_at >= end for pool in self._pools.values() if not pool.holding)

    def free(self, pool_id: str, tasks: int) -> None:
        """So many tasks of this pool have ended or come back."""
        self._pools[pool_id].remove(tasks)
        self._file(pool_id)

    def learn(self, pool_id: str, longest_s: float) -> None:
        """The longest of some tasks that this pool has just run took so long."""
        if not self._adaptive:
            return
        pool = self._pools[pool_id]
        if longest_s < QUICK_S:
            pool.prefetch = min(pool.prefetch * 2, pool.credit)
        elif longest_s > SLOW_S:
            pool.prefetch = 1
        self._file(pool_id)

    def recalls(self) -> Iterator[tuple[str, int]]:
        """Pools that should give back so many tasks, because other pools have idle workers.

        To be asked for when no task waits elsewhere.
        """
        if not self._stocked or not self._idle:
            return
        pools = (self._pools[pool_id] for pool_id in islice(self._idle, _LOOK_AT))
        wanted = sum(pool.workers - pool.held for pool in pools)
        for pool_id in list(self._stocked):
            pool = self._pools[pool_id]
            count = min(pool.held - pool.workers, wanted)
            if pool.recalling or count <= 0:
                continue
            pool.recalling = True
            wanted -= count
            yield pool_id, count

    def recalled(self, pool_id: str) -> None:
        """The pool has answered a recall."""
        self._pools[pool_id].recalling = False

    def held(self, pool_id: str) -> int:
        """Tasks at this pool."""
        return self._pools[pool_id].held

    def _file(self, pool_id: str) -> None:
        pool = self._pools[pool_id]
        idle = pool.held < min(pool.workers, pool.credit) and not pool.holding
        _set(self._idle, pool_id, idle)
        _set(self._spare, pool_id, not idle and pool.has_room and not pool.holding)
        if pool.held > pool.workers:
            self._stocked.add(pool_id)
        else:
            self._stocked.discard(pool_id)


def _set(ring: "OrderedDict[str, None]", pool_id: str, wanted: bool) -> None:
    if wanted:
        ring.setdefault(pool_id)
    else:
        ring.pop(pool_id, None)
