"""``policy.toml``: what root decides by, and its decision about an account.

The keys are declared, with type, default and meaning, in the file of that name beside this one.
"""

import difflib
import grp
import os
import pwd
import tomllib
from types import SimpleNamespace
from typing import Any

from mep.root.refusal import ConfigError, Refusal

_DEFAULTS = os.path.join(os.path.dirname(__file__), "policy.toml")


class Policy(SimpleNamespace):
    """The keys as attributes; those of the table ``[pam]`` begin with ``pam_``."""


def parse(text: str) -> Policy:
    """The policy in the text of ``policy.toml``.

    Raises:
        ConfigError: not TOML, an unknown key, a value of the wrong type or out of range.
    """
    with open(_DEFAULTS) as file:
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
        message = "Your identity maps to an account that does not exist on this machine."
        raise Refusal("ACCOUNT_UNKNOWN", message, f"no account {name!r}") from error
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
        message = "The site's policy does not let the account be used that your identity maps to."
        raise Refusal("ACCOUNT_REFUSED", message, f"account {name!r}: {', '.join(broken)}")
    return account


def _gids(names: list[str]) -> set[int]:
    # A group that does not exist fails the start: whether it would deny cannot be known.
    return {grp.getgrnam(name).gr_gid for name in names}
