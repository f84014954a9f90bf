"""What the repositories take and give: plain frozen records."""

from dataclasses import dataclass

from mep.wire.rest import RegisterEndpoint
from mep.wire.tasks import Failure, Outcome, Result


@dataclass(frozen=True, slots=True)
class User:
    """A person, or a service client."""

    id: str
    username: str
    name: str
    email: str
    organization: str
    is_admin: bool
    created: float


@dataclass(frozen=True, slots=True)
class TokenOwner:
    """Whom a token speaks for: exactly one of `user` and `endpoint_id`."""

    user: User | None
    endpoint_id: str | None
    expires: float | None


@dataclass(frozen=True, slots=True)
class FunctionRecord:
    """A registered function without its body."""

    id: str
    owner: str
    name: str
    size: int
    description: str | None
    public: bool
    group_id: str | None
    ha_endpoint_id: str | None
    meta: str
    created: float


@dataclass(frozen=True, slots=True)
class EndpointRecord:
    """A registered (multi-user or single-user) endpoint."""

    id: str
    owner: str
    registration: RegisterEndpoint
    key_version: int
    created: float


@dataclass(frozen=True, slots=True)
class UserEndpointRecord:
    """What a start of this user endpoint needs to know."""

    id: str
    endpoint_id: str
    key_version: int
    user: User
    options: bytes
    runtime: bytes


@dataclass(frozen=True, slots=True)
class NewTask:
    """One accepted call."""

    task_id: str
    function_id: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Submission:
    """One accepted submit: everything that becomes durable before the answer."""

    owner: str
    group_id: str
    endpoint_id: str
    user_endpoint_id: str
    options: bytes
    runtime: bytes
    resource_specification: bytes
    result_serializers: tuple[str, ...]
    tasks: tuple[NewTask, ...]
    at: float
    request_id: str | None = None
    """The submit's name for itself; a repetition gets `answer` again and does nothing."""
    answer: bytes = b""


@dataclass(frozen=True, slots=True)
class UnfinishedTask:
    """A task that had not ended when the relay last stopped."""

    task_id: str
    function_id: str
    function_size: int
    group_id: str
    endpoint_id: str
    user_endpoint_id: str
    payload: bytes | None
    """None where it was left on disk."""
    payload_size: int
    resource_specification: bytes
    result_serializers: tuple[str, ...]
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class Ending:
    """How one task ended, to be made durable."""

    result: Result
    dispatched: float
    at: float


@dataclass(frozen=True, slots=True)
class StoredTask:
    """A task as a status request sees it."""

    task_id: str
    created: float
    dispatched: float | None
    began: float | None
    ended: float | None
    outcome: Outcome | None
    result: bytes
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class Delivered:
    """A committed result, with its place in the order of commits."""

    seq: int
    result: Result
