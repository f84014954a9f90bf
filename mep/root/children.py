"""What the warden forked: its records, so that users outlive it, and the processes themselves.

A record is written by the leader, still root, before it becomes the user, in a directory of root's;
it holds pid and start time, which together name a process for good. The warden that starts next
adopts whatever lives.
"""

import contextlib
import fcntl
import json
import os
import signal
from typing import NamedTuple

from mep.root.policy import Policy
from mep.root.refusal import Refusal, clean

NEVER = float("inf")
_SAID_BYTES = 8192
"""What is kept of a report: the leader's line, and the 4 KiB that the user's process has."""


class Record(NamedTuple):
    """Who runs as whom; `person` are the ids of the identity set that it was started for."""

    user_endpoint_id: str
    pid: int
    started: str
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
            if os.path.exists(f"/proc/{record.pid}") and started(record.pid) == record.started:
                found.append(record)
            else:
                os.unlink(file.name)
    return found


class Process:
    """A leader that decides, or a user endpoint: then it has an account. Adopted: no nonce."""

    def __init__(self, name: str, pid: int, account: str, nonce: str = "", pipe: int = -1) -> None:
        self.name, self.pid, self.account, self.nonce = name, pid, account, nonce
        self.report, self.said, self.pidfd = pipe, b"", os.pidfd_open(pid)
        self.kill_at = NEVER
        """Monotonic seconds; set once it was asked to end."""

    def listen(self) -> bool:
        """Take what the report pipe holds; False when no more will be taken."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.report, _SAID_BYTES - len(self.said)):
                self.said += chunk
            return False
        return True

    def line(self, which: int) -> dict[str, str]:
        """A line of the report, its values made harmless: users' processes write it, too."""
        try:
            raw = json.loads((self.said.splitlines() or [b"{}"])[which])
            return {key: clean(value) for key, value in raw.items()}
        except (ValueError, AttributeError, RecursionError):
            return {}

    def signal(self, number: int) -> None:
        """Send a signal to the process group, unless the process is gone."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, 0)  # while it is there, the number is its own
            os.killpg(self.pid, number)

    def reap(self) -> tuple[int | None, int | None]:
        """Exit status, or signal; neither is known of an adopted process. It has ended.

        What is left of the group of one that was asked to end is killed.
        """
        if self.kill_at != NEVER:
            self.signal(signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            ended = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
            status = ended.si_status if ended else 0
            exited = ended is None or ended.si_code == os.CLD_EXITED
            return (status, None) if exited else (None, status)
        return None, None
