"""What a warden knows of its endpoint, all of it from files that nobody else can write."""

import json
import os
import pwd
from dataclasses import dataclass

from mep.root import callout, files
from mep.root.policy import Policy, parse
from mep.root.refusal import ConfigError


@dataclass(frozen=True)
class Site:
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
        callout.ask(policy.callout_user, mapping, endpoint, [])
    return Site(etc, state, events, policy, keys, endpoint, manager, owner, mapping)
