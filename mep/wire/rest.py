"""HTTP bodies between SDK or CLI and the relay.

Routes, names and error shapes are those of the Globus Compute web API v2/v3 wherever it has one,
so that either SDK can talk to either service. Our own SDK may send and ask for
``application/msgpack`` instead of JSON on the same routes; then payloads are ``bytes`` instead
of text, and nothing else differs.
"""

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


class Submit(Body, Generic[Payload], frozen=True):
    """``POST /v3/endpoints/{id}/submit`` -> :class:`Submitted`."""

    tasks: dict[str, list[Payload]]
    """Function id -> one packed argument buffer for each call."""
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


class TaskIds(Body, frozen=True):
    """``POST /v2/batch_status`` and ``POST /v3/tasks/cancel``."""

    task_ids: list[str]


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
    failure_code: str | None = None
    exception_payload: Payload | None = None
    """The packed exception where the function itself raised one."""


class BatchStatus(Body, Generic[Payload], frozen=True):
    results: dict[str, TaskStatus[Payload]]
