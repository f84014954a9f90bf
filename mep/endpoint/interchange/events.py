"""What the ledger is told (events), and what it says is to be done (instructions). All frozen."""

from collections.abc import Sequence

from msgspec import Struct

from mep.wire.tasks import Function, Result, StateChange, Task


class Submitted(Struct, frozen=True):
    """The endpoint hands tasks over."""

    functions: Sequence[Function]
    tasks: Sequence[Task]


class CancelAsked(Struct, frozen=True):
    """The endpoint no longer wants these."""

    task_ids: Sequence[str]


class PoolUp(Struct, frozen=True):
    """A node pool said hello."""

    pool_id: str
    workers: int
    credit: int


class Started(Struct, frozen=True):
    """Workers of this pool have these tasks: (task id, epoch seconds)."""

    pool_id: str
    tasks: Sequence[tuple[str, float]]


class Finished(Struct, frozen=True):
    """Tasks of this pool ended."""

    pool_id: str
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
    given, in order, the first `begun` may have been seen by a worker; None: any may have.
    """

    pool_id: str
    reason: str
    begun: int | None


Event = (
    Submitted
    | CancelAsked
    | PoolUp
    | Started
    | Finished
    | Returned
    | Unplaced
    | PoolHeld
    | PoolLost
)


class Place(Struct, frozen=True):
    """Send these to a pool; the functions are those that it does not have yet."""

    pool_id: str
    functions: list[Function]
    tasks: list[Task]


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


class Tell(Struct, frozen=True):
    """Tell the endpoint that tasks moved."""

    changes: list[StateChange]


Instruction = Place | CancelAt | Recall | Report | Tell
