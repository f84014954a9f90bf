"""An endpoint made known to its relay: the request, and what is kept of the answer."""

import os
import platform
import pwd
import re
import socket
from pathlib import Path
from typing import Any, Final

import msgspec

from mep import __version__
from mep.cli import preparation
from mep.cli.accounts import Account
from mep.cli.errors import RelayError
from mep.cli.files import replace, uninterrupted
from mep.cli.relay import Relay
from mep.cli.site import Site
from mep.link import Peer
from mep.manager import site as managers
from mep.manager.config import Config, read_text
from mep.wire.rest import EndpointMetadata, RegisteredEndpoint, RegisterEndpoint
from mep.wire.settings import SettingsError

_HEX_KEY: Final = re.compile(r"[0-9a-f]{64}")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def register(place: Site, token: str) -> RegisteredEndpoint:
    """Register, or renew the registration, and write what the relay answered. `token` is not kept.

    Raises:
        RelayError: the relay refuses, or is not to be reached.
        CliError: an account is missing.
        SettingsError: the configuration cannot be used.
    """
    owner = preparation.owner_of(place)
    config, _ = preparation.checked_config(place)
    known = managers.load_parent(place.etc) if place.file(managers.PARENT).exists() else None
    # An id is a relay's own: with another relay the endpoint is another.
    same = known is not None and known.relay_url == config.relay_url
    relay = Relay(Peer(config.relay_url, config.ca_file), token)
    answer = relay.register(request(place, config), known.endpoint_id if known and same else None)
    _check(answer, config.relay_url)
    parent = preparation.fresh_parent(place, answer.endpoint_id)
    with uninterrupted():
        _keep(place, answer, owner)
        preparation.write_parent(place, parent)
    return answer


def request(place: Site, config: Config) -> RegisterEndpoint:
    """What the relay is told of the endpoint."""
    functions, admins = config.allowed_functions, config.admins
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
            user_config_template=_text_or_nothing(_template(place, "template")),
            user_config_schema=_schema(_template(place, "schema")),
        ),
        allowed_functions=None if functions is None else [str(f) for f in functions],
        authentication_policy=_text(config.authentication_policy),
        admins=None if admins is None else [str(a) for a in admins],
    )


def with_owner(policy: str, identities: list[str]) -> str:
    """The text of a single-user endpoint's ``policy.toml``, serving these identities."""
    quoted = ", ".join(f'"{identity}"' for identity in identities)
    line = f"owner = [{quoted}]"
    changed, count = re.subn(r"(?m)^owner\s*=\s*\[[^\]]*\].*$", line, policy, count=1)
    return changed if count else f"{line}\n{policy}"


def _check(answer: RegisteredEndpoint, relay_url: str) -> None:
    """Root will read these values: they must be what they are called."""
    sound = (
        _HEX_KEY.fullmatch(answer.grant_key)
        and _UUID.fullmatch(answer.endpoint_id)
        and answer.key_version >= 1
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
    default = {"template": "user_config_template.yaml.j2", "schema": "user_config_schema.json"}
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
