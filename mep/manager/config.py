"""``config.yaml``: every setting of an endpoint, declared once.

Names are Globus Compute's wherever it has one, so that a working file can be brought along. What
root acts on (mapping, PAM, paths, limits) is decided by ``policy.toml`` alone; where this file
says something about it too, :mod:`mep.manager.site` refuses a disagreement.
"""

import ipaddress
import uuid
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec
import yaml
from msgspec import Meta

from mep.wire import allowed, settings
from mep.wire.parent import Parent
from mep.wire.settings import SettingsError

FILE: Final = "config.yaml"


class Pam(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``pam``: must agree with ``[pam]`` of ``policy.toml``, which decides."""

    enable: Annotated[bool, Meta(description="Whether users' sessions go through PAM.")] = True
    service_name: Annotated[str, Meta(description="The file below /etc/pam.d.")] = "mep"


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one endpoint."""

    relay_url: Annotated[
        str, Meta(description="The relay: https://HOST[:PORT]; http:// on loopback alone.")
    ]
    ca_file: Annotated[
        str | None,
        Meta(description="CA certificates to trust for the relay, besides the system's."),
    ] = None
    allow_plain_http: Annotated[
        bool,
        Meta(description="Accept an http:// relay beyond loopback. Anyone on the way reads all."),
    ] = False
    multi_user: Annotated[
        bool,
        Meta(description="Whether people are mapped to accounts; false: the owner's tasks alone."),
    ] = True
    display_name: Annotated[
        str | None, Meta(description="The name that people see in lists of endpoints.")
    ] = None
    public: Annotated[
        bool, Meta(description="Ask the relay's operator to list it for all. No access control.")
    ] = False
    allowed_functions: Annotated[
        tuple[str, ...] | None,
        Meta(
            description="The only functions that may run here, as UUID or UUID@SHA256 of the body; "
            "absent: any; empty: none."
        ),
    ] = None
    admins: Annotated[
        tuple[uuid.UUID, ...] | None,
        Meta(description="Ids of people and groups that administer it beside its owner."),
    ] = None
    visible_to: Annotated[
        tuple[uuid.UUID, ...] | None,
        Meta(description="Ids of people and groups that are shown it; absent: who has its id."),
    ] = None
    authentication_policy: Annotated[
        uuid.UUID | None, Meta(description="The relay's policy that users must satisfy.")
    ] = None
    high_assurance: Annotated[
        bool, Meta(description="Whether only high-assurance functions run here.")
    ] = False
    heartbeat_period: Annotated[
        float, Meta(ge=1, le=3600, description="Seconds between user endpoints' heartbeats.")
    ] = 30.0
    debug: Annotated[bool, Meta(description="Log what is useful to developers too.")] = False
    allow_unencrypted_pools: Annotated[
        bool,
        Meta(
            description="Whether a template's `encrypted: false` is followed. Then whoever can "
            "listen on the network between nodes and endpoint reads and alters tasks and results."
        ),
    ] = False
    user_config_template_path: Annotated[
        str | None, Meta(description="Must agree with `template` of policy.toml.")
    ] = None
    user_config_schema_path: Annotated[
        str | None, Meta(description="Must agree with `schema` of policy.toml.")
    ] = None
    identity_mapping_config_path: Annotated[
        str | None, Meta(description="Must agree with `mapping` of policy.toml.")
    ] = None
    pam: Annotated[Pam | None, Meta(description="Must agree with [pam] of policy.toml.")] = None


MEANINGLESS: Final = {
    "amqp_port": "links to the relay use its HTTPS port",
    "audit_log_path": "the audit logs are the warden's audit.log and the manager's events.jsonl",
    "email": "the relay notifies nobody by mail",
    "environment": "relay_url names the relay",
    "local_compute_services": "relay_url names the relay",
    "mu_child_ep_grace_period_s": "a start is never lost between two processes here",
    "subscription_id": "a relay of your own needs no subscription",
}
"""Keys of Globus Compute that change nothing here: accepted with a warning."""

MISPLACED: Final = {
    "detach_endpoint": "use `mep start --detach` or systemd",
    "endpoint_setup": "it belongs into user_config_template.yaml.j2",
    "endpoint_teardown": "it belongs into user_config_template.yaml.j2",
    "engine": "it belongs into user_config_template.yaml.j2, where each user's endpoint is set up",
    "force_mu_allow_same_user": "a single-user endpoint is `mep configure` run by its owner",
    "heartbeat_threshold": "it belongs into user_config_template.yaml.j2",
    "idle_heartbeats_hard": "it belongs into user_config_template.yaml.j2",
    "idle_heartbeats_soft": "it belongs into user_config_template.yaml.j2",
}
"""Keys of Globus Compute that would be lost here: refused, saying where they go."""


def decode(text: str, where: str = FILE) -> tuple[Config, tuple[str, ...]]:
    """The settings in the text of a ``config.yaml``, and warnings for its author.

    Raises:
        SettingsError: not YAML, an unknown or misplaced key, a value that cannot be used.
    """
    raw = _mapping(text, where)
    for key in MISPLACED.keys() & raw.keys():
        raise SettingsError(f"{where}: {key!r} has no place here: {MISPLACED[key]}")
    ignored = sorted(MEANINGLESS.keys() & raw.keys())
    warnings = tuple(f"{where}: {key!r} is ignored: {MEANINGLESS[key]}" for key in ignored)
    config = settings.convert({k: v for k, v in raw.items() if k not in ignored}, Config, where)
    url = check_relay_url(config.relay_url, allow_plain=config.allow_plain_http)
    functions = _allowed(config, where)
    config = msgspec.structs.replace(config, relay_url=url, allowed_functions=functions)
    return config, warnings


def _allowed(config: Config, where: str) -> tuple[str, ...] | None:
    """``allowed_functions`` as it is understood."""
    if config.allowed_functions is None:
        return None
    try:
        return tuple(str(allowed.parse(text)) for text in config.allowed_functions)
    except ValueError as error:
        raise SettingsError(f"{where}: allowed_functions: {error}") from error


def parent(text: str, *, endpoint_id: str, name: str, require_json_data: bool = False) -> Parent:
    """What user endpoints and templates are told of the site whose ``config.yaml`` is `text`.

    Raises:
        SettingsError: as :func:`decode`.
    """
    config, _ = decode(text)
    own = set(msgspec.structs.asdict(_EMPTY_PARENT))
    return Parent(
        endpoint_id=endpoint_id,
        endpoint_name=name,
        relay_url=config.relay_url,
        ca_file=config.ca_file,
        display_name=config.display_name,
        multi_user=config.multi_user,
        allowed_functions=config.allowed_functions,
        require_json_data=require_json_data,
        heartbeat_period=config.heartbeat_period,
        debug=config.debug,
        settings={k: v for k, v in _mapping(text, FILE).items() if k not in own},
    )


_EMPTY_PARENT: Final = Parent(endpoint_id="", endpoint_name="", relay_url="")


def check_relay_url(url: str, *, allow_plain: bool = False) -> str:
    """`url` without a trailing slash.

    Raises:
        SettingsError: not ``https://HOST[:PORT]``, or plain HTTP to another machine.
    """
    parts = urlsplit(url)
    try:
        rest = (parts.username, parts.query, parts.fragment, parts.path.rstrip("/"))
        well_formed = bool(parts.hostname) and parts.port != 0 and not any(rest)
    except ValueError:
        well_formed = False
    if not well_formed or parts.scheme not in ("http", "https"):
        raise SettingsError(f"relay_url must be https://HOST or https://HOST:PORT, not {url!r}")
    if parts.scheme == "http" and not allow_plain and not _is_loopback(parts.hostname or ""):
        raise SettingsError(
            f"relay_url {url!r} would send tokens and data unencrypted to another machine; use "
            "https://, or set allow_plain_http: true where the network itself is trusted"
        )
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _mapping(text: str, where: str) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{where} is not YAML: {error}") from error
    if raw is None:
        return {}
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise SettingsError(f"{where} must be a mapping of settings")
    return raw


def read_text(path: Path) -> str:
    """A configuration file's text.

    Raises:
        SettingsError: it is absent, unreadable or no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(f"{path} does not exist; `mep configure NAME` writes it") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 text: {error.reason}") from error
