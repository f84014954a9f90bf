"""Which node pool gets the next task. Pure: no sockets, no clock, no tasks.

A pool has as many slots as workers, and a prefetch on top: tasks that wait at the pool for the
moment a worker is free. Workers are filled first, in turn over all pools; prefetch after that.
Nothing here looks at all pools, so a thousand idle ones cost nothing.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

QUICK_S = 0.005
"""Tasks that end within this time gain from a longer prefetch: it doubles."""
SLOW_S = 0.050
"""A task that takes longer would hold up those behind it: prefetch falls back to one."""
_LOOK_AT = 64
"""Idle pools counted for one recall."""


@dataclass(slots=True)
class _Pool:
    workers: int
    credit: int
    prefetch: int
    held: int = 0
    holding: bool = False
    recalling: bool = False

    @property
    def window(self) -> int:
        return min(self.workers + self.prefetch, self.credit)


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
        self.workers = 0

    def join(self, pool_id: str, workers: int, credit: int) -> None:
        """A pool has come up."""
        self._pools[pool_id] = _Pool(workers, credit, self._prefetch)
        self.workers += workers
        self._file(pool_id)

    def leave(self, pool_id: str) -> None:
        """A pool is gone."""
        self.workers -= self._pools.pop(pool_id).workers
        self._idle.pop(pool_id, None)
        self._spare.pop(pool_id, None)
        self._stocked.discard(pool_id)

    def hold(self, pool_id: str) -> None:
        """Give this pool nothing more."""
        self._pools[pool_id].holding = True
        self._file(pool_id)

    def take(self) -> str | None:
        """Reserve a slot for one task, and name its pool; None when all are full."""
        ring = self._idle or self._spare
        if not ring:
            return None
        pool_id = next(iter(ring))
        ring.move_to_end(pool_id)
        self._pools[pool_id].held += 1
        self._file(pool_id)
        return pool_id

    def free(self, pool_id: str, tasks: int) -> None:
        """So many tasks of this pool have ended or come back."""
        self._pools[pool_id].held -= tasks
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
        open_ = not pool.holding
        _set(self._idle, pool_id, open_ and pool.held < min(pool.workers, pool.credit))
        _set(self._spare, pool_id, open_ and pool.workers <= pool.held < pool.window)
        if pool.held > pool.workers:
            self._stocked.add(pool_id)
        else:
            self._stocked.discard(pool_id)


def _set(ring: "OrderedDict[str, None]", pool_id: str, wanted: bool) -> None:
    if wanted:
        ring.setdefault(pool_id)
    else:
        ring.pop(pool_id, None)
