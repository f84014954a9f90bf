"""From a handover to a configuration: everything before the engine, as the user."""

import json
import os
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from mep.endpoint import config, environment, logs
from mep.endpoint.config import Permits, UserEndpointConfig
from mep.endpoint.errors import StartFailed, TemplateFailed
from mep.endpoint.template.names import Site
from mep.endpoint.template.render import render
from mep.wire.handover import Handover
from mep.wire.parent import Parent

_VERSION: Final = re.compile(r"\d+(\.[0-9a-z+]+){1,5}")


class Account(msgspec.Struct, frozen=True):
    """The mapped account, from root's look-up."""

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
    account: Account
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
    directory = _own_directory(Path(facts.account.dir), facts.user_endpoint_id)
    logs.begin(directory, parent.debug)
    variables.update(environment.parse(handover.environment))
    runtime = _object(handover.runtime, "user_runtime")
    for name, value in of_the_submitter(runtime).items():
        variables.setdefault(name, value)
    site = Site(
        parent=parent,
        runtime=runtime,
        account=msgspec.to_builtins(facts.account),
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
    return Prepared(facts, parent, settings, settings.permits(parent), directory, submitted)


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
