"""The nodes of one block: which are free, who has the others, and until when. Pure."""

import math
from bisect import insort
from collections.abc import Sequence
from typing import Generic, NamedTuple

from mep.endpoint.interchange.dispatch import W
from mep.endpoint.interchange.request import Request


class _Run(NamedTuple):
    nodes: tuple[int, ...]
    ends_by: float


class Room(Generic[W]):
    """One block.

    Args:
        pool_id: of the node pool on its lead node.
        nodes: their names.
        most: tasks at once.
        ends_at: epoch seconds at which the batch system ends it; None: not known.
    """

    def __init__(
        self, pool_id: str, nodes: Sequence[str], most: int, ends_at: float | None
    ) -> None:
        self.pool_id = pool_id
        self.most = most
        self.slots = most
        self._names = tuple(nodes)
        self._free = list(range(len(nodes)))
        self._ends_at = math.inf if ends_at is None else ends_at
        self._runs: dict[str, _Run] = {}
        self._earlier: set[str] = set()
        """Tasks that another process has given nodes: until they have ended, nobody gets any."""
        self.closed = False
        """It gets nothing more."""
        self.kept_for: W | None = None
        """The task that the nodes which come free are kept for."""

    @property
    def size(self) -> int:
        """All of its nodes."""
        return len(self._names)

    @property
    def free(self) -> int:
        """Nodes that nobody has."""
        return len(self._free)

    @property
    def busy(self) -> int:
        """Nodes that tasks have."""
        return len(self._names) if self._earlier else len(self._names) - len(self._free)

    @property
    def tasks(self) -> int:
        """Tasks that have nodes."""
        return len(self._runs) + len(self._earlier)

    def ever_fits(self, nodes: int, walltime_s: float, now: float) -> bool:
        """Whether the block is large enough, and lives for long enough as far as is known."""
        in_time = math.isinf(walltime_s) or now + walltime_s <= self._ends_at
        return not self.closed and nodes <= len(self._names) and in_time

    def fits(self, nodes: int, walltime_s: float, now: float) -> bool:
        """Whether there is room right now."""
        room = self.slots > 0 and nodes <= self.free and not self._earlier
        return room and self.ever_fits(nodes, walltime_s, now)

    def take(self, task_id: str, request: Request, now: float) -> list[str]:
        """Give a task its nodes, the first that are free; their names."""
        count = request.num_nodes
        nodes, self._free = tuple(self._free[:count]), self._free[count:]
        self.slots -= 1
        ends_by = math.inf if request.walltime_s is None else now + request.walltime_s
        self._runs[task_id] = _Run(nodes, ends_by)
        return [self._names[node] for node in nodes]

    def adopt(self, task_id: str) -> None:
        """A task has run here since before this process."""
        if task_id not in self._runs:
            self._earlier.add(task_id)

    def occupy(self, task_id: str, names: Sequence[str]) -> None:
        """A task has had these nodes since before; until when is not known."""
        nodes = tuple(node for node in self._free if self._names[node] in names)
        self._free = [node for node in self._free if node not in nodes]
        self.slots -= 1
        self._runs[task_id] = _Run(nodes, math.inf)

    def vacate(self, task_id: str) -> bool:
        """Whether this task had nodes; they are free."""
        known = task_id in self._runs
        if known:
            self.give_back(task_id)
        return known

    def give_back(self, task_id: str) -> None:
        """A task has ended.

        Raises:
            KeyError: it has no nodes here.
        """
        if task_id in self._earlier:
            self._earlier.remove(task_id)
            return
        for node in self._runs.pop(task_id).nodes:
            insort(self._free, node)
        self.slots += 1

    def opening(self, nodes: int) -> tuple[float, int]:
        """When so many nodes are free at the latest, as declared walltimes tell; and how many more.

        Infinite, and 0, where they do not tell.
        """
        if self._earlier:
            return math.inf, 0
        free, slots = self.free, self.slots
        for run in sorted(self._runs.values(), key=_ends_by):
            free += len(run.nodes)
            slots += 1
            if free >= nodes and slots >= 1:
                spare = free - nodes if slots >= 2 else 0
                return run.ends_by, 0 if math.isinf(run.ends_by) else spare
        return math.inf, 0


def _ends_by(run: _Run) -> float:
    return run.ends_by
