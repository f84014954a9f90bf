"""The dispatcher of engines whose tasks take whole nodes: which task gets which nodes. Pure.

A task runs within one block, since an MPI launcher reaches no other nodes than those of its own
batch job. Whenever nodes are free, the tasks are chosen that leave the fewest of them idle (see
:func:`filling`), wherever they stand in the queue. That passes over tasks that stand before them;
a task that has been passed over `max_passes` times gets a block: the nodes that come free there
are kept until it fits. Meanwhile such a block takes those tasks alone that are shown to end, by the
walltimes that they declare, before it could begin (EASY backfilling). A task has at most one
block kept for it, and a block at most one task, so each that fits anywhere begins in the end.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Generic

from mep.endpoint.interchange.backlog import Backlog, Line, Order, line_of
from mep.endpoint.interchange.dispatch import Placing, W, Waiter
from mep.endpoint.interchange.events import PoolUp
from mep.endpoint.interchange.request import Request
from mep.endpoint.interchange.room import Room

MAX_PASSES: Final = 30
"""Sixty tasks of 1 to 4 nodes on 4 nodes, simulated, then use 96 % of them; 20: 95 %, 8: 93 %."""
_DEPTH: Final = 32
"""Tasks of one filling, where it is looked for among all; more nodes than that fill well anyway."""


class Packing(Generic[W]):
    """A :class:`~mep.endpoint.interchange.dispatch.Dispatcher` over the nodes of all blocks.

    Args:
        nodes: of one block.
        workers: tasks of one block at once.
        max_passes: how often a task may be passed over.
    """

    def __init__(self, nodes: int, workers: int, max_passes: int = MAX_PASSES) -> None:
        self._least = -(-nodes // workers)
        self._max_passes = max_passes
        self._backlog: Backlog[W] = Backlog()
        self._rooms: dict[str, Room[W]] = {}
        self._waiting = 0
        self._settled = False
        self.workers = 0

    def add(self, item: W) -> None:
        """A new task waits."""
        item.since = self._backlog.passes.count
        self._waiting += self._weight(item)
        self._backlog.add(item)
        self._settled = False

    def put_back(self, item: W) -> None:
        """A task that was placed waits again, where it stood."""
        item.since = self._backlog.passes.count
        self._waiting += self._weight(item)
        self._backlog.put_back(item)
        self._settled = False

    def remove(self, item: W) -> None:
        """A waiting task has ended; if a block was kept for it, it is not any more."""
        if item.removed:
            return
        for room in self._rooms.values():
            if room.kept_for is item:
                self._release(room)
        self._backlog.remove(item)
        self._waiting -= self._weight(item)
        self._settled = False

    def clear(self) -> list[W]:
        """Take out all that waits."""
        for room in self._rooms.values():
            self._release(room)
        self._waiting = 0
        return self._backlog.clear()

    def demand(self, waiting: int, placed: int) -> tuple[int, int]:
        """In nodes; those that no task which waits can have are as good as none."""
        rooms = [room for room in self._rooms.values() if not room.closed]
        if self._waiting and self._settled:
            return self._waiting, sum(room.size for room in rooms)
        return self._waiting, sum(max(room.busy, room.tasks * self._least) for room in rooms)

    def join(self, pool: PoolUp) -> None:
        """A block has come up."""
        room: Room[W] = Room(pool.pool_id, pool.nodes, pool.workers, pool.ends_at)
        for task_id, nodes in pool.placed.items():
            room.occupy(task_id, nodes)
        self._rooms[pool.pool_id] = room
        self.workers += pool.workers
        self._settled = False

    def leave(self, pool_id: str) -> None:
        """A block is gone."""
        self.hold(pool_id)
        self.workers -= self._rooms.pop(pool_id).most

    def hold(self, pool_id: str) -> None:
        """Give this block nothing more."""
        room = self._rooms[pool_id]
        room.closed = True
        self._release(room)

    def free(self, pool_id: str, items: Sequence[W]) -> None:
        """These tasks have ended or come back; their nodes are free."""
        for item in items:
            self._rooms[pool_id].give_back(item.task.task_id)
        self._settled = self._settled and not items

    def learn(self, pool_id: str, longest_s: float) -> None:
        """Nothing is placed ahead of time here, however long tasks take."""

    def recalls(self) -> Iterator[tuple[str, int]]:
        """No block has tasks that wait."""
        return iter(())

    def recalled(self, pool_id: str) -> None:
        """See :meth:`recalls`."""

    def held(self, pool_id: str) -> int:
        """Tasks at this block."""
        return self._rooms[pool_id].tasks

    def adopt(self, pool_id: str, item: W) -> None:
        """It has nodes there, if it did not end on the way; the pool said which."""
        self._rooms[pool_id].adopt(item.task.task_id)

    def stray(self, pool_id: str, task_id: str) -> None:
        """The nodes that it had are free."""
        self._settled = not self._rooms[pool_id].vacate(task_id) and self._settled

    def next(self, now: float) -> Placing[W] | None:
        """The next task to begin, and its nodes."""
        if self._settled:
            return None
        placing = self._begin_kept(now) or self._begin_late(now) or self._fill(now)
        self._settled = placing is None
        return placing

    def _weight(self, item: W) -> int:
        return max(item.request.num_nodes, self._least)

    def _release(self, room: Room[W]) -> None:
        """Keep its nodes for nobody; the task waits as before, and is as late as before."""
        item, room.kept_for = room.kept_for, None
        if item is not None:
            self._backlog.put_back(item)
            self._settled = False

    def _begin_kept(self, now: float) -> Placing[W] | None:
        """The tasks that blocks are kept for, as soon as there is room for them anywhere."""
        for room in self._rooms.values():
            item = room.kept_for
            if item is None:
                continue
            to = room if _fits(room, item, now) else self._open_room(item, now)
            if to is not None:
                room.kept_for = None
                return self._give(item, to, now)
        return None

    def _begin_late(self, now: float) -> Placing[W] | None:
        """Tasks that have been passed over too often: begin them, or keep a block for each."""
        for item in self._late():
            to = self._open_room(item, now)
            if to is not None:
                return self._begin(self._backlog.take(line_of(item)), to, now)
            self._keep(item, now)
        return None

    def _late(self) -> Iterator[W]:
        """The oldest first; whoever is given one may take it out of the backlog."""
        seen: set[str] = set()
        while late := [
            item for item in self._backlog.late(self._max_passes) if item.task.task_id not in seen
        ]:
            item = min(late, key=_order)
            seen.add(item.task.task_id)
            yield item

    def _keep(self, item: W, now: float) -> None:
        """Keep the block for it where it can begin first, as far as can be told."""
        rooms = [
            room
            for room in self._rooms.values()
            if room.kept_for is None and _ever_fits(room, item, now)
        ]
        if rooms:
            nodes = item.request.num_nodes
            room = min(rooms, key=lambda room: (room.opening(nodes)[0], nodes - room.free))
            room.kept_for = self._backlog.take(line_of(item))

    def _open_room(self, item: W, now: float) -> Room[W] | None:
        """The fullest block that has room for it and is kept for nobody."""
        rooms = [
            room
            for room in self._rooms.values()
            if room.kept_for is None and _fits(room, item, now)
        ]
        return min(rooms, key=_free, default=None)

    def _fill(self, now: float) -> Placing[W] | None:
        """The fullest block first: what fits there exactly leaves the others whole."""
        for room in sorted(self._rooms.values(), key=_free):
            lines = self._lines_for(room, now) if room.free and room.slots else []
            if lines:
                return self._begin(self._backlog.take(self._best(room, lines)), room, now)
        return None

    def _lines_for(self, room: Room[W], now: float) -> list[Line]:
        lines = [
            line
            for line in self._backlog.lines()
            if line.nodes <= room.free and room.fits(line.nodes, line.walltime_s, now)
        ]
        if room.kept_for is None or not lines:
            return lines
        opens, spare = room.opening(room.kept_for.request.num_nodes)
        return [
            line
            for line in lines
            if now + line.walltime_s <= opens < math.inf or line.nodes <= spare
        ]

    def _best(self, room: Room[W], lines: Sequence[Line]) -> Line:
        """The line whose first task begins the best filling; of the most urgent priority."""
        first = min(line.priority for line in lines)
        lines = [line for line in lines if line.priority == first]
        counts: dict[int, int] = {}
        for line in lines:
            counts[line.nodes] = counts.get(line.nodes, 0) + self._backlog.count(line)
        nodes = filling(room.free, room.slots, counts)[0]
        return min(
            (line for line in lines if line.nodes == nodes),
            key=lambda line: self._backlog.head(line).order,
        )

    def _begin(self, item: W, room: Room[W], now: float) -> Placing[W]:
        """Those before it have been passed over, but where a block is kept nobody lost anything."""
        if room.kept_for is None:
            self._backlog.passed(item)
        return self._give(item, room, now)

    def _give(self, item: W, room: Room[W], now: float) -> Placing[W]:
        self._waiting -= self._weight(item)
        nodes = room.take(item.task.task_id, item.request, now)
        return item, room.pool_id, spec(item.request, nodes)


def spec(request: Request, nodes: Sequence[str]) -> dict[str, Any]:
    """What the node pool is told of a task, see :mod:`mep.wire.frames`."""
    mpi = {"ranks_per_node": request.ranks_per_node, "options": request.launcher_options}
    told: dict[str, Any] = {"nodes": nodes, "mpi": mpi}
    if request.walltime_s is not None:
        told["walltime"] = request.walltime_s
    return told


def filling(free: int, slots: int, counts: Mapping[int, int]) -> list[int]:
    """Sizes of tasks, the largest first, that together leave the fewest of `free` nodes idle.

    Args:
        free: nodes.
        slots: tasks at most.
        counts: how many tasks of each size wait; no size is greater than `free`.
    """
    sizes = sorted(counts, reverse=True)
    best = _greedy(free, slots, sizes, counts)
    largest = _greedy(sum(size * counts[size] for size in sizes), slots, sizes, counts)
    if sum(best) == free or best == largest:
        return best
    depth = min(slots, free, _DEPTH)
    # reach[i][n]: the sums, as bits, of at most n tasks of the sizes from the i-th on.
    reach = [[1] * (depth + 1)]
    for size in reversed(sizes):
        reach.insert(0, _with(reach[0], size, min(counts[size], free // size)))
    total = (reach[0][depth] & ((1 << (free + 1)) - 1)).bit_length() - 1
    return _rebuilt(total, depth, sizes, counts, reach) if total > sum(best) else best


def _greedy(free: int, slots: int, sizes: Sequence[int], counts: Mapping[int, int]) -> list[int]:
    chosen: list[int] = []
    for size in sizes:
        number = min(counts[size], free // size, slots - len(chosen))
        chosen += [size] * number
        free -= size * number
    return chosen


def _with(reach: Sequence[int], size: int, copies: int) -> list[int]:
    wider = list(reach)
    for copy in range(1, min(copies, len(reach) - 1) + 1):
        for number in range(copy, len(reach)):
            wider[number] |= reach[number - copy] << (size * copy)
    return wider


def _rebuilt(
    total: int,
    depth: int,
    sizes: Sequence[int],
    counts: Mapping[int, int],
    reach: Sequence[Sequence[int]],
) -> list[int]:
    """As many as possible of the largest, then of the next."""
    chosen: list[int] = []
    for size, rest in zip(sizes, reach[1:], strict=True):
        most = min(counts[size], total // size, depth)
        number = next(n for n in range(most, -1, -1) if rest[depth - n] >> (total - size * n) & 1)
        chosen += [size] * number
        total -= size * number
        depth -= number
    return chosen


def _fits(room: Room[W], item: W, now: float) -> bool:
    line = line_of(item)
    return room.fits(line.nodes, line.walltime_s, now)


def _ever_fits(room: Room[W], item: W, now: float) -> bool:
    line = line_of(item)
    return room.ever_fits(line.nodes, line.walltime_s, now)


def _free(room: Room[W]) -> int:
    return room.free


def _order(item: Waiter) -> Order:
    return item.order
