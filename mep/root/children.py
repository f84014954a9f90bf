"""User endpoints that live: one record each in a root-only directory, so that they outlive us.

A record is written by the leader, still root, before it becomes the user; it holds pid and start
time, which together name a process for good. The warden that starts next adopts whatever lives.
"""

import contextlib
import fcntl
import json
import os
from typing import NamedTuple

from mep.root.policy import Policy
from mep.root.refusal import Refusal


class Record(NamedTuple):
    """Who runs as whom; `person` are the ids of the identity set that it was started for."""

    user_endpoint_id: str
    pid: int
    started: str
    uid: int
    account: str
    person: list[str]


def started(pid: int) -> str:
    """The kernel's boot id, and when after it the process of that number started: proc(5).

    Raises:
        OSError: there is none.
    """
    with open(f"/proc/{pid}/stat") as stat, open("/proc/sys/kernel/random/boot_id") as boot:
        return f"{boot.read()} {stat.read().rpartition(')')[2].split()[19]}"


def claim(state: str, record: Record, policy: Policy) -> None:
    """Write the record, unless the account serves somebody else or enough endpoints already.

    Raises:
        Refusal: with the rule.
    """
    with open(f"{state}/lock", "wb") as lock:
        # Two leaders for the same account must not pass each other here.
        fcntl.flock(lock, fcntl.LOCK_EX)
        same = [one for one in living(state) if one.uid == record.uid]
        others = [one.person for one in same if not {*one.person} & {*record.person}]
        if others and record.account not in policy.shared_accounts:
            message = "Your identity maps to an account that somebody else is using at the moment."
            raise Refusal("ACCOUNT_SHARED", message, f"{record.account} serves {others}")
        if len(same) >= policy.max_endpoints_per_user:
            raise Refusal("START_LIMIT", f"You have {len(same)} user endpoints here already.")
        with open(f"{state}/new", "w") as file:
            json.dump(record, file)
        os.replace(f"{state}/new", f"{state}/{record.user_endpoint_id}")


def living(state: str) -> list[Record]:
    """The records whose process lives."""
    found = []
    for name in os.listdir(state):
        # What a crash cut short belongs to nothing that lives.
        with contextlib.suppress(OSError, ValueError, TypeError), open(f"{state}/{name}") as file:
            record = Record(*json.load(file))
            if started(record.pid) == record.started:
                found.append(record)
    return found
