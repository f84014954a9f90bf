"""From the engine's threads into the event loop: one wake-up per batch, in order."""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mep.wire.tasks import Result, StateChange

if TYPE_CHECKING:
    import asyncio  # 10 ms that the engine's start need not wait for


class Taken(NamedTuple):
    """What an engine has said."""

    changes: list[StateChange]
    results: list[Result]
    released: list[str]
    places: dict[str, str]
    """The node pools of tasks that began to run, or ended."""


class Mailbox:
    """Collects what an engine says; thread-safe. Until a loop is attached, it only collects."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._results: list[Result] = []
        self._changes: list[StateChange] = []
        self._released: list[str] = []
        self._places: dict[str, str] = {}
        self._changed = False
        self._wake: Callable[[], None] | None = None
        self._called = False

    def attach(self, loop: "asyncio.AbstractEventLoop", drain: Callable[[], None]) -> None:
        """From now on `drain` is called in `loop` after something arrived."""
        with self._mutex:
            self._wake = lambda: _call_soon(loop, drain)
            self._called = False
        self._ring()

    def moved(self, changes: Sequence[StateChange]) -> None:
        """See :class:`mep.endpoint.engines.base.Callbacks`."""
        with self._mutex:
            self._changes.extend(changes)
        self._ring()

    def ended(self, results: Sequence[Result]) -> None:
        """See :class:`mep.endpoint.engines.base.Callbacks`."""
        with self._mutex:
            self._results.extend(results)
        self._ring()

    def released(self, task_ids: Sequence[str]) -> None:
        """See :class:`mep.endpoint.engines.base.Callbacks`."""
        with self._mutex:
            self._released.extend(task_ids)
        self._ring()

    def changed(self) -> None:
        """See :class:`mep.endpoint.engines.base.Callbacks`."""
        with self._mutex:
            self._changed = True
        self._ring()

    def located(self, pool_id: str, task_ids: Sequence[str]) -> None:
        """See :class:`mep.endpoint.engines.base.Callbacks`."""
        with self._mutex:
            self._places.update(dict.fromkeys(task_ids, pool_id))

    def take(self) -> "Taken":
        """Everything that arrived, once."""
        with self._mutex:
            taken = Taken(self._changes, self._results, self._released, self._places)
            self._changes, self._results, self._released, self._places = [], [], [], {}
            self._called = self._changed = False
        return taken

    def _ring(self) -> None:
        with self._mutex:
            if self._called or self._wake is None or not self._any():
                return
            self._called = True
            wake = self._wake
        wake()

    def _any(self) -> bool:
        return bool(self._results or self._changes or self._released or self._changed)


def _call_soon(loop: "asyncio.AbstractEventLoop", drain: Callable[[], None]) -> None:
    # After the loop's end nobody listens; what was said is taken by the last, direct drain.
    if not loop.is_closed():
        loop.call_soon_threadsafe(drain)
