"""The walltime of tasks: who has had it, and what is said then."""

import math
import time
from typing import Dict, List

from mep.worker.execute import Outcome


class Deadlines:
    """When running tasks have had their walltime, which is the same for all of them."""

    def __init__(self, walltime_s: float) -> None:
        self.walltime_s = walltime_s
        self._ends: Dict[str, float] = {}

    def begin(self, task_id: str) -> None:
        """A task starts now."""
        if self.walltime_s:
            self._ends[task_id] = time.monotonic() + self.walltime_s

    def end(self, task_id: str) -> None:
        """A task has ended."""
        self._ends.pop(task_id, None)

    @property
    def next(self) -> float:
        """The first deadline: the oldest task's, as all have the same walltime."""
        return next(iter(self._ends.values()), math.inf)

    def passed(self, now: float) -> List[str]:
        """The tasks whose deadline has passed; they are told once."""
        late = [task_id for task_id, end in self._ends.items() if end <= now]
        for task_id in late:
            del self._ends[task_id]
        return late


def out_of_time(task_id: str, began: float, walltime_s: float, tail: str) -> Outcome:
    """The outcome of a task that has had its walltime; `tail` is the last that it wrote."""
    text = "The task was ended after %g seconds, which is the walltime of a task (GC_TASK_TIMEOUT)."
    head = [task_id, "failed", "WALLTIME_EXCEEDED", text % walltime_s, tail]
    return [*head, began, time.time()], b""
