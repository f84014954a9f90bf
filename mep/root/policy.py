"""What root decides by, all of it from files that nobody else can write.

The keys of ``policy.toml`` are declared, with type, default and meaning, in the file of that name
beside this one.
"""

import difflib
import grp
import json
import os
import pwd
import tomllib
from types import SimpleNamespace
from typing import Any, NamedTuple

from mep.root import become, files
from mep.root.refusal import ConfigError, Refusal


class Policy(SimpleNamespace):
    """The keys as attributes; those of the table ``[pam]`` begin with ``pam_``."""


class Site(NamedTuple):
    """One endpoint. A warden that is not root serves its `owner` alone and has no mapping."""

    etc: str
    state: str
    events: str | None
    policy: Policy
    keys: dict[int, bytes]
    endpoint_id: str
    manager: pwd.struct_passwd
    owner: bool
    mapping: bytes

    def stamp(self) -> list[object]:
        """Differs when one of the files has changed."""
        names = ("policy.toml", "grant.key", "parent.json", self.policy.mapping)
        paths = [os.path.join(self.etc, name) for name in names]
        found = [os.stat(path) for path in paths if os.path.exists(path)]
        return [(one.st_ino, one.st_mtime_ns, one.st_ctime_ns, one.st_size) for one in found]


def load(etc: str, state: str, events: str | None) -> Site:
    """Read ``policy.toml``, ``grant.key``, ``parent.json`` and the mapping.

    Raises:
        ConfigError: with the remedy.
    """
    try:
        policy, owner = parse(files.read(f"{etc}/policy.toml").decode()), os.geteuid() != 0
        lines = files.read(f"{etc}/grant.key", secret=True).decode().splitlines()
        keys = {int(version): bytes.fromhex(key) for version, key in map(str.split, lines)}
        endpoint = json.loads(files.read(f"{etc}/parent.json"))["endpoint_id"]
        manager = pwd.getpwuid(os.geteuid()) if owner else pwd.getpwnam(policy.manager_user)
        mapping = b"" if owner else files.read(os.path.join(etc, policy.mapping))
        if {len(key) for key in keys.values()} != {32}:
            raise ConfigError("grant.key must hold 32 bytes per version: run mep register")
    except (ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{etc}: {error}") from error
    if not owner:
        become.ask(policy.callout_user, mapping, endpoint, [])
    return Site(etc, state, events, policy, keys, endpoint, manager, owner, mapping)


def parse(text: str) -> Policy:
    """The policy in the text of ``policy.toml``.

    Raises:
        ConfigError: not TOML, an unknown key, a value of the wrong type or out of range.
    """
    with open(os.path.join(os.path.dirname(__file__), "policy.toml")) as file:
        known = _flat(file.read())
    try:
        given = _flat(text)
        for key, value in given.items():
            _check(known, key, value)
        policy = Policy(**known | given)
        policy.umask = int(policy.umask, 8)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"policy.toml: {error}") from error
    if policy.pam_enable:
        raise ConfigError("policy.toml: pam.enable: this version has no PAM; set it to false")
    return policy


def _flat(text: str) -> dict[str, Any]:
    raw = tomllib.loads(text)
    return {f"pam_{key}": value for key, value in dict(raw.pop("pam", {})).items()} | raw


def _check(known: dict[str, Any], key: str, value: Any) -> None:
    if key not in known:
        near = difflib.get_close_matches(key, known, 1, 0)[0]
        raise ValueError(f"unknown key {key}: the closest is {near}")
    kind, inside = type(value), set(map(type, value)) if isinstance(value, list) else set()
    if kind is not type(known[key]) or inside - {str} or (kind is int and value < 1):
        raise ValueError(f"{key} = {value!r} is unlike its default, {known[key]!r}")


def serve(policy: Policy, name: str) -> pwd.struct_passwd:
    """The account of that name, if the policy lets it be served.

    Raises:
        Refusal: unknown, root, too low, the daemon's own, denied or not allowed.
    """
    try:
        account = pwd.getpwnam(name)
    except (KeyError, ValueError) as error:
        raise Refusal("ACCOUNT_UNKNOWN", f"no account {name!r}") from error
    uid, groups = account.pw_uid, set(os.getgrouplist(name, account.pw_gid))
    rules = {
        "pw_name differs": account.pw_name != name,
        "root": uid == 0 or account.pw_gid == 0,
        "minimum_uid": uid < policy.minimum_uid,
        "the daemon's own": name in (policy.manager_user, policy.callout_user),
        "allow_users": not {"*", name} & {*policy.allow_users},
        "deny_users": name in policy.deny_users,
        "allow_groups": policy.allow_groups != ["*"] and not groups & _gids(policy.allow_groups),
        "deny_groups": bool(groups & _gids(policy.deny_groups)),
    }
    if broken := [rule for rule, holds in rules.items() if holds]:
        raise Refusal("ACCOUNT_REFUSED", f"account {name!r}: {', '.join(broken)}")
    return account


def _gids(names: list[str]) -> set[int]:
    # A group that does not exist fails the start: whether it would deny cannot be known.
    return {grp.getgrnam(name).gr_gid for name in names}
