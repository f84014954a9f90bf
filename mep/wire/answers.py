"""HTTP answers of the relay that no client of ours decodes: declared for the OpenAPI document.

The shapes are those of the Globus Compute and Globus Auth web APIs wherever these have one.
"""

from typing import Any, Literal

import msgspec


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every answer: all that is declared is there."""


class Done(Answer, frozen=True):
    """Of every route that deletes."""

    result: int = 302


class RegisteredFunction(Answer, frozen=True):
    """``POST /v3/functions``."""

    function_uuid: str


class FunctionDescription(Answer, frozen=True):
    """``GET /v2/functions/{id}``."""

    function_uuid: str
    function_name: str
    function_code: str
    description: str | None
    public: bool
    group: str | None
    ha_endpoint_id: str | None
    metadata: dict[str, Any]
    created: float


class EndpointSummary(Answer, frozen=True):
    """One entry of ``GET /v2/endpoints``."""

    uuid: str
    name: str
    display_name: str
    owner_id: str
    multi_user: bool
    public: bool


class ManagerFacts(Answer, frozen=True):
    """What an endpoint's manager said of itself when it last connected."""

    version: str
    python: str
    hostname: str


class EndpointDescription(EndpointSummary, frozen=True):
    """``GET /v2/endpoints/{id}``."""

    allowed_functions: list[str] | None
    authentication_policy: str | None
    subscription_uuid: str | None
    admins: list[str]
    high_assurance: bool
    registered: float
    status: Literal["online", "offline"]
    starts_possible: bool
    last_heartbeat: float | None
    manager: ManagerFacts | None
    metadata: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    """As registered; all of it for those who manage the endpoint."""


class EndpointStatus(Answer, frozen=True):
    """``GET /v2/endpoints/{id}/status``."""

    status: Literal["online", "offline"]
    details: dict[str, Any]


class AllowedFunctions(Answer, frozen=True):
    """``GET /v3/endpoints/{id}/allowed_functions``."""

    endpoint_id: str
    restricted: bool
    functions: list[str]


class LockedEndpoint(Answer, frozen=True):
    """``POST /v3/endpoints/{id}/lock``."""

    endpoint_id: str
    lock_expiration_timestamp: str
    """ISO 8601, UTC."""


class TaskId(Answer, frozen=True):
    """One task of a group."""

    id: str


class TaskGroup(Answer, frozen=True):
    """``GET /v2/taskgroup/{id}``."""

    taskgroup_id: str
    tasks: list[TaskId]


class Cancelled(Answer, frozen=True):
    """``POST /v3/tasks/cancel``."""

    tasks: dict[str, Literal["cancelling", "ended", "unknown"]]


class Group(Answer, frozen=True):
    """One entry of ``GET /v3/groups``."""

    id: str
    name: str
    description: str
    created: float | None
    """None for a group that an identity provider tells of."""
    role: Literal["member", "manager"] | None
    provider: str | None
    """Id of the identity provider that tells who is in it; None: the relay's own group."""


class GroupMember(Answer, frozen=True):
    """Somebody in a group."""

    id: str
    username: str
    role: Literal["member", "manager"]


class GroupDescription(Group, frozen=True):
    """``GET /v3/groups/{id}``, and the answer of what changes one."""

    members: list[GroupMember]
    """Of the relay's own groups; those of others are their provider's to tell."""


class Identity(Answer, frozen=True):
    """An identity, in the words of Globus Auth."""

    id: str
    sub: str
    username: str
    identity_provider: str
    identity_provider_display_name: str
    name: str | None
    email: str | None
    """One's own, or for the relay's administrators."""
    organization: str | None
    status: str = "used"
    identity_type: str = "login"


class Identities(Answer, frozen=True):
    """``GET /v2/api/identities``."""

    identities: list[Identity]


class UserInfo(Answer, frozen=True):
    """``GET /v2/oauth2/userinfo``."""

    sub: str
    preferred_username: str
    name: str | None
    email: str | None
    organization: str | None
    identity_provider: str
    identity_provider_display_name: str
    last_authentication: float | None
    identity_set: list[Identity]


class WhoAmI(Answer, frozen=True):
    """``GET /v3/whoami``."""

    sub: str
    preferred_username: str
    is_admin: bool
    identity_set: list[dict[str, str]]
    """The records as they go into grants, which sites map."""
    groups: list[str]


class NewWebhook(Answer, frozen=True):
    """``POST /v3/webhooks``."""

    webhook_id: str
    secret: str


class Webhook(Answer, frozen=True):
    """One entry of ``GET /v3/webhooks``."""

    webhook_id: str
    url: str
    task_group_id: str | None
    created: float
    failures_in_a_row: int
    next_attempt: float | None
    last_outcome: str | None
    delivered: int
    dropped: int


class Webhooks(Answer, frozen=True):
    """``GET /v3/webhooks``."""

    webhooks: list[Webhook]


class Versions(Answer, frozen=True):
    """``GET /v2/version?service=all``."""

    api: str
    protocol: int
    min_sdk_version: str
    min_ep_version: str


class Health(Answer, frozen=True):
    """``GET /healthz`` and ``GET /readyz``."""

    status: Literal["ok", "draining"]


class Tokens(Answer, frozen=True):
    """``POST /v2/oauth2/token``."""

    access_token: str
    expires_in: int
    resource_server: str
    scope: str
    token_type: str
    other_tokens: list[Any]
    refresh_token: str | msgspec.UnsetType = msgspec.UNSET


class OAuthRefusal(Answer, frozen=True):
    """A refusal that OAuth2 libraries read (RFC 6749, 5.2), and Globus Compute's SDK too."""

    error: str
    error_description: str
    status: str
    code: str
    message: str
    http_status_code: int


class Revoked(Answer, frozen=True):
    """``POST /v2/oauth2/token/revoke``."""

    active: bool


class DeviceLogin(Answer, frozen=True):
    """``POST /v2/oauth2/device_authorization`` (RFC 8628, 3.2)."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


class ActionProvider(Answer, frozen=True):
    """``GET /actions/``."""

    types: list[str]
    api_version: str
    globus_auth_scope: str
    title: str
    subtitle: str
    admin_contact: str
    synchronous: bool
    log_supported: bool
    visible_to: list[str]
    runnable_by: list[str]
    administered_by: list[str]
    maximum_deadline: str
    input_schema: dict[str, Any]


class ActionStatus(Answer, frozen=True):
    """Of an action that was run."""

    action_id: str
    status: Literal["ACTIVE", "SUCCEEDED", "FAILED"]
    creator_id: str
    monitor_by: list[str]
    manage_by: list[str]
    start_time: str
    release_after: str
    display_status: str
    details: dict[str, Any]
    label: str | msgspec.UnsetType = msgspec.UNSET
    completion_time: str | msgspec.UnsetType = msgspec.UNSET
