"""An endpoint made known to its relay: the request, and what is kept of the answer."""

import os
import platform
import pwd
import re
import socket
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec

from mep import __version__
from mep.cli import preparation, tokens
from mep.cli.accounts import Account
from mep.cli.errors import CliError, RelayError
from mep.cli.files import replace, uninterrupted
from mep.cli.relay import Relay
from mep.cli.site import Site
from mep.link import Peer
from mep.manager import site as managers
from mep.manager.config import Config, read_text
from mep.wire import allowed, codes
from mep.wire.rest import EndpointMetadata, RegisteredEndpoint, RegisterEndpoint
from mep.wire.settings import SettingsError

_HEX_KEY: Final = re.compile(r"[0-9a-f]{64}")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def register(place: Site, token: str, endpoint_id: UUID | None = None) -> RegisteredEndpoint:
    """Register, or renew the registration, and write what the relay answered. `token` is not kept.

    With `endpoint_id`, register under that id, which the relay's operator has approved.

    Raises:
        RelayError: the relay refuses, or is not to be reached.
        CliError: an account is missing.
        SettingsError: the configuration cannot be used.
    """
    owner = preparation.owner_of(place)
    config, _ = preparation.checked_config(place)
    known = managers.load_parent(place.etc) if place.file(managers.PARENT).exists() else None
    # An id is a relay's own: with another relay the endpoint is another.
    same = known if known is not None and known.relay_url == config.relay_url else None
    wanted = _wanted(place, same.endpoint_id if same else None, endpoint_id)
    relay = Relay(Peer(config.relay_url, config.ca_file), token)
    try:
        answer = relay.register(request(place, config), wanted)
    except RelayError as error:
        if endpoint_id is None or error.code != codes.ENDPOINT_NOT_FOUND:
            raise
        raise RelayError(
            f"the relay does not give the id {wanted} to you; its operator approves it with "
            f"`mep-relay endpoint approve {wanted} YOU`, unless an endpoint has had it before",
            *(error.code, error.http_status),
        ) from error
    _check(answer, config.relay_url)
    parent = preparation.fresh_parent(place, answer.endpoint_id, preparation.told(config))
    with uninterrupted():
        _keep(place, answer, owner)
        preparation.write_parent(place, parent)
    return answer


def _wanted(place: Site, known: str | None, endpoint_id: UUID | None) -> str | None:
    """The id to register under; None: a new one of the relay's choice."""
    if endpoint_id is not None and known not in (None, str(endpoint_id)):
        raise CliError(
            f"{place.name} is registered as {known} already; configure another endpoint for "
            f"{endpoint_id}"
        )
    return known if endpoint_id is None else str(endpoint_id)


def registrar(place: Site, given: str | None) -> str:
    """The token to register with: what was given, else of whoever is logged in, else asked for.

    Raises:
        CliError: there is none, and nobody to ask.
    """
    if given is not None:
        return given
    from mep.cli.login import token_for

    config, _ = preparation.checked_config(place)
    whose = "the token of an administrator of the relay"
    return token_for(config.relay_url) or tokens.needed(None, whose)


def request(place: Site, config: Config) -> RegisterEndpoint:
    """What the relay is told of the endpoint."""
    functions, admins, viewers = config.allowed_functions, config.admins, config.visible_to
    return RegisterEndpoint(
        endpoint_name=place.name,
        display_name=config.display_name,
        multi_user=config.multi_user,
        public=config.public,
        high_assurance=config.high_assurance,
        metadata=EndpointMetadata(
            endpoint_version=__version__,
            python_version=platform.python_version(),
            hostname=socket.gethostname(),
            local_user=pwd.getpwuid(os.geteuid()).pw_name,
            endpoint_config=read_text(place.file("config.yaml")),
            user_environment=_text_or_nothing(_template(place, "environment")),
            user_config_template=_text_or_nothing(_template(place, "template")),
            user_config_schema=_schema(_template(place, "schema")),
        ),
        allowed_functions=_ids(functions),
        authentication_policy=_text(config.authentication_policy),
        admins=None if admins is None else [str(a) for a in admins],
        visible_to=None if viewers is None else [str(v) for v in viewers],
    )


def _ids(functions: tuple[str, ...] | None) -> list[str] | None:
    """The relay is told which functions; the endpoint alone looks at bodies."""
    if functions is None:
        return None
    return list(dict.fromkeys(allowed.parse(text).function_id for text in functions))


def with_owner(policy: str, identities: list[str]) -> str:
    """The text of a single-user endpoint's ``policy.toml``, serving these identities."""
    quoted = ", ".join(f'"{identity}"' for identity in identities)
    line = f"owner = [{quoted}]"
    changed, count = re.subn(r"(?m)^owner\s*=\s*\[[^\]]*\].*$", line, policy, count=1)
    return changed if count else f"{line}\n{policy}"


def check_key(key: str, version: int, relay_url: str) -> None:
    """Whether this is a key that root can read.

    Raises:
        RelayError: it is not.
    """
    if not _HEX_KEY.fullmatch(key) or version < 1:
        raise RelayError(f"{relay_url} answers, but not as a relay of this version does")


def _check(answer: RegisteredEndpoint, relay_url: str) -> None:
    """Root will read these values: they must be what they are called."""
    check_key(answer.grant_key, answer.key_version, relay_url)
    sound = (
        _UUID.fullmatch(answer.endpoint_id)
        and answer.link_token.isascii()
        and answer.link_token.isprintable()
        and all(_UUID.fullmatch(identity) for identity in answer.owner_identities)
    )
    if not sound:
        raise RelayError(f"{relay_url} answers, but not as a relay of this version does")


def _keep(place: Site, answer: RegisteredEndpoint, manager: Account | None) -> None:
    key = f"{answer.key_version} {answer.grant_key}\n".encode()
    replace(place.file(preparation.GRANT_KEY), key, 0o600, None if manager is None else (0, 0))
    token = f"{answer.link_token}\n".encode()
    path = place.file(managers.TOKEN)
    if manager is None:
        replace(path, token, 0o600)
        policy = place.file(managers.POLICY)
        text = with_owner(read_text(policy), answer.owner_identities)
        replace(policy, text.encode(), 0o600)
    else:
        replace(path, token, 0o640, (0, manager.gid))


def _template(place: Site, key: str) -> Path:
    default = {
        "template": "user_config_template.yaml.j2",
        "schema": "user_config_schema.json",
        "environment": "user_environment.yaml",
    }
    return place.file(str(preparation.policy(place).get(key, default[key])))


def _text_or_nothing(path: Path) -> str:
    return read_text(path) if path.exists() else ""


def _schema(path: Path) -> Any:
    text = _text_or_nothing(path)
    try:
        return msgspec.json.decode(text) if text else None
    except msgspec.DecodeError as error:
        raise SettingsError(f"{path} is not JSON: {error}") from error


def _text(value: object | None) -> str | None:
    return None if value is None else str(value)
