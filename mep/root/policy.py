"""What root decides by, all of it from files that nobody else can write.

The keys of ``policy.toml`` are declared, with type, default and meaning, in the file of that name
beside this one.
"""

import grp
import json
import os
import pwd
import time
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
    events: str
    policy: Policy
    keys: dict[int, bytes]
    endpoint_id: str
    manager: pwd.struct_passwd
    owner: bool
    mapping: bytes
    denied: set[str]
    """What ``mep deny`` wrote, one a line: accounts, and ids and usernames of identities."""


def load(etc: str, state: str, events: str, before: Site | None = None) -> Site:
    """Read ``policy.toml``, ``grant.key``, ``parent.json``, ``denied`` and the mapping, which is
    tried if it is not what it was `before`.

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
        denied = files.read(f"{etc}/denied", optional=True).decode().casefold().splitlines()
        if {len(key) for key in keys.values()} != {32}:
            raise ConfigError("grant.key must hold 32 bytes per version: run mep register")
        if not owner and (before is None or before.mapping != mapping):
            become.ask(policy.callout_user, mapping, endpoint, [])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{etc}: {error}") from error
    return Site(etc, state, events, policy, keys, endpoint, manager, owner, mapping, {*denied})


def parse(text: str) -> Policy:
    """The policy in the text of ``policy.toml``.

    Raises:
        ValueError: not TOML, an unknown key, a value of the wrong type or out of range.
    """
    with open(os.path.join(os.path.dirname(__file__), "policy.toml")) as file:
        known, given = _flat(file.read()), _flat(text)
    for key, value in given.items():
        _check(known, key, value)
    return Policy(**known | given | {"umask": int((known | given)["umask"], 8)})


def _flat(text: str) -> dict[str, Any]:
    raw = tomllib.loads(text)
    return {f"pam_{key}": value for key, value in dict(raw.pop("pam", {})).items()} | raw


def _check(known: dict[str, Any], key: str, value: Any) -> None:
    if key not in known:
        raise ValueError(f"policy.toml: unknown key {key}")
    kind, inside = type(value), set(map(type, value)) if isinstance(value, list) else set()
    wrong = kind is not type(known[key]) or inside - {str} or (kind is int and value < 1)
    if wrong or (key == "umask" and (not value or value.strip("01234567"))):
        raise ValueError(f"policy.toml: {key} = {value!r} is unlike its default, {known[key]!r}")


def serve(policy: Policy, name: str) -> pwd.struct_passwd:
    """The account of that name, if the policy lets it be served.

    Raises:
        Refusal: unknown, root, too low, the daemon's own, denied or not allowed.
        KeyError: a group of the policy does not exist.
    """
    try:
        account = pwd.getpwnam(name)
    except (KeyError, ValueError) as error:
        raise Refusal("ACCOUNT_UNKNOWN", f"no account {name!r}") from error
    locked, expires = become.shadow(name)
    uid, groups = account.pw_uid, set(os.getgrouplist(name, account.pw_gid))
    rules = {
        "pw_name differs": account.pw_name != name,
        "root": uid == 0 or account.pw_gid == 0,
        "minimum_uid": uid < policy.minimum_uid,
        "the daemon's own": name in (policy.manager_user, policy.callout_user),
        "allow_users": not {"*", name} & {*policy.allow_users},
        "deny_users": name in policy.deny_users,
        "allow_groups": policy.allow_groups != ["*"] and not groups & _gids(policy.allow_groups),
        "locked": locked and not policy.allow_locked,
        "expired": -1 < expires <= time.time() // 86400,
        "nologin": account.pw_shell.endswith(("/nologin", "/false")) and not policy.allow_nologin,
        "deny_groups": bool(groups & _gids(policy.deny_groups)),
    }
    if broken := [rule for rule, holds in rules.items() if holds]:
        raise Refusal("ACCOUNT_REFUSED", f"account {name!r}: {', '.join(broken)}")
    return account


def _gids(names: list[str]) -> set[int]:
    # A group that does not exist fails the start: whether it would deny cannot be known.
    return {grp.getgrnam(name).gr_gid for name in names}
