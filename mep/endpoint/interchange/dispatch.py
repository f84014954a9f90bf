"""The seam between the ledger and the policy: which waiting task goes where, and when. Pure.

The ledger knows what became of each task; a dispatcher knows which tasks wait and what room the
pools have. It owns the queue and the slots, so a policy may look at both at once.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from mep.endpoint.interchange.events import PoolUp
from mep.endpoint.interchange.request import NOTHING_ASKED, Request
from mep.wire.tasks import Task


class Waiter(Struct, eq=False, gc=False):
    """A task as a dispatcher sees it, the same object for as long as the task lives."""

    task: Task
    request: Request = NOTHING_ASKED
    removed: bool = False
    """Set by :meth:`Dispatcher.remove`: it may still lie in a queue, and leaves it no more."""
    order: tuple[float, int, int] = (0.0, 0, 0)
    """Where it stands, where a dispatcher keeps a queue that has more than one order."""
    since: int = 0
    """How many tasks had been placed when it came to wait, where a dispatcher counts them."""


W = TypeVar("W", bound=Waiter)
Placing = tuple[W, str, Mapping[str, Any] | None]
"""A task, the pool that gets it, and what its ``spec`` carries besides (see
:mod:`mep.wire.frames`)."""


class Dispatcher(Protocol[W]):
    """Waiting tasks on one side, the room of node pools on the other."""

    @property
    def workers(self) -> int:
        """Of all pools together."""

    def add(self, item: W) -> None:
        """A new task waits."""

    def put_back(self, item: W) -> None:
        """A task that was placed waits again, before all that came after it."""

    def remove(self, item: W) -> None:
        """A waiting task has ended; it is never put back."""

    def clear(self) -> list[W]:
        """Take out all that waits."""

    def demand(self, waiting: int, placed: int) -> tuple[int, int]:
        """What so many waiting and placed tasks, all that there are, need of blocks that serve on.

        Those that end what they run in pools which get nothing more need nothing.

        In workers, or in nodes where tasks have whole ones.
        """

    def join(self, pool: PoolUp) -> None:
        """A pool has come up."""

    def adopt(self, pool_id: str, item: W) -> None:
        """Let a task that this pool had before it joined take room there."""

    def leave(self, pool_id: str) -> None:
        """A pool is gone, and all that was placed there with it."""

    def hold(self, pool_id: str) -> None:
        """Give this pool nothing more."""

    def next(self, now: float) -> Placing[W] | None:
        """Take out a task and reserve its room, at epoch time `now`; None: no task fits."""

    def free(self, pool_id: str, items: Sequence[W]) -> None:
        """These tasks of a pool have ended or come back: their room is free."""

    def stray(self, pool_id: str, task_id: str) -> None:
        """A task has ended at a pool that came with it, and nobody has ever placed it here."""

    def learn(self, pool_id: str, longest_s: float) -> None:
        """The longest of some tasks that this pool has just run took so long."""

    def recalls(self) -> Iterator[tuple[str, int]]:
        """Pools that should give back so many tasks; to be asked for when no task waits."""

    def recalled(self, pool_id: str) -> None:
        """The pool has answered a recall."""

    def held(self, pool_id: str) -> int:
        """Tasks at this pool."""
