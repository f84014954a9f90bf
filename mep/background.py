"""A few daemon threads for slow errands: none of them keeps the process alive."""

import threading
from collections.abc import Callable
from queue import SimpleQueue


class Threads:
    """Runs errands in order, `at_once` of them at a time; threads start when there is work.

    An errand must not raise.
    """

    def __init__(self, name: str, at_once: int) -> None:
        self._name = name
        self._at_once = at_once
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._started = 0
        self._lock = threading.Lock()

    def do(self, errand: Callable[[], None]) -> None:
        """Run it when a thread is free."""
        self._queue.put(errand)
        with self._lock:
            if self._started == self._at_once:
                return
            self._started += 1
        threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def end(self) -> None:
        """Let the threads end when they have done what was asked till now."""
        with self._lock:
            started, self._started = self._started, 0
        for _ in range(started):
            self._queue.put(None)

    def _run(self) -> None:
        while (errand := self._queue.get()) is not None:
            errand()
