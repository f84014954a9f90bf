"""What waits to be sent on the link, in batches. Pure."""

from collections import deque
from collections.abc import Iterable

from mep.wire import limits
from mep.wire.tasks import Result, StateChange
from mep.wire.to_endpoint import Results, States


class Outbox:
    """Results, each once per connection, and the latest state of each task.

    A state is dropped once its task has ended: the result says more.
    """

    def __init__(self) -> None:
        self._results: deque[Result] = deque()
        self._latest: dict[str, StateChange] = {}
        self._states: dict[str, StateChange] = {}

    def reconnect(self, unacknowledged: Iterable[Result]) -> None:
        """A new connection: every result that is not acknowledged goes out again, and where each
        task stands.
        """
        self._results = deque(unacknowledged)
        self._states = dict(self._latest)

    def add_results(self, results: Iterable[Result]) -> None:
        """Ended tasks."""
        for result in results:
            self._latest.pop(result.task_id, None)
            self._states.pop(result.task_id, None)
            self._results.append(result)

    def add_states(self, changes: Iterable[StateChange]) -> None:
        """Tasks that moved, not ended ones."""
        for change in changes:
            self._latest[change.task_id] = self._states[change.task_id] = change

    def next_batch(self) -> Results | States | None:
        """The next message, or None when all is sent. Results go first."""
        if self._results:
            return Results(tuple(self._take_results()))
        if self._states:
            ids = list(self._states)[: limits.BATCH_TASKS]
            return States(tuple(self._states.pop(task_id) for task_id in ids))
        return None

    def _take_results(self) -> Iterable[Result]:
        size = count = 0
        while self._results and count < limits.BATCH_TASKS:
            size += len(self._results[0].payload)
            if count and size > limits.BATCH_BYTES:
                return
            count += 1
            yield self._results.popleft()
