"""HTTP bodies between SDK or CLI and the relay.

Routes, names and error shapes are those of the Globus Compute web API v2/v3 wherever it has one,
so that either SDK can talk to either service. Our own SDK may send and ask for
``application/msgpack`` instead of JSON on the same routes; then payloads are ``bytes`` instead
of text, and nothing else differs.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec

MSGPACK: Final = "application/msgpack"

Payload = TypeVar("Payload", str, bytes)


class Body(msgspec.Struct, frozen=True, omit_defaults=True):
    """Base of every HTTP body. Unknown fields are ignored, as the hosted service does."""


class ErrorBody(Body, frozen=True, omit_defaults=False):
    """Every refusal: ``{"status": "Failed", "code", "message", "http_status_code", "reason"}``."""

    code: str
    message: str
    http_status_code: int
    status: str = "Failed"
    reason: str = ""
    task_error: bool = False

    def __post_init__(self) -> None:
        """The hosted service repeats the message as the reason."""
        if not self.reason:
            msgspec.structs.force_setattr(self, "reason", self.message)


class FunctionMeta(Body, frozen=True):
    python_version: str = ""
    sdk_version: str = ""
    serde_identifier: str | None = None
    container: str | None = None
    """Reference of an image that the function is meant for. It is told, not acted upon: where a
    function runs is the business of the endpoint's template."""
    labels: dict[str, Any] | None = None
    """The owner's own, at most :data:`FUNCTION_META` bytes of JSON together with the rest."""


FUNCTION_META: Final = 16 * 1024
"""Bytes of a function's metadata as JSON."""
FUNCTION_NAME: Final = 1024
"""Characters of a function's name."""
FUNCTION_DESCRIPTION: Final = 64 * 1024
"""Characters of a function's description."""
SEARCH_PAGE: Final = 100
"""Functions in one answer to a search, at most."""
REGISTRATION: Final = 4 * 1024 * 1024
"""Bytes of the registration of an endpoint, with configuration, template and schema."""


class RegisterFunction(Body, frozen=True):
    """``POST /v3/functions`` -> ``{"function_uuid"}``."""

    function_name: str
    function_code: str
    serialized: bool = True
    """False: `function_code` is source text, which the relay wraps as ``st\\nname:source``."""
    meta: FunctionMeta | None = None
    description: str | None = None
    public: bool = False
    group: str | None = None
    ha_endpoint_id: str | None = None


class FoundFunction(Body, frozen=True, omit_defaults=False):
    """One entry of a search: everything but the code."""

    function_uuid: str
    function_name: str
    description: str | None
    owner: str
    public: bool
    group: str | None
    metadata: FunctionMeta
    created: float
    """Epoch seconds."""


class FoundFunctions(Body, frozen=True, omit_defaults=False):
    """``GET /v3/functions?q=&offset=&limit=``: newest first."""

    functions: list[FoundFunction]
    has_next_page: bool
    offset: int


BLOBS_PATH: Final = "/v3/blobs"
"""``POST`` -> :class:`Uploaded`: arguments too large for a submit. The body is the buffers as they
are; ``Content-Length`` and ``Content-Digest`` (:func:`content_digest`) are required.
"""


def arguments_path(task_id: str) -> str:
    """``GET``, with the user endpoint's token: a task's large arguments."""
    return f"/v3/tasks/{task_id}/arguments"


def result_path(task_id: str) -> str:
    """``POST`` -> :class:`Uploaded`, with the user endpoint's token, and ``GET``, with the owner's:
    a task's large result.
    """
    return f"/v3/tasks/{task_id}/result"


def content_digest(sha256: bytes) -> str:
    """The ``Content-Digest`` header (:rfc:`9530`) of a body with this digest."""
    return f"sha-256=:{base64.b64encode(sha256).decode()}:"


class Uploaded(Body, frozen=True, omit_defaults=False):
    """Large arguments or a large result that the relay has on disk."""

    blob_id: str
    size: int
    sha256: str
    """64 hex digits."""


class Submit(Body, Generic[Payload], frozen=True):
    """``POST /v3/endpoints/{id}/submit`` -> :class:`Submitted`."""

    tasks: Mapping[str, Sequence[Payload | Uploaded]]
    """Function id -> one packed argument buffer for each call, or where it was uploaded to. What is
    uploaded serves one call."""
    task_group_id: str | None = None
    create_queue: bool = False
    user_endpoint_config: dict[str, Any] | None = None
    resource_specification: dict[str, Any] | None = None
    result_serializers: list[str] | None = None
    user_runtime: dict[str, Any] | None = None
    request_id: str | None = None
    """Made by the client. A relay that answers it back promises to take one request of this id
    once: a repetition gets the answer of the first. Only then does our SDK repeat a submit whose
    answer it did not see."""


class Submitted(Body, frozen=True):
    """Answered once the whole batch is on disk; order and count per function are kept."""

    request_id: str
    task_group_id: str
    endpoint_id: str
    tasks: dict[str, list[str]]


class EndpointMetadata(Body, frozen=True):
    endpoint_version: str = ""
    python_version: str = ""
    hostname: str = ""
    local_user: str = ""
    endpoint_config: str = ""
    user_environment: str = ""
    """The file whose variables every user's process gets; told to those who manage the endpoint."""
    user_config_template: str = ""
    user_config_schema: Any = None


