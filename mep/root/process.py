"""A process that the warden forked or adopted, and what it says."""

import contextlib
import json
import os
import signal
from dataclasses import dataclass

from mep.root.refusal import clean

NEVER = float("inf")
_SAID_BYTES = 8192
"""What is kept of a report: the leader's line, and the 4 KiB that the user's process has."""


@dataclass
class Process:
    """A leader that decides, or a user endpoint: then it has an account. Adopted: no nonce."""

    user_endpoint_id: str
    pid: int
    account: str = ""
    nonce: str = ""
    report: int = -1
    said: bytes = b""
    kill_at: float = NEVER
    """Monotonic seconds; set once it was asked to end."""

    def __post_init__(self) -> None:
        self.pidfd = os.pidfd_open(self.pid)

    def listen(self) -> bool:
        """Take what the report pipe holds; False when there will be no more, or too much."""
        chunk = os.read(self.report, _SAID_BYTES - len(self.said))
        self.said += chunk
        return chunk != b""

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

    def kill_overdue(self, now: float) -> None:
        """Kill it if its time is over; again when that did not help."""
        if self.kill_at <= now:
            self.signal(signal.SIGKILL)
            self.kill_at = now + 1

    def reap(self) -> tuple[int | None, int | None]:
        """Exit status, or signal; neither is known of an adopted process. It has ended.

        What is left of the group of one that was asked to end is killed.
        """
        if self.kill_at != NEVER:
            self.signal(signal.SIGKILL)
        try:
            ended = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        except ChildProcessError:
            return None, None
        assert ended is not None
        exited = ended.si_code == os.CLD_EXITED
        return (ended.si_status, None) if exited else (None, ended.si_status)
