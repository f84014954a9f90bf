"""What `submit` returns: a standard future that knows its task."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class ComputeFuture(Future[Any]):
    """A :class:`concurrent.futures.Future` for one task.

    `cancel` takes effect at once, as users of :mod:`concurrent.futures` expect: the future is
    cancelled when it returns True, and the relay is told in the background. A task that was not
    yet sent never runs; one that a worker runs is interrupted there; what it returns is dropped.
    """

    task_id: str | None = None
    """Set once the relay has the task; None until then."""
    task_group_id: str | None = None
    function_id: str | None = None
    """Set once the function is registered; None until then."""
    task_state: str = "submitted"
    """``submitted``, ``waiting-for-ep``, ``queued``, ``waiting-for-nodes``, ``running``, then
    ``success``, ``failed`` or ``cancelled``."""
    on_cancel: Callable[["ComputeFuture"], None] | None = None
    """Called once, when the user has cancelled (not when the remote side did)."""

    def __init__(self) -> None:
        super().__init__()
        self._first_cancel = threading.Lock()

    def cancel(self) -> bool:
        """Cancel the task, wherever it is; False when it has already ended."""
        if not self._cancelled_first():
            return self.cancelled()
        if self.on_cancel is not None:
            self.on_cancel(self)
        return True

    def cancelled_remotely(self) -> None:
        """End as cancelled because the task was cancelled elsewhere."""
        self._cancelled_first()

    def running(self) -> bool:
        """Whether a worker has begun the task, as far as it is known here."""
        return self.task_state == "running" and not self.done()

    def _cancelled_first(self) -> bool:
        if not super().cancel() or not self._first_cancel.acquire(blocking=False):
            return False
        self.task_state = "cancelled"
        # Tells `as_completed` and `wait`, which `cancel` alone does not.
        self.set_running_or_notify_cancel()
        return True

    def __repr__(self) -> str:
        state = self.task_state
        if self.done() and not self.cancelled():
            error = self.exception()
            state = f"failed, {type(error).__name__}" if error else "success"
        return f"<ComputeFuture {self.task_id or 'without a task id yet'}: {state}>"