class RegisterEndpoint(Body, frozen=True):
    """``POST /v3/endpoints`` or ``PUT /v3/endpoints/{id}``, with an administrator's token."""

    endpoint_name: str
    display_name: str | None = None
    multi_user: bool = False
    public: bool = False
    high_assurance: bool = False
    metadata: EndpointMetadata | None = None
    allowed_functions: list[str] | None = None
    authentication_policy: str | None = None
    subscription_uuid: str | None = None
    admins: list[str] | None = None
    """Ids of users and groups that manage it, besides the owner."""
    visible_to: list[str] | None = None
    """Ids of users and groups that find it and may describe it; None: whoever knows its id may
    describe it. `public` takes the relay operator's word besides."""


class RegisteredEndpoint(Body, frozen=True):
    """The answer to our own ``mep register``; the secrets appear here, once, and nowhere else."""

    endpoint_id: str
    grant_key: str
    """Hex, 32 bytes: HMAC(master, endpoint id, key version). For root at the site only."""
    key_version: int
    link_token: str
    """The manager's credential: opens its link, reports status, nothing else."""
    owner_identities: list[str]
    """Identity ids of whoever registered it; a single-user endpoint serves these alone."""


class GrantKey(Body, frozen=True):
    """``POST /v3/endpoints/{id}/keys``: the next key of an endpoint, for root at the site only."""

    endpoint_id: str
    grant_key: str
    """Hex, 32 bytes."""
    key_version: int


class KeyVersion(Body, frozen=True):
    """``PUT /v3/endpoints/{id}/keys``: the version that signs from now on; also the answer."""

    key_version: int


class RegisterWebhook(Body, frozen=True):
    """``POST /v3/webhooks`` -> ``{"webhook_id", "secret"}``."""

    url: str
    task_group_id: str | None = None
    """Tell of this group's tasks alone; else of all of the user's."""


class NewGroup(Body, frozen=True):
    """``POST /v3/groups`` -> the group."""

    name: str
    description: str = ""


class NewMember(Body, frozen=True):
    """``POST /v3/groups/{id}/members`` -> the group."""

    user: str
    """Id or username."""
    role: str = "member"
    """``member`` or ``manager``."""


class TaskIds(Body, frozen=True):
    """``POST /v2/batch_status`` and ``POST /v3/tasks/cancel``."""

    task_ids: list[str]


ASK_AGAIN: Final = "ask_again"


class TaskStatus(Body, Generic[Payload], frozen=True, omit_defaults=False):
    """``GET /v2/tasks/{id}``, and each value of a batch status."""

    task_id: str
    status: str
    """``success``, ``failed``, or (pending) one of :data:`mep.wire.tasks.TaskState`."""
    result: Payload | None = None
    exception: str | None = None
    """Text of the failure."""
    completion_t: str | None = None
    """Epoch seconds, as text."""
    details: dict[str, Any] | None = None
    """:data:`ASK_AGAIN` is true in it where the task has ended and the answer had no more room."""
    failure_code: str | None = None
    exception_payload: Payload | None = None
    """The packed exception where the function itself raised one."""
    result_blob: Uploaded | None = None
    """In the place of `result` or `exception_payload`, where that is large and the client takes
    msgpack; see :func:`result_path`."""


class TaskRecord(Body, frozen=True, omit_defaults=False):
    """``GET /v3/tasks/{id}``: all about a task, but for its payload and result."""

    task_id: str
    status: str
    """One of :data:`mep.wire.tasks.Outcome` or :data:`mep.wire.tasks.TaskState`."""
    transitions: dict[str, float]
    """Epoch seconds of ``created``, ``dispatched`` (to the user endpoint), ``waiting-for-nodes``,
    ``cancel-requested``, ``began`` (by a worker, on its clock) and ``ended``, as far as it got."""
    function_uuid: str
    function_name: str
    endpoint_id: str
    user_endpoint_id: str
    task_group_id: str
    payload_bytes: int
    result_bytes: int
    resource_specification: dict[str, Any] | None
    failure_code: str | None
    failure_message: str | None


class ListedTask(Body, frozen=True, omit_defaults=False):
    """One entry of a list of tasks."""

    task_id: str
    status: str
    """As in :class:`TaskRecord`."""
    function_uuid: str
    function_name: str
    endpoint_id: str
    task_group_id: str
    created: float
    """Epoch seconds, as `ended`."""
    ended: float | None
    failure_code: str | None


class ListedTasks(Body, frozen=True, omit_defaults=False):
    """``GET /v3/tasks?task_group_id=&limit=``: the newest task groups first, in each the newest
    tasks first.
    """

    tasks: list[ListedTask]


TASKS_PAGE: Final = 1000
"""Tasks in one list, at most; so many may be asked for, or cancelled, in one request anywhere."""


class RegisterContainer(Body, frozen=True):
    """``POST /v3/containers`` -> :class:`Container`."""

    container_type: str
    """``docker``, ``podman``, ``apptainer``, ``singularity`` or whatever a template knows."""
    location: str
    """The image, as the container runtime takes it."""
    name: str = ""
    description: str = ""


class Container(Body, frozen=True, omit_defaults=False):
    """``GET /v3/containers/{id}``: for whoever knows the id."""

    container_uuid: str
    container_type: str
    location: str
    name: str
    description: str
    created: float
    """Epoch seconds."""


class BatchStatus(Body, Generic[Payload], frozen=True):
    results: dict[str, TaskStatus[Payload]]
