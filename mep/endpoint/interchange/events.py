"""What the ledger is told (events), and what it says is to be done (instructions). All frozen."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from mep.endpoint.interchange.request import Request
from mep.wire.tasks import Function, Result, StateChange, Task


class Submitted(Struct, frozen=True):
    """The endpoint hands tasks over."""

    functions: Sequence[Function]
    tasks: Sequence[Task]
    requests: Mapping[str, Request] = field(default_factory=dict)
    """By task id, of those tasks that ask for something."""


class CancelAsked(Struct, frozen=True):
    """The endpoint no longer wants these."""

    task_ids: Sequence[str]


class Inherited(Struct, frozen=True):
    """What an earlier process left, see :mod:`mep.endpoint.inheritance`; before all else."""

    awaited: Mapping[str, str]
    """Tasks that node pools may have: the pool of each."""
    losses: Mapping[str, int]
    """How often tasks that will come again have been lost."""


class AwaitOver(Struct, frozen=True):
    """Node pools that have not said hello by now are gone: those of this block, or all."""

    block_id: str | None


class PoolUp(Struct, frozen=True):
    """A node pool said hello."""

    pool_id: str
    workers: int
    credit: int
    nodes: Sequence[str] = ()
    """Those that its tasks may be spread over."""
    ends_at: float | None = None
    """Epoch seconds at which the batch system ends it; None: not known."""
    holds: Sequence[str] = ()
    """Tasks that it has from an earlier process, or their results."""
    placed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The nodes that some of these have."""
    new: bool = False
    """Whether it is the first of a block that has just begun: no other will ever have more."""


class Started(Struct, frozen=True):
    """Workers of this pool have these tasks: (task id, epoch seconds)."""

    pool_id: str
    tasks: Sequence[tuple[str, float]]


class Finished(Struct, frozen=True):
    """Tasks of this pool ended."""

    pool_id: str
    results: Sequence[Result]


class Late(Struct, frozen=True):
    """Results of a pool that has been counted as lost."""

    results: Sequence[Result]


class Returned(Struct, frozen=True):
    """A pool gives tasks back that no worker has seen."""

    pool_id: str
    task_ids: Sequence[str]


class Unplaced(Struct, frozen=True):
    """These were placed and may not leave for their pools, because..."""

    task_ids: Sequence[str]
    code: str
    message: str


class PoolHeld(Struct, frozen=True):
    """A pool shall get nothing more."""

    pool_id: str


class PoolLost(Struct, frozen=True):
    """A node pool is gone, with its workers.

    `reason` ends the sentence "The node pool that ran this task ...". Of the tasks that it was
    given, in order, those at the places `begun` may have begun, counted from 0; None: any may have.
    """

    pool_id: str
    reason: str
    begun: Collection[int] | None
    by_walltime: bool = False
    """The batch system ended it because its time was over."""
    stderr: str = ""
    """The last that its job wrote."""


FromPool = PoolUp | Started | Finished | Late | Returned | PoolHeld | PoolLost
Event = Submitted | CancelAsked | Unplaced | Inherited | AwaitOver | FromPool


class Place(Struct, frozen=True):
    """Send these to a pool; the functions are those that it does not have yet."""

    pool_id: str
    functions: list[Function]
    tasks: list[Task]
    specs: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """By task id: what the dispatcher adds to the task's ``spec``."""


class CancelAt(Struct, frozen=True):
    """Ask a pool to end these tasks."""

    pool_id: str
    task_ids: list[str]


class Recall(Struct, frozen=True):
    """Ask a pool for these tasks back, if no worker has them yet."""

    pool_id: str
    task_ids: list[str]


class Report(Struct, frozen=True):
    """Tell the endpoint how tasks ended."""

    results: list[Result]
    pool_id: str = ""
    """Where they ended, if a worker had them."""


class Tell(Struct, frozen=True):
    """Tell the endpoint that tasks moved."""

    changes: list[StateChange]
    pool_id: str = ""
    """Where they are, if they run."""


class Lost(Struct, frozen=True):
    """Note on disk that these tasks have been lost once more; they may run again."""

    task_ids: list[str]


class Release(Struct, frozen=True):
    """Give these back to the relay: they have not begun or may run again, and are not here."""

    task_ids: list[str]


Instruction = Place | CancelAt | Recall | Report | Tell | Lost | Release
