"""The settings of a user endpoint, declared once.

Names and defaults are those of Globus Compute's user endpoints, so that its published templates
work; a setting that has no counterpart here is accepted and says so.
"""

import uuid
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mep.endpoint.errors import ConfigRefused
from mep.wire import settings
from mep.wire.parent import Parent

_NO_EFFECT = "Accepted for Globus Compute's configurations; has no effect here."


class UserEndpointConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the administrator's template renders to."""

    engine: Annotated[dict[str, Any], Meta(description="The engine and its settings; see there.")]
    display_name: Annotated[str | None, Meta(description="A name for people.")] = None
    heartbeat_period: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="Seconds; unit of the idle settings. Default: the manager's."),
    ] = None
    idle_heartbeats_soft: Annotated[
        int,
        Meta(ge=0, description="Leave after so many heartbeat periods without any task. 0: never."),
    ] = 0
    idle_heartbeats_hard: Annotated[
        int,
        Meta(
            ge=0,
            description="Leave after so many heartbeat periods in which no task or result moved, "
            "even if tasks are there: they fail. Only where idle_heartbeats_soft is set. 0: never.",
        ),
    ] = 5760
    endpoint_setup: Annotated[
        str | None,
        Meta(description="bash commands, run before the engine starts; failing refuses the start."),
    ] = None
    endpoint_teardown: Annotated[
        str | None, Meta(description="bash commands, run after the engine has ended.")
    ] = None
    allowed_functions: Annotated[
        list[str] | None,
        Meta(description="Ids of the functions that may run. Besides the manager's own list."),
    ] = None
    high_assurance: Annotated[
        bool,
        Meta(description="Report every task to the manager's audit log. Or set in config.yaml."),
    ] = False
    debug: Annotated[bool, Meta(description="Log at debug level.")] = False
    heartbeat_threshold: Annotated[float | None, Meta(description=_NO_EFFECT)] = None
    authentication_policy: Annotated[str | None, Meta(description=_NO_EFFECT)] = None
    subscription_id: Annotated[str | None, Meta(description=_NO_EFFECT)] = None
    amqp_port: Annotated[int | None, Meta(description=_NO_EFFECT)] = None
    environment: Annotated[str | None, Meta(description=_NO_EFFECT)] = None
    local_compute_services: Annotated[bool, Meta(description=_NO_EFFECT)] = False
    admins: Annotated[list[str] | None, Meta(description=_NO_EFFECT)] = None
    public: Annotated[bool, Meta(description=_NO_EFFECT)] = False
    paths: Annotated[dict[str, Any] | None, Meta(description=_NO_EFFECT)] = None

    def heartbeat_s(self, parent: Parent) -> float:
        """The heartbeat period in seconds."""
        return self.heartbeat_period or parent.heartbeat_period

    def permits(self, parent: Parent) -> "Permits":
        """The check of functions that this configuration and its site ask for."""
        return Permits([self.allowed_functions, parent.allowed_functions])


class Permits:
    """Which functions may run: those that every list names; None is no list."""

    def __init__(self, lists: list[Any]) -> None:
        """Raises: ConfigRefused: an entry is no UUID."""
        self._lists = [frozenset(map(_canonical, names)) for names in lists if names is not None]

    def __call__(self, function_id: str) -> bool:
        """Whether this function may run."""
        return all(function_id.lower() in names for names in self._lists)


def _canonical(function_id: str) -> str:
    try:
        return str(uuid.UUID(function_id))
    except ValueError as error:
        raise ConfigRefused(f"allowed_functions: {function_id!r} is no UUID") from error


def convert(raw: dict[str, Any]) -> UserEndpointConfig:
    """Validate what a template rendered to.

    Raises:
        ConfigRefused: an unknown setting (with the nearest known one), a wrong type, no engine.
    """
    where = "the configuration of the user endpoint"
    try:
        return settings.convert(raw, UserEndpointConfig, where)
    except settings.SettingsError as error:
        raise ConfigRefused(str(error)) from error
