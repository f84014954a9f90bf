"""What happens to delivery. A connection is a number that is never used again."""

from dataclasses import dataclass

from mep.wire.tasks import Result, StateChange
from mep_cloud.delivery.state import Call


@dataclass(frozen=True, slots=True)
class TasksSubmitted:
    """Tasks for one user endpoint are on disk."""

    endpoint_id: str
    user_endpoint_id: str
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """The owner no longer wants these tasks; the wish is on disk."""

    task_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TasksExpired:
    """These tasks have not ended within their time-to-live."""

    task_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EndpointRemoved:
    """An endpoint was deleted: what waits for it fails."""

    endpoint_id: str


@dataclass(frozen=True, slots=True)
class ManagerOpened:
    """A manager said hello; an older connection of the same endpoint is replaced."""

    connection: int
    endpoint_id: str


@dataclass(frozen=True, slots=True)
class ManagerClosed:
    connection: int


@dataclass(frozen=True, slots=True)
class WardenUp:
    connection: int
    boot_id: str
    running: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WardenDown:
    connection: int


@dataclass(frozen=True, slots=True)
class Started:
    connection: int
    user_endpoint_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    connection: int
    user_endpoint_id: str
    nonce: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Exited:
    connection: int
    user_endpoint_id: str
    nonce: str
    """Empty for an adopted process."""
    code: str
    """Empty when the process did not say why it could not come up."""
    message: str
    how: str
    """Exit status or signal in words."""


@dataclass(frozen=True, slots=True)
class StartUnsigned:
    """The relay could not make the grant that it was asked for."""

    user_endpoint_id: str
    nonce: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class StartPostponed:
    """The relay cannot make the grant now, and tries again before long."""

    user_endpoint_id: str
    nonce: str


@dataclass(frozen=True, slots=True)
class EndpointOpened:
    """A user endpoint said hello with the token of the grant with this nonce."""

    connection: int
    endpoint_id: str
    user_endpoint_id: str
    nonce: str
    credit: int
    held: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EndpointClosed:
    connection: int


@dataclass(frozen=True, slots=True)
class CreditGranted:
    connection: int
    tasks: int


@dataclass(frozen=True, slots=True)
class ResultsArrived:
    connection: int
    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class StatesArrived:
    connection: int
    changes: tuple[StateChange, ...]


@dataclass(frozen=True, slots=True)
class LeavingWished:
    connection: int


@dataclass(frozen=True, slots=True)
class ResultsCommitted:
    """The results of an earlier ``CommitResults`` are on disk."""

    task_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ResultsNotCommitted:
    """The disk would not take them."""

    task_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TimePassed:
    """A deadline may have been reached."""


Event = (
    TasksSubmitted
    | CancelRequested
    | TasksExpired
    | EndpointRemoved
    | ManagerOpened
    | ManagerClosed
    | WardenUp
    | WardenDown
    | Started
    | Refused
    | Exited
    | StartUnsigned
    | StartPostponed
    | EndpointOpened
    | EndpointClosed
    | CreditGranted
    | ResultsArrived
    | StatesArrived
    | LeavingWished
    | ResultsCommitted
    | ResultsNotCommitted
    | TimePassed
)
