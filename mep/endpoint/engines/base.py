"""The one interface between a user endpoint and whatever runs its tasks.

The endpoint (asyncio, one thread) calls the methods; an engine works in a thread or in processes
of its own and calls the three functions of :class:`Callbacks` from there. Each task given to
:meth:`Engine.submit` comes back through ``ended`` exactly once, whatever dies.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mep.endpoint.inheritance import Left, Verdict
from mep.wire.tasks import Function, Result, StateChange, Task


class EngineError(Exception):
    """The engine cannot be brought up or go on; the message is a sentence for the user."""


class Starting(Protocol):
    """See :attr:`Callbacks.starting`."""

    def __call__(self, task_ids: Sequence[str], pool_ids: Sequence[str] = ()) -> None:
        """`pool_ids`: the node pool of each, where these may outlive this process."""


def _ignore(_task_ids: Sequence[str]) -> None:
    pass


def _nothing() -> None:
    pass


def _anywhere(_pool_id: str, _task_ids: Sequence[str]) -> None:
    pass


@dataclass(frozen=True)
class Callbacks:
    """What an engine tells its endpoint. Thread-safe; they return at once."""

    starting: Starting
    """Called with task ids *before* they leave for a worker; returns once they stand in the
    ledger on disk. A task that has not been passed to it has not started.

    Raises:
        EngineError: the ledger cannot be written (a full disk). None of these tasks may start: the
            engine ends each with ``ENGINE_FAILED`` and the error's sentence.
    """
    moved: Callable[[Sequence[StateChange]], None]
    """``running``: a worker has the task. ``waiting-for-nodes`` after ``starting``: no worker has
    had it, or it may run again; it has come back and will be passed to ``starting`` anew."""
    ended: Callable[[Sequence[Result]], None]
    lost: Callable[[Sequence[str]], None] = _ignore
    """These have lost their worker and may run again: to be remembered until they end."""
    released: Callable[[Sequence[str]], None] = _ignore
    """These, of an earlier process, are not here: the relay shall send them again."""
    changed: Callable[[], None] = _nothing
    """Blocks or node pools came, went or changed: the status says more."""
    located: Callable[[str, Sequence[str]], None] = _anywhere
    """A worker of this node pool has these, or had them: ``moved`` or ``ended`` follows."""


@dataclass(frozen=True)
class EngineStatus:
    """For ``mep status`` and the idle check."""

    waiting: int
    running: int
    workers: int
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Surroundings:
    """Where an engine lives."""

    directory: str
    """The user endpoint's own directory, 0700: sockets (``ipc://``), worker logs, sandboxes."""
    endpoint_id: str
    user_endpoint_id: str
    max_result: int
    """Bytes of one result payload; more is ``RESULT_TOO_LARGE``."""
    unencrypted_allowed: bool = False
    """Whether the site's administrator lets a template switch encryption off."""
    submitted: str = ""
    """Version of the Python that its tasks come from, as ``3.12.3``; empty: not known."""


class Engine(Protocol):
    """Runs tasks."""

    def inherit(self, left: Left) -> Verdict:
        """Take over what an earlier process has left; before :meth:`start`.

        Returns:
            what becomes of its tasks. Those that are awaited come back through ``ended`` or
            ``released``.
        """

    def start(self) -> None:
        """Begin; blocks are asked for at once, nothing is waited for.

        Raises:
            EngineError: it cannot run here.
        """

    def submit(self, functions: Sequence[Function], tasks: Sequence[Task]) -> None:
        """Take tasks over. A function is given once, before or with the first task to need it."""

    def safe(self, task_ids: Sequence[str]) -> None:
        """The results of these tasks are on disk, or at the relay."""

    def cancel(self, task_ids: Sequence[str]) -> None:
        """End these tasks, waiting or running; unknown ids are ignored."""

    def status(self) -> EngineStatus:
        """A snapshot."""

    def close(self, grace_s: float) -> None:
        """End workers and blocks; running tasks have `grace_s` seconds. Blocks until done.

        A task that a worker had is ended by then. Of one that no worker had nothing is said
        any more: it is still whole, and whoever has it may hand it to the next engine.
        """
