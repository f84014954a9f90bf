"""What the repositories take and give: plain frozen records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mep.wire.rest import RegisterEndpoint
from mep.wire.tasks import Blob, Failure, Outcome, Result

Role = Literal["member", "manager"]
"""Of a person in a group."""


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
    groups: frozenset[str] = frozenset()
    """Ids of the groups that the bearer of a token is in; empty where nobody asks."""
    signed_in: float | None = None
    """When the bearer of a token proved who they are; None where that is not known."""
    provider: str | None = None
    """Id of the identity provider that vouches for them; None: this relay itself."""
    identity_set: str | None = None
    """Their identity records as JSON, by the provider's last word; None: the relay's own user."""
    claimed: frozenset[str] = frozenset()
    """Names of the groups that the provider last told."""
    proofs: Mapping[str, float] | None = None
    """As `signed_in`, for each identity of the set, where the provider tells."""


@dataclass(frozen=True, slots=True)
class TokenOwner:
    """Whom a token speaks for: exactly one of `user` and `endpoint_id`."""

    user: User | None
    endpoint_id: str | None
    expires: float | None
    family: str | None = None
    """The login that the token came from; None where it came from none."""


@dataclass(frozen=True, slots=True)
class Login:
    """Who logged in, and when they proved who they are."""

    user_id: str
    signed_in: float
    proved: str | None = None
    """Id of the identity that they proved then; None: the one that speaks, their user's."""


@dataclass(frozen=True, slots=True)
class NewTokens:
    """An access token and a refresh token, to be stored."""

    access: bytes
    """SHA-256, as is `refresh`."""
    refresh: bytes
    label: str
    at: float
    expires: float
    refresh_expires: float


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """A login on its way: a terminal waits until somebody approves its code on the page."""

    hash: bytes
    user_code: str
    client_id: str
    scope: str
    created: float
    expires: float
    interval: float


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
    public: bool = False
    """By the word of the relay's operator, on the wish of the registration."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What an endpoint demands of whoever submits, beside a valid token. All of it must hold."""

    id: str
    name: str
    allowed_domains: tuple[str, ...] = ()
    """Of usernames: ``example.org``, or ``*.example.org`` for all below. Empty: any."""
    excluded_domains: tuple[str, ...] = ()
    provider: str | None = None
    """Id of the identity provider that must know the person."""
    session_s: float | None = None
    """How long ago they may have proved who they are."""


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """People who share functions."""

    id: str
    name: str
    description: str
    created: float


@dataclass(frozen=True, slots=True)
class Member:
    """A person in a group."""

    id: str
    username: str
    role: Role


@dataclass(frozen=True, slots=True)
class Presence:
    """What an endpoint's manager last said of itself."""

    last_heartbeat: float
    version: str
    python: str
    hostname: str


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
    blob: Blob | None = None
    """Where the arguments are, if they are too large for `payload`."""

    @property
    def size(self) -> int:
        """Bytes of the arguments."""
        return len(self.payload) if self.blob is None else self.blob.size


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
    owner: str
    cancel_requested: bool
    blob: Blob | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How one task ended, to be made durable."""

    result: Result
    dispatched: float
    at: float
    waited: float = 0.0
    """When it began to wait for nodes; 0: it never did."""
    arguments: str | None = None
    """Id of the blob that nothing needs any more."""


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
    waited: float | None = None
    cancel_requested: float | None = None
    blob: Blob | None = None
    """Where the result is, if it is too large for `result`."""
    left_out: bool = False
    """There is a result, which was not read."""

    @property
    def result_size(self) -> int:
        """Bytes of the result."""
        return len(self.result) if self.blob is None else self.blob.size


@dataclass(frozen=True, slots=True)
class TaskOrigin:
    """What a task was made of."""

    function_id: str
    function_name: str
    group_id: str
    endpoint_id: str
    user_endpoint_id: str
    payload_size: int
    resource_specification: bytes


@dataclass(frozen=True, slots=True)
class Webhook:
    """Whom to tell of ended tasks."""

    id: str
    owner: str
    url: str
    task_group_id: str | None
    created: float
    attempts: int = 0
    next_at: float = 0.0
    last_outcome: str = ""
    delivered: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class News:
    """That a task ended, for one webhook."""

    webhook_id: str
    task_id: str
    task_group_id: str
    state: str
    ended: float
    created: float


@dataclass(frozen=True, slots=True)
class Action:
    """One run of functions by the action provider's API."""

    id: str
    owner: str
    digest: bytes
    label: str | None
    monitor_by: list[str]
    manage_by: list[str]
    release_after: str
    task_group_id: str
    task_ids: list[str]
    created: float


@dataclass(frozen=True, slots=True)
class Delivered:
    """A committed result, with its place in the order of commits."""

    seq: int
    result: Result
