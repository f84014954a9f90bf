"""Records of what runs, so that users outlive the warden.

A record is written by the leader, before its child may go on to become the user, in a directory of
root's; it holds pid and start time of that leader, which together name a process for good. The
warden that starts next adopts whatever lives.
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
    leader: int
    started: str
    """Of the leader."""
    pid: int
    uid: int
    account: str
    person: list[str]


def started(pid: int) -> str:
    """The kernel's boot id, and when after it that process started (proc(5)); nothing of a zombie.

    Raises:
        OSError: there is none.
    """
    with open(f"/proc/{pid}/stat") as stat, open("/proc/sys/kernel/random/boot_id") as boot:
        state, *fields = stat.read().rpartition(")")[2].split()
        return f"{boot.read()} {fields[18]}" if state != "Z" else ""


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
            raise Refusal("ACCOUNT_SHARED", f"{record.account} serves {others}")
        if len(same) >= policy.max_endpoints_per_user:
            raise Refusal("START_LIMIT", f"{record.account} has {len(same)} endpoints")
        with open(f"{state}/new", "w") as file:
            json.dump(record, file)
        os.replace(f"{state}/new", f"{state}/{record.user_endpoint_id}")


def living(state: str) -> list[Record]:
    """The records whose process lives; those of others are removed."""
    found = []
    for name in os.listdir(state):
        # What a crash cut short belongs to nothing that lives.
        with contextlib.suppress(OSError, ValueError, TypeError), open(f"{state}/{name}") as file:
            record = Record(*json.load(file))
            there = os.path.exists(f"/proc/{record.leader}")
            if there and started(record.leader) == record.started:
                found.append(record)
            else:
                os.unlink(file.name)
    return found
