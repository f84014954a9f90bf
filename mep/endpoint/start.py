"""From a handover to a configuration: everything before the engine, as the user."""

import json
import logging
import os
import pwd
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from mep.endpoint import config, environment, logs
from mep.endpoint.config import UserEndpointConfig
from mep.endpoint.errors import ConfigRefused, StartFailed, TemplateFailed
from mep.endpoint.permits import Permits
from mep.endpoint.template.names import Site
from mep.endpoint.template.render import render
from mep.wire.handover import Handover
from mep.wire.parent import Parent

log = logging.getLogger(__name__)

_VERSION: Final = re.compile(r"\d+(\.[0-9a-z+]+){1,5}")


class Account(msgspec.Struct, frozen=True):
    """The mapped account, which this process runs as."""

    uname: str
    uid: int
    gid: int
    gecos: str
    dir: str
    shell: str
    groups: tuple[int, ...] = ()


class Facts(msgspec.Struct, frozen=True):
    """What root states, see :class:`mep.wire.handover.Handover`."""

    endpoint_id: str
    user_endpoint_id: str
    identity_id: str
    identities: tuple[str, ...] = ()
    events_socket: str | None = None
    template_directory: str | None = None


@dataclass(frozen=True)
class Prepared:
    """A user endpoint that knows what to run, and where."""

    facts: Facts
    parent: Parent
    config: UserEndpointConfig
    permits: Permits
    directory: Path
    """``~/.mep/<user endpoint id>``, 0700, the user's own."""
    high_assurance: bool
    """Whether it must not go on without an audit log."""
    submitted: str = ""
    """Version of the Python that tasks come from; empty where the SDK did not say."""


def prepare(handover: Handover, variables: MutableMapping[str, str]) -> Prepared:
    """Environment, template, configuration.

    Args:
        handover: as the warden wrote it.
        variables: ``os.environ``; receives the site's ``user_environment.yaml``.

    Raises:
        StartError: with a sentence for the user.
    """
    facts = _decoded(handover.facts, Facts, "facts")
    parent = _decoded(handover.parent, Parent, "parent.json")
    account = own_account(variables)
    directory = _own_directory(Path(account.dir), facts.user_endpoint_id)
    logs.begin(directory, parent.debug)
    variables.update(environment.parse(handover.environment))
    runtime = _object(handover.runtime, "user_runtime")
    for name, value in of_the_submitter(runtime).items():
        variables.setdefault(name, value)
    site = Site(
        parent=parent,
        runtime=runtime,
        account=msgspec.to_builtins(account),
        identity_id=facts.identity_id,
        environment=variables,
    )
    raw = render(
        _text(handover.template),
        _object(handover.options, "user_endpoint_config"),
        schema=_schema(handover.schema),
        site=site,
        loader_dir=_readable(facts.template_directory),
    )
    settings = config.convert(raw)
    submitted = of_the_submitter(runtime).get("GC_USER_PYTHON_VERSION", "")
    high = settings.high_assurance or parent.settings.get("high_assurance") is True
    permits = settings.permits(parent)
    check_data(permits, settings, parent)
    return Prepared(facts, parent, settings, permits, directory, high, submitted)


def check_data(permits: Permits, settings: UserEndpointConfig, parent: Parent) -> None:
    """Whether a list of functions means anything: pickled arguments can run whatever they like.

    Raises:
        ConfigRefused: it does not, and the site's policy wants it to.
    """
    remark = settings.data_remark(permits)
    if remark and parent.require_json_data:
        raise ConfigRefused(f"{remark}; policy.toml demands it (require_json_data)")
    if remark:
        log.warning("%s", remark)


def own_account(variables: Mapping[str, str]) -> Account:
    """Who this process is: ids by the kernel's word, names as root has set them in the environment.

    Several names may have one uid, so the name is not looked up.
    """
    entry = pwd.getpwuid(os.getuid())
    return Account(
        variables.get("USER", entry.pw_name),
        os.getuid(),
        os.getgid(),
        entry.pw_gecos,
        variables.get("HOME", entry.pw_dir),
        variables.get("SHELL", entry.pw_shell),
        tuple(os.getgroups()),
    )


def of_the_submitter(runtime: Mapping[str, Any]) -> dict[str, str]:
    """What ``user_runtime`` says, as variables with Globus Compute's names."""
    python = runtime.get("python")
    said = {
        "GC_USER_PYTHON_VERSION": python.get("version") if isinstance(python, dict) else None,
        "GC_USER_SDK_VERSION": runtime.get("globus_compute_sdk_version"),
    }
    return {
        name: value
        for name, value in said.items()
        if isinstance(value, str) and _VERSION.fullmatch(value)
    }


def _own_directory(home: Path, user_endpoint_id: str) -> Path:
    directory = home / ".mep" / user_endpoint_id
    try:
        for path in (directory.parent, directory):
            path.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
        if found.st_uid != os.geteuid():
            raise StartFailed(f"{directory} belongs to uid {found.st_uid}, not to the user")
        directory.chmod(0o700)
    except OSError as error:
        raise StartFailed(f"the directory {directory} cannot be used: {error.strerror}") from error
    return directory


def _decoded(data: bytes, to: type[Any], name: str) -> Any:
    try:
        return msgspec.json.decode(data, type=to)
    except msgspec.DecodeError as error:
        raise StartFailed(f"the handover's {name} cannot be read: {error}") from error


def _object(data: bytes, name: str) -> dict[str, Any]:
    """A JSON object of the user's; what JSON does not have (NaN) is refused."""
    try:
        value = json.loads(data or b"{}", parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise StartFailed(f"{name} is not valid JSON: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise StartFailed(f"{name} must be a JSON object, not {type(value).__name__}")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _schema(data: bytes) -> Any:
    if not data.strip():
        return None
    try:
        return json.loads(data)
    except ValueError as error:
        raise TemplateFailed(f"the site's option schema is not valid JSON: {error}") from error


def _text(template: bytes) -> str:
    try:
        return template.decode()
    except UnicodeDecodeError as error:
        raise TemplateFailed("the site's template is not UTF-8") from error


def _readable(directory: str | None) -> str | None:
    """The administrator's directory, where this user may read it."""
    return directory if directory and os.access(directory, os.R_OK | os.X_OK) else None
