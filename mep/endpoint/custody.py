"""Which tasks are here, and how many more may come. Pure: no I/O, no clock.

A task is *active* from its arrival until it ends, its result is *unacknowledged* from then until
the relay has committed it; both together are *held*. The relay may send as many tasks as it has
credit for: what a connection starts with, and one more for each that ended.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from mep.endpoint.permits import Permits
from mep.wire import codes, limits
from mep.wire.tasks import Failure, Function, Result, Task

WINDOW: Final = 2000
"""Tasks here at most; a relay with a shorter queue keeps workers waiting."""


@dataclass
class Taken:
    """What to do with a batch of tasks."""

    functions: list[Function] = field(default_factory=list)
    """To be given to the engine with `tasks`."""
    tasks: list[Task] = field(default_factory=list)
    refused: list[Result] = field(default_factory=list)


class Custody:
    """The tasks of one user endpoint.

    Args:
        permits: which functions may run here.
        unacknowledged: results of an earlier process.
        awaited: tasks of an earlier process that may end here; active without being known.
        keep: told of a result that is too large for the relay; says where it is now.
        spool: given a result that is too large for a message; returns it as it is to be kept.
    """

    def __init__(
        self,
        permits: Permits,
        unacknowledged: Iterable[Result],
        awaited: Iterable[str] = (),
        keep: Callable[[str, bytes], str] = lambda _task_id, _payload: "",
        spool: Callable[[Result], Result] = lambda result: result,
    ) -> None:
        self._spool = spool
        self._permits = permits
        self._keep = keep
        self._active: dict[str, Task | None] = dict.fromkeys(awaited)
        self._unacknowledged = {result.task_id: result for result in unacknowledged}
        self._given: set[str] = set()
        self._owed = 0
        self.max_result = limits.PAYLOAD
        self.inline = limits.INLINE
        """Bytes of a result that travels in a message."""

    @property
    def held(self) -> tuple[str, ...]:
        """Ids of all tasks that this process answers for."""
        return (*self._active, *self._unacknowledged)

    @property
    def count(self) -> int:
        """How many are held."""
        return len(self._active) + len(self._unacknowledged)

    @property
    def all_acknowledged(self) -> bool:
        """Whether no result waits for the relay."""
        return not self._unacknowledged

    @property
    def active(self) -> tuple[str, ...]:
        """Ids of tasks that have not ended."""
        return tuple(self._active)

    @property
    def unacknowledged(self) -> tuple[Result, ...]:
        """Results to be sent (again), oldest first."""
        return tuple(self._unacknowledged.values())

    def is_active(self, task_id: str) -> bool:
        """Whether it has not ended."""
        return task_id in self._active

    def task(self, task_id: str) -> Task | None:
        """The active task of this id; None also for one of an earlier process."""
        return self._active.get(task_id)

    def opening_credit(self) -> int:
        """What a new connection's hello grants."""
        self._owed = 0
        return max(0, WINDOW - len(self._active))

    def credit_due(self) -> int:
        """What to grant now; in portions, so that not every task costs a message."""
        if self._owed < WINDOW // 8:
            return 0
        due, self._owed = self._owed, 0
        return due

    def take(self, functions: Iterable[Function], tasks: Iterable[Task]) -> Taken:
        """Take a batch from the relay. Tasks that are held already came twice and are dropped."""
        bodies = {function.function_id: function for function in functions}
        taken = Taken()
        for task in tasks:
            if task.task_id in self._active or task.task_id in self._unacknowledged:
                self._owed += 1
                continue
            self._active[task.task_id] = task
            failure = self._refusal(task, bodies)
            if failure is not None:
                taken.refused.append(failed(task.task_id, failure))
                continue
            if task.function_id not in self._given:
                self._given.add(task.function_id)
                taken.functions.append(bodies[task.function_id])
            taken.tasks.append(task)
        return taken

    def end(self, results: Iterable[Result]) -> list[Result]:
        """Take ended tasks over from the engine: those that are new, as they will be sent."""
        ended = []
        for result in results:
            if result.task_id not in self._active:
                continue
            del self._active[result.task_id]
            self._owed += 1
            checked = self._within_limit(result)
            if len(checked.payload) > self.inline:
                checked = self._spool(checked)
            self._unacknowledged[result.task_id] = checked
            ended.append(checked)
        return ended

    def replace(self, result: Result) -> bool:
        """Have this sent as the task's result instead; False: it is no longer held."""
        held = result.task_id in self._unacknowledged
        if held:
            self._unacknowledged[result.task_id] = result
        return held

    def still(self, task_ids: Iterable[str]) -> list[Result]:
        """The results of these tasks that the relay has not committed."""
        return [self._unacknowledged[each] for each in task_ids if each in self._unacknowledged]

    def release(self, task_ids: Iterable[str]) -> None:
        """Give tasks back that never started: the relay hands them to the next process."""
        for task_id in task_ids:
            self._active.pop(task_id, None)

    def commit(self, task_ids: Iterable[str]) -> list[str]:
        """The relay has these results; the ids that were still held."""
        return [task_id for task_id in task_ids if self._unacknowledged.pop(task_id, None)]

    def _refusal(self, task: Task, bodies: dict[str, Function]) -> Failure | None:
        # The engine has the first body for good, so that is the one to be judged.
        fresh = None if task.function_id in self._given else bodies.get(task.function_id)
        if refusal := self._permits.refusal(task.function_id, fresh):
            return Failure(codes.FUNCTION_NOT_PERMITTED, refusal)
        if task.function_id not in self._given and task.function_id not in bodies:
            message = f"the relay sent no body of function {task.function_id}; submit it again"
            return Failure(codes.FUNCTION_NOT_FOUND, message)
        return None

    def _within_limit(self, result: Result) -> Result:
        if len(result.payload) <= self.max_result:
            return result
        message = (
            f"the result has {len(result.payload)} bytes, and at most {self.max_result} are "
            "accepted; return less, or write it to a file and return its path; "
            f"{self._keep(result.task_id, result.payload)}"
        ).removesuffix("; ")
        failure = Failure(codes.RESULT_TOO_LARGE, message)
        return failed(result.task_id, failure, result.began, result.ended)


def failed(task_id: str, failure: Failure, began: float = 0.0, ended: float = 0.0) -> Result:
    """The result of a task that ended badly."""
    return Result(task_id, "failed", b"", failure, began, ended)
