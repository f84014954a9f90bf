"""Threads of the node pool's own process as workers (``ThreadPoolEngine``).

A thread cannot be ended from outside: a running task that is cancelled, or has had its walltime, is
reported at once, and its thread is free again when the function returns. A function that ends the
process ends the pool.
"""

import os
import queue
import threading
import time
from collections import deque
from typing import Any, Deque, Dict, List, Mapping, Sequence, Set, Tuple

from mep.wire.frames import Piece
from mep.worker.crew import START_S, Ended
from mep.worker.deadlines import Deadlines, out_of_time
from mep.worker.endings import cancelled
from mep.worker.execute import Call, Function, Outcome, Terms, load, run
from mep.worker.member import Task
from mep.worker.poll import Poll
from mep.worker.recent import Recent
from mep.worker.untold import Untold


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
        self._untold: Untold[str] = Untold(START_S)
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
    def tasks(self) -> List[str]:
        """Their ids."""
        return list(self._began)

    @property
    def busy(self) -> bool:
        """Threads have no more than the task that they are at."""
        return False

    def room(self, wanted: int) -> int:
        """How many of so many tasks :meth:`start` may be given."""
        return min(wanted, self._size - len(self._began) - len(self._abandoned))

    def prepare(self) -> None:
        """Start one thread ahead of the first task."""
        self._threads += 1
        threading.Thread(target=self._work, name="worker", daemon=True).start()

    def start(self, tasks: Sequence[Task], bodies: Mapping[str, Piece], now: float) -> None:
        """Hand tasks to threads."""
        for task in tasks:
            self._start(task.call, bodies.get(task.call.function_id, b""), now)

    def begun(self, now: float) -> List[List[Any]]:
        """The tasks that last, each told once; threads have no numbers."""
        return [[task_id, 0, self._began[task_id]] for task_id in self._untold.take(now)]

    def idle_beside_work(self) -> bool:
        """No task lies behind another."""
        return False

    def take_back(self) -> List[Task]:
        """Threads have begun what they have."""
        return []

    def _start(self, call: Call, body: Piece, now: float) -> None:
        function = self._functions.touch(call.function_id)
        if function is None:
            function = load(body, self._terms)
            self._functions.put(call.function_id, function)
        self._began[call.task_id] = now
        self._deadlines.begin(call.task_id)
        self._untold.begins(call.task_id, time.monotonic())
        if self._threads < len(self._began) + len(self._abandoned):
            self.prepare()
        self._calls.put((call, function))

    def cancel(self, task_id: str) -> None:
        """Report this task as cancelled; what its thread makes of it is thrown away."""
        if task_id in self._began:
            self._ended(cancelled(task_id, self._abandon(task_id)))

    def due(self) -> float:
        """When :meth:`begun` or :meth:`expire` has something to do, in monotonic seconds."""
        return min(self._untold.due, self._deadlines.next)

    def expire(self, now: float) -> None:
        """Report the tasks that have had their walltime, as :meth:`cancel` does."""
        for task_id in self._deadlines.passed(now):
            words = self._deadlines.words(task_id)
            self._ended(out_of_time(task_id, self._abandon(task_id), words, ""))

    def _abandon(self, task_id: str) -> float:
        """When the task began."""
        self._deadlines.end(task_id)
        self._untold.ends(task_id)
        self._abandoned.add(task_id)
        return self._began.pop(task_id)

    def close(self) -> None:
        """Threads end with the process."""

    def _work(self) -> None:
        while True:
            call, function = self._calls.get()
            fields, pieces = run(call, function, self._terms)
            outcome = fields, b"".join(pieces)
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
                self._untold.ends(task_id)
                self._ended((fields, payload))
