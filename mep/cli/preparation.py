"""What must hold before an endpoint starts, and what is generated from its configuration."""

import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec

from mep.cli.accounts import CALLOUT, MANAGER, Account, manager_account
from mep.cli.errors import CliError
from mep.cli.files import directory, replace
from mep.cli.pam import check_service
from mep.cli.site import Site
from mep.manager import config
from mep.manager import site as managers
from mep.root.policy import Policy, parse
from mep.wire.parent import Parent
from mep.wire.settings import SettingsError, nearest

GRANT_KEY: Final = "grant.key"
_TOLD: Final = (
    *("display_name", "public", "high_assurance", "allowed_functions"),
    *("authentication_policy", "admins", "visible_to"),
)
"""Keys of ``config.yaml`` that the relay goes by."""
_HOLDING: Final = {"high_assurance", "authentication_policy"}
"""Of these: keep people out, and by the relay alone."""


def prepare(place: Site) -> Parent:
    """Check the configuration, bring ``parent.json`` up to date, make the directories.

    Raises:
        CliError: the endpoint is not registered, or an account or the PAM service is missing.
        SettingsError: the configuration cannot be used.
    """
    owner = owner_of(place)
    rules = root_policy(place)
    if rules.pam_enable:
        check_service(rules.pam_service_name)
    if not registered(place):
        raise CliError(f"{place.name} is not registered; run `mep register {place.name}`")
    untold(place)
    known = managers.load_parent(place.etc)
    parent = fresh_parent(place, known.endpoint_id, known.registered)
    write_parent(place, parent)
    make_directories(place, owner)
    return parent


def registered(place: Site) -> bool:
    """Whether everything that ``mep register`` writes is there."""
    names = (managers.PARENT, managers.TOKEN, GRANT_KEY)
    return all(place.file(name).exists() for name in names)


def checked_config(place: Site) -> tuple[config.Config, tuple[str, ...]]:
    """``config.yaml``, in agreement with ``policy.toml`` and with who runs this; and warnings.

    Raises:
        SettingsError: it cannot be used.
    """
    path = place.file(config.FILE)
    read, warnings = config.decode(config.read_text(path), str(path))
    if read.multi_user != place.privileged:
        raise SettingsError(
            f"{path} says multi_user: {str(read.multi_user).lower()}, but "
            f"{'root' if place.privileged else 'anyone but root'} runs "
            f"{'multi' if place.privileged else 'single'}-user endpoints alone"
        )
    managers.check_policy(place.etc, read)
    if read.ca_file is not None and not Path(read.ca_file).is_file():
        raise SettingsError(f"{path} says ca_file: {read.ca_file}, which is no file")
    return read, warnings


def told(read: config.Config) -> dict[str, Any]:
    """What the relay goes by, as ``parent.json`` remembers it."""
    said = {key: getattr(read, key) for key in _TOLD}
    return dict(msgspec.json.decode(msgspec.json.encode(said)))


def untold(place: Site) -> str:
    """A sentence about settings that the relay goes by and does not know yet; else nothing.

    Raises:
        SettingsError: without one of them people would be let in whom the site means to keep out.
    """
    known = managers.load_parent(place.etc).registered
    now = told(checked_config(place)[0])
    changed = [key for key in _TOLD if known is not None and known.get(key) != now[key]]
    if not changed:
        return ""
    words = (
        f"{place.file(config.FILE)}: the relay goes by what it was told of {', '.join(changed)}, "
        f"which is something else now: run `mep register {place.name}` again"
    )
    if _HOLDING & set(changed):
        raise SettingsError(words)
    return words


def fresh_parent(place: Site, endpoint_id: str, registered: dict[str, Any] | None = None) -> Parent:
    """``parent.json`` as ``config.yaml`` is now.

    Raises:
        SettingsError: the configuration cannot be used.
    """
    checked_config(place)
    text = config.read_text(place.file(config.FILE))
    strict = policy(place).get("require_json_data") is True
    fresh = config.parent(text, endpoint_id=endpoint_id, name=place.name, require_json_data=strict)
    return msgspec.structs.replace(fresh, registered=registered)


def write_parent(place: Site, parent: Parent) -> None:
    """Replace ``parent.json``; users' processes and the manager read it."""
    data = msgspec.json.format(msgspec.json.encode(parent), indent=2) + b"\n"
    replace(place.file(managers.PARENT), data, 0o644 if place.privileged else 0o600)


def owner_of(place: Site) -> Account | None:
    """Whom the manager runs as; None for whoever runs this.

    Raises:
        CliError: the account does not exist.
        SettingsError: ``policy.toml`` is not TOML.
    """
    if not place.privileged:
        return None
    said = policy(place)
    return manager_account(
        str(said.get("manager_user", MANAGER)), str(said.get("callout_user", CALLOUT))
    )


def policy(place: Site) -> dict[str, Any]:
    """``policy.toml`` as plain data; the warden judges it, and :func:`root_policy`.

    Raises:
        SettingsError: absent, or not TOML.
    """
    path = place.file(managers.POLICY)
    try:
        return tomllib.loads(config.read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error


def root_policy(place: Site) -> Policy:
    """``policy.toml`` as the warden reads it, with its defaults.

    Raises:
        SettingsError: absent, or the warden would refuse it.
    """
    policy(place)
    path = place.file(managers.POLICY)
    try:
        return parse(config.read_text(path))
    except (ValueError, TypeError) as error:
        word = str(error).rpartition("unknown key ")[2]
        hint = nearest(word.removeprefix("pam_"), _known()) if "unknown key" in str(error) else ""
        raise SettingsError(f"{path}: {str(error).removeprefix('policy.toml: ')}{hint}") from error


def _known() -> list[str]:
    return [key.removeprefix("pam_") for key in vars(parse(""))]


def make_directories(place: Site, manager: Account | None) -> None:
    """All directories of a running endpoint, with their owners and modes."""
    if manager is None:
        for path in (place.state, place.run, place.log, place.warden_state):
            directory(path, 0o700)
        return
    root, its = (0, 0), (manager.uid, manager.gid)
    for path, mode, owner in (
        (place.state.parent, 0o755, root),
        (place.run.parent, 0o755, root),
        (place.log.parent, 0o755, root),
        (place.warden_state.parent, 0o700, root),
        (place.warden_run.parent, 0o755, root),
        (place.warden_log.parent, 0o700, root),
        (place.state, 0o700, its),
        # Users' processes send events to a socket in it: they may pass, not list.
        (place.run, 0o711, its),
        (place.log, 0o750, its),
        (place.warden_state, 0o700, root),
        (place.warden_run, 0o755, root),
        (place.warden_log, 0o700, root),
    ):
        directory(path, mode, owner)
