"""Which future waits for which task. No I/O, no threads of its own; safe to call from any.

A result may come over the WebSocket before the submit that made its task has been answered over
HTTP. So while a submit is on its way, results of unknown tasks are held. Once it is answered,
what still nobody waits for belongs to another session and is let go: the relay keeps it.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable

from mep.wire.tasks import Result
from mep_sdk.future import ComputeFuture

REMEMBERED = 16_384
"""Ended tasks whose ids are kept, to acknowledge them again when they are streamed again."""


class Ledger:
    """Futures by task id, results that came early, and tasks that ended lately."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, ComputeFuture] = {}
        self._early: dict[str, Result] = {}
        self._submits = 0
        self._ended: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def submitting(self) -> None:
        """A submit is about to be sent: results may come before its answer."""
        with self._lock:
            self._submits += 1

    def submitted(
        self, futures: Iterable[tuple[str, ComputeFuture]]
    ) -> list[tuple[ComputeFuture, Result]]:
        """The submit was answered (or failed: no `futures`); returns what has already ended."""
        ended = []
        with self._lock:
            for task_id, future in futures:
                result = self._early.pop(task_id, None)
                if result is None:
                    self._waiting[task_id] = future
                else:
                    self._remember(task_id)
                    ended.append((future, result))
            self._submits -= 1
            if not self._submits:
                self._early.clear()
        return ended

    def expect(self, task_id: str, future: ComputeFuture) -> None:
        """A future for a task of an earlier session."""
        with self._lock:
            self._waiting[task_id] = future

    def waiting(self, task_id: str) -> ComputeFuture | None:
        """The future that waits for this task."""
        return self._waiting.get(task_id)

    def waiting_ids(self) -> list[str]:
        """Every task that a future waits for."""
        with self._lock:
            return list(self._waiting)

    def ended(self, result: Result) -> tuple[ComputeFuture | None, bool]:
        """Whose result this is, and whether it may be acknowledged."""
        with self._lock:
            future = self._waiting.pop(result.task_id, None)
            if future is not None:
                self._remember(result.task_id)
                return future, True
            if result.task_id in self._ended:
                return None, True
            if self._submits:
                self._early[result.task_id] = result
            return None, False

    def settled(self, task_ids: Iterable[str]) -> list[ComputeFuture]:
        """These tasks' results came another way; returns the futures that waited for them."""
        with self._lock:
            found = []
            for task_id in task_ids:
                future = self._waiting.pop(task_id, None)
                if future is not None:
                    self._remember(task_id)
                    found.append(future)
            return found

    def all_lost(self) -> list[ComputeFuture]:
        """No result will come any more: every waiting future."""
        with self._lock:
            futures = list(self._waiting.values())
            self._waiting.clear()
            self._early.clear()
            return futures

    def _remember(self, task_id: str) -> None:
        self._ended[task_id] = None
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)
