"""Threads of the node pool's own process as workers (``ThreadPoolEngine``).

A thread cannot be ended from outside: a running task that is cancelled, or has had its walltime, is
reported at once, and its thread is free again when the function returns. A function that ends the
process ends the pool.
"""

import os
import queue
import threading
from collections import deque
from typing import Any, Deque, Dict, List, Mapping, Sequence, Set, Tuple

from mep.worker.crew import Ended, Poll, Task, cancelled
from mep.worker.deadlines import Deadlines, out_of_time
from mep.worker.execute import Call, Function, Outcome, Terms, load, run
from mep.worker.recent import Recent


class ThreadCrew:
    """Up to `size` threads; the methods are those of :class:`mep.worker.crew.Crew`."""

    def __init__(
        self,
        poll: Poll,
        size: int,
        terms: Terms,
        walltime_s: float,
        ended: Ended,
    ) -> None:
        self._size = size
        self._terms = terms
        self._deadlines = Deadlines(walltime_s)
        self._ended = ended
        self._calls: "queue.SimpleQueue[Tuple[Call, Function]]" = queue.SimpleQueue()
        self._done: Deque[Outcome] = deque()
        self._functions: Recent[Function] = Recent()
        self._began: Dict[str, float] = {}
        self._new: List[str] = []
        self._abandoned: Set[str] = set()
        self._threads = 0
        self._pid = os.getpid()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        poll.add(self._wake, self._on_done)

    @property
    def running(self) -> int:
        """Tasks that threads have."""
        return len(self._began)

    @property
    def busy(self) -> bool:
        """Threads have no more than the task that they are at."""
        return False

    @property
    def has_begun(self) -> bool:
        """Whether :meth:`begun` has something to say."""
        return bool(self._new)

    def room(self) -> int:
        """How many tasks :meth:`start` may be given."""
        return self._size - len(self._began) - len(self._abandoned)

    def prepare(self) -> None:
        """Start one thread ahead of the first task."""
        self._threads += 1
        threading.Thread(target=self._work, name="worker", daemon=True).start()

    def start(self, tasks: Sequence[Task], bodies: Mapping[str, bytes], now: float) -> None:
        """Hand tasks to threads."""
        for task in tasks:
            self._start(task.call, bodies.get(task.call.function_id, b""), now)

    def begun(self) -> List[List[Any]]:
        """The tasks that threads have come to since the last call; threads have no numbers."""
        begun = [
            [task_id, 0, self._began[task_id]] for task_id in self._new if task_id in self._began
        ]
        self._new.clear()
        return begun

    def idle_beside_work(self) -> bool:
        """No task lies behind another."""
        return False

    def take_back(self) -> List[Task]:
        """Threads have begun what they have."""
        return []

    def _start(self, call: Call, body: bytes, now: float) -> None:
        function = self._functions.touch(call.function_id)
        if function is None:
            function = load(body, self._terms)
            self._functions.put(call.function_id, function)
        self._began[call.task_id] = now
        self._deadlines.begin(call.task_id)
        self._new.append(call.task_id)
        if self._threads < len(self._began) + len(self._abandoned):
            self.prepare()
        self._calls.put((call, function))

    def cancel(self, task_id: str) -> None:
        """Report this task as cancelled; what its thread makes of it is thrown away."""
        if task_id in self._began:
            self._ended(cancelled(task_id, self._abandon(task_id)))

    def due(self) -> float:
        """When :meth:`expire` has something to do, in monotonic seconds."""
        return self._deadlines.next

    def expire(self, now: float) -> None:
        """Report the tasks that have had their walltime, as :meth:`cancel` does."""
        for task_id in self._deadlines.passed(now):
            walltime_s = self._deadlines.walltime_s
            self._ended(out_of_time(task_id, self._abandon(task_id), walltime_s, ""))

    def _abandon(self, task_id: str) -> float:
        """When the task began."""
        self._deadlines.end(task_id)
        self._abandoned.add(task_id)
        return self._began.pop(task_id)

    def close(self) -> None:
        """Threads end with the process."""

    def _work(self) -> None:
        while True:
            call, function = self._calls.get()
            outcome = run(call, function, self._terms)
            if os.getpid() != self._pid:
                os._exit(0)  # a child that the function forked came back here instead of ending
            self._done.append(outcome)
            os.eventfd_write(self._wake, 1)

    def _on_done(self, _events: int) -> None:
        os.eventfd_read(self._wake)
        while self._done:
            fields, payload = self._done.popleft()
            task_id = fields[0]
            if task_id in self._abandoned:
                self._abandoned.remove(task_id)
            elif self._began.pop(task_id, None) is not None:
                self._deadlines.end(task_id)
                self._ended((fields, payload))
