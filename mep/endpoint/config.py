"""The settings of a user endpoint, declared once.

Names and defaults are those of Globus Compute's user endpoints, so that its published templates
work; a setting that has no counterpart here is accepted and says so.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mep.endpoint.errors import ConfigRefused
from mep.endpoint.permits import Permits
from mep.wire import settings
from mep.wire.parent import Parent
from mep.wire.strategies import data_is_json

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
        Meta(
            description="Functions that may run: UUID or UUID@SHA256. Besides the manager's list."
        ),
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

    def permits(self, parent: Parent) -> Permits:
        """The check of functions that this configuration and its site ask for."""
        return Permits([self.allowed_functions, parent.allowed_functions])

    def data_remark(self, permits: Permits) -> str:
        """What to say where a list of functions can be got around; else nothing."""
        names = self.engine.get("allowed_serializers")
        if not permits.restricted or not isinstance(names, list | None):
            return ""
        try:
            limited = data_is_json(names)
        except ValueError:
            return ""  # the engine says what is wrong
        return "" if limited else UNLIMITED


UNLIMITED = (
    "allowed_functions does not limit what runs, because arguments may be pickles, which can run "
    "anything: set engine.allowed_serializers to those for functions and JSONData"
)


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
