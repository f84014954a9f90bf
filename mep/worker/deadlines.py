"""The walltime of tasks: who has had it, and what is said then."""

import heapq
import math
import time
from typing import Dict, List, Optional, Tuple

from mep.worker.execute import Outcome


class Deadlines:
    """When running tasks have had their walltime.

    Args:
        walltime_s: of every task; 0: any time.
    """

    def __init__(self, walltime_s: float) -> None:
        self.walltime_s = walltime_s
        self._ends: Dict[str, float] = {}
        self._given: Dict[str, float] = {}
        self._queue: List[Tuple[float, str]] = []

    def begin(self, task_id: str, declared_s: Optional[float] = None) -> None:
        """A task starts now, with a walltime of its own perhaps: the shorter one counts."""
        if self.walltime_s or declared_s:
            given = [one for one in (self.walltime_s, declared_s) if one]
            self._given[task_id] = min(given)
            self._ends[task_id] = time.monotonic() + min(given)
            heapq.heappush(self._queue, (self._ends[task_id], task_id))

    def end(self, task_id: str) -> None:
        """A task has ended."""
        if self._ends or self._given:
            self._ends.pop(task_id, None)
            self._given.pop(task_id, None)

    @property
    def next(self) -> float:
        """The first deadline."""
        while self._queue and self._ends.get(self._queue[0][1]) != self._queue[0][0]:
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else math.inf

    def passed(self, now: float) -> List[str]:
        """The tasks whose deadline has passed; they are told once."""
        late = []
        while self.next <= now:
            _, task_id = heapq.heappop(self._queue)
            del self._ends[task_id]
            late.append(task_id)
        return late

    def words(self, task_id: str) -> str:
        """What is said of a task that has had its walltime."""
        given = self._given.get(task_id, self.walltime_s)
        if given == self.walltime_s:
            whose = "which is the walltime of a task (GC_TASK_TIMEOUT)"
        else:
            whose = "the walltime of its resource_specification"
        return "The task was ended after %g seconds, %s." % (given, whose)


def out_of_time(task_id: str, began: float, words: str, tail: str) -> Outcome:
    """The outcome of a task that has had its walltime; `tail` is the last that it wrote."""
    return [task_id, "failed", "WALLTIME_EXCEEDED", words, tail, began, time.time()], b""
