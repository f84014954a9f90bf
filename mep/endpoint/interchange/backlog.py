"""Waiting tasks that need nodes: by size and age, and how often each has been passed over. Pure.

The order of tasks is by priority, then in turn over the task groups, then by age. Looking for a
task of some size costs as much as there are different requests, however many tasks wait.
"""

import math
import sys
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import Final, Generic, NamedTuple

from mep.endpoint.interchange.dispatch import W, Waiter

Order = tuple[float, int, int]

_END: Final = (math.inf, sys.maxsize, 0)
"""Behind all tasks."""
_TIDY: Final = 256
"""Placements that are looked back upon, until it is asked whom they concern."""
MOST_PASSES: Final = 2000
"""A greater bound would be none, because of what follows."""
_REMEMBERED: Final = 2 * MOST_PASSES + 96
"""Placements that :class:`Passes` looks back upon."""


class Line(NamedTuple):
    """Tasks that a block sees as equal; the oldest of them goes first."""

    priority: float
    nodes: int
    walltime_s: float


def line_of(item: Waiter) -> Line:
    """The line that a task stands in."""
    request = item.request
    walltime_s = math.inf if request.walltime_s is None else request.walltime_s
    return Line(request.priority, request.num_nodes, walltime_s)


class Backlog(Generic[W]):
    """The lines of waiting tasks."""

    def __init__(self) -> None:
        self._lines: dict[Line, list[tuple[Order, W]]] = {}
        self._counts: dict[Line, int] = {}
        self._groups: dict[tuple[float, str], list[int]] = {}
        self._serial = 0
        self.passes = Passes()

    def add(self, item: W) -> None:
        """Last of its group; a group that is new here is next in turn after those that wait."""
        group = self._groups.get(_group(item))
        last = self._turn(item.request.priority) if group is None else group[1]
        self._serial += 1
        item.order = (item.request.priority, last + 1, self._serial)
        self.put_back(item)

    def put_back(self, item: W) -> None:
        """Where it stood before."""
        line = line_of(item)
        heappush(self._lines.setdefault(line, []), (item.order, item))
        self._counts[line] = self._counts.get(line, 0) + 1
        group = self._groups.setdefault(_group(item), [0, 0])
        group[0] += 1
        group[1] = max(group[1], item.order[1])

    def remove(self, item: W) -> None:
        """It waits no more; what is left of it goes when its turn comes."""
        item.removed = True
        self._leave(item)
        self._tidy(line_of(item))

    def heads(self) -> Iterator[tuple[Line, W]]:
        """The first of each line, in no order."""
        for line, queue in self._lines.items():
            yield line, queue[0][1]

    def head(self, line: Line) -> W:
        """The first of a line."""
        return self._lines[line][0][1]

    def lines(self) -> Iterable[Line]:
        """The lines that anybody stands in."""
        return self._lines.keys()

    def passed(self, item: W) -> None:
        """A task, just taken out, begins: those before it have been passed over."""
        self.passes.note(item.order)
        if len(self.passes) > _TIDY:
            self.passes.forget(min((item.order for _, item in self.heads()), default=None))

    def late(self, most: int) -> Iterator[W]:
        """Heads of lines that have been passed over `most` times, or more often."""
        behind = self.passes.behind(most)
        if behind is not None:
            for queue in self._lines.values():
                if queue[0][0] < behind and self.passes.of(queue[0][1]) >= most:
                    yield queue[0][1]

    def count(self, line: Line) -> int:
        """Tasks of a line."""
        return self._counts[line]

    def take(self, line: Line) -> W:
        """Take out the first of a line."""
        _, item = heappop(self._lines[line])
        self._leave(item)
        self._tidy(line)
        return item

    def clear(self) -> list[W]:
        """Remove everything; in order."""
        queues = self._lines.values()
        left = [item for queue in queues for _, item in queue if not item.removed]
        for table in (self._lines, self._counts, self._groups):
            table.clear()
        for item in left:
            item.removed = True
        return sorted(left, key=lambda item: item.order)

    def _turn(self, priority: float) -> int:
        turns = [item.order[1] for line, item in self.heads() if line.priority == priority]
        return min(turns, default=0)

    def _leave(self, item: W) -> None:
        self._counts[line_of(item)] -= 1
        group = self._groups[_group(item)]
        group[0] -= 1
        if not group[0]:
            del self._groups[_group(item)]

    def _tidy(self, line: Line) -> None:
        """The first of a line is always one that waits, and a line without any is none."""
        queue = self._lines[line]
        while queue and queue[0][1].removed:
            heappop(queue)
        if not queue:
            del self._lines[line], self._counts[line]


def _group(item: Waiter) -> tuple[float, str]:
    return item.request.priority, item.task.task_group_id


class Passes:
    """How often tasks were passed over: placements of tasks that stand behind them, meanwhile."""

    def __init__(self) -> None:
        self._placed: list[tuple[Order, int]] = []
        self.count = 0

    def __len__(self) -> int:
        return len(self._placed)

    def note(self, order: Order) -> None:
        """A task that stood there has been placed before its turn, perhaps."""
        insort(self._placed, (order, self.count))
        self.count += 1
        if len(self._placed) > _REMEMBERED:
            late = self.count - _REMEMBERED // 2
            self._placed = [one for one in self._placed if one[1] >= late]

    def behind(self, most: int) -> Order | None:
        """Where the last but `most` - 1 of the placed stood: who stands behind was passed less."""
        if not most:
            return _END
        return self._placed[-most][0] if most <= len(self._placed) else None

    def forget(self, first: Order | None) -> None:
        """No task before `first` waits any more; None: none waits at all."""
        if first is None:
            self._placed.clear()
        else:
            del self._placed[: bisect_left(self._placed, (first, 0))]

    def of(self, item: Waiter) -> int:
        """How often this task has been passed over since it came."""
        behind = self._placed[bisect_right(self._placed, (item.order, self.count)) :]
        return sum(index >= item.since for _, index in behind)
