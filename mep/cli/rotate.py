"""``mep rotate-key``: another key for grants, with a bounded time in which both are accepted."""

import time
from typing import Final

import click

from mep.cli import tokens
from mep.cli.errors import CliError
from mep.cli.files import replace
from mep.cli.preparation import GRANT_KEY, registered
from mep.cli.registration import check_key
from mep.cli.relay import Relay
from mep.cli.running import state
from mep.cli.site import Site, configured_site
from mep.link import Peer
from mep.manager import site as managers
from mep.manager.config import FILE, decode, read_text
from mep.wire.rest import GrantKey, KeyVersion

OVERLAP_S: Final = 200.0
"""Longer than a grant lives (180 s): what the older key has signed is worthless by then."""
TAKEN_UP_S: Final = 15.0
"""How long the warden may take to read its files again."""
LOOK_S: Final = 0.1


@click.command
@click.argument("name")
@tokens.option
@click.option("--now", is_flag=True, help="Drop the older key at once: it is known to others.")
@click.option("--finish", is_flag=True, help="Only drop the older key of a change cut short.")
def command(name: str, token_file: str | None, now: bool, finish: bool) -> None:
    """Change the key by which the warden of NAME knows the relay's word.

    The relay offers the next key; both are accepted here until the relay signs with it and what was
    signed before has expired, which takes a few minutes; then the older one is dropped. Running
    user endpoints notice nothing. For a multi-user endpoint the token must be an administrator's.

    \b
    Examples:
      mep rotate-key cluster
      mep rotate-key cluster --now         after the key was seen by others
      mep rotate-key cluster --finish      after Ctrl-C
    """
    place = configured_site(name)
    if not registered(place):
        raise CliError(f"{name} is not registered; run `mep register {name}`")
    if finish:
        _keep_newest(place)
        print(f"{name}: only the newest key is accepted")
        return
    _check_files(place)
    token = tokens.needed(token_file, "the token of an administrator of the relay")
    version = _change(place, token, now)
    if not now:
        print(
            f"{name}: the relay signs with key version {version}; the older one is accepted for "
            f"another {OVERLAP_S:.0f} s, or until: mep rotate-key {name} --finish",
            flush=True,
        )
        time.sleep(OVERLAP_S)
        _keep_newest(place)
    print(f"{name}: only key version {version} is accepted")


def _check_files(place: Site) -> None:
    """Whether the warden would read the new key: one file that it refuses, and it keeps the old.

    Raises:
        CliError: it would not.
    """
    from mep.root import policy
    from mep.root.refusal import ConfigError

    try:
        policy.load(str(place.etc), str(place.warden_state), str(place.events_socket))
    except ConfigError as error:
        words = f"the warden would not take up another key, for its files cannot be used: {error}"
        raise CliError(words) from error


def _change(place: Site, token: str, now: bool) -> int:
    read, _ = decode(read_text(place.file(FILE)), str(place.file(FILE)))
    relay = Relay(Peer(read.relay_url, read.ca_file), token)
    path = f"/v3/endpoints/{managers.load_parent(place.etc).endpoint_id}/keys"
    offered = relay.ask("POST", path, GrantKey)
    check_key(offered.grant_key, offered.key_version, relay.url)
    before = _settings_read(place)
    _write(place, {**_keys(place), offered.key_version: offered.grant_key})
    begun = time.monotonic() if state(place).running else float("-inf")
    while _settings_read(place) == before and time.monotonic() - begun < TAKEN_UP_S:
        time.sleep(LOOK_S)
    relay.ask("PUT", path, KeyVersion, KeyVersion(offered.key_version))
    if now:
        _keep_newest(place)
    return offered.key_version


def _keys(place: Site) -> dict[int, str]:
    lines = [line.split() for line in read_text(place.file(GRANT_KEY)).splitlines()]
    return {int(version): key for version, key in lines}


def _write(place: Site, keys: dict[int, str]) -> None:
    text = "".join(f"{version} {key}\n" for version, key in sorted(keys.items()))
    owner = (0, 0) if place.privileged else None
    replace(place.file(GRANT_KEY), text.encode(), 0o600, owner)


def _keep_newest(place: Site) -> None:
    keys = _keys(place)
    newest = max(keys)
    _write(place, {newest: keys[newest]})


def _settings_read(place: Site) -> int:
    """How often the warden says that it has read changed files."""
    path = place.audit_file
    return path.read_text().count('"event": "settings-read"') if path.exists() else 0
