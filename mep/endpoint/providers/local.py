"""Blocks on this machine: one process tree each, in a session of its own."""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from mep.endpoint.providers.base import BlockState, Ended

_TAIL_BYTES: Final = 4096


class LocalProvider:
    """A block is a child process; everything it started is ended with it.

    Args:
        directory: where ``blocks/ID.err`` holds what block ID writes to stderr.
    """

    apart = False

    def __init__(self, directory: str) -> None:
        self._logs = Path(directory) / "blocks"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._pidfds: dict[str, int] = {}
        self._since: dict[str, float] = {}
        self._lifeline, self._held = os.pipe()

    def adopt(self) -> list[str]:
        """None: no block outlives its endpoint here."""
        return []

    def start(self, block_id: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the node pool of a block."""
        with self._log(block_id).open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(environment),
                pass_fds=[self._lifeline],
                start_new_session=True,
            )
        self._processes[block_id] = process
        self._since[block_id] = time.time()
        self._pidfds[block_id] = os.pidfd_open(process.pid)

    def descriptors(self) -> list[int]:
        """One pidfd a block."""
        return list(self._pidfds.values())

    def lifeline(self) -> int:
        """The read end of a pipe whose other end only this process holds."""
        return self._lifeline

    def ended(self) -> list[Ended]:
        """Blocks whose first process has ended; what was left of them is gone by then."""
        return [self._reap(block_id) for block_id in _readable(self._pidfds)]

    def states(self) -> list[BlockState]:
        """Every block that lives; it is known by its process, and by no job."""
        return [
            BlockState(block_id, "running", self._since[block_id]) for block_id in self._processes
        ]

    def look(self, block_id: str) -> None:
        """The kernel tells in any case."""

    def stop(self, block_id: str) -> None:
        """SIGTERM to the node pool."""
        self._signal(block_id, signal.SIGTERM)

    def kill(self, block_id: str) -> None:
        """SIGKILL to the node pool; the rest of the block follows when that is noticed."""
        self._signal(block_id, signal.SIGKILL)

    def close(self) -> None:
        """When no block is left."""
        os.close(self._held)
        os.close(self._lifeline)

    def _signal(self, block_id: str, number: signal.Signals) -> None:
        with contextlib.suppress(KeyError, ProcessLookupError):  # it has ended meanwhile
            signal.pidfd_send_signal(self._pidfds[block_id], number)

    def _reap(self, block_id: str) -> Ended:
        process = self._processes.pop(block_id)
        del self._since[block_id]
        # A zombie until it is waited for, so its id still names its session and nothing else.
        end_session(process.pid)
        os.close(self._pidfds.pop(block_id))
        return Ended(block_id, describe(process.wait()), self._tail(block_id), exact=True)

    def _log(self, block_id: str) -> Path:
        return self._logs / f"{block_id}.err"

    def _tail(self, block_id: str) -> str:
        with self._log(block_id).open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(0, end - _TAIL_BYTES))
            return log.read().decode("utf-8", "replace").strip()


def describe(returncode: int) -> str:
    """A return code of :mod:`subprocess` in words."""
    if returncode >= 0:
        return f"exited with status {returncode}"
    number = -returncode
    with contextlib.suppress(ValueError):
        return f"was ended by signal {number} ({signal.Signals(number).name})"
    return f"was ended by signal {number}"


def end_session(session: int) -> None:
    """SIGKILL to every process of a session, until none is left to signal."""
    while True:
        members = [pid for pid in _members(session) if pid != session]
        if not members:
            return
        ended = [_end(pid) for pid in members]
        for pidfd in ended:
            if pidfd is not None:
                select.select([pidfd], [], [], 1.0)
                os.close(pidfd)
        if not any(pidfd is not None for pidfd in ended):
            return


def _end(pid: int) -> int | None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # gone, or a set-uid program of the user's
        os.close(pidfd)
        return None
    return pidfd


def _members(session: int) -> Iterator[int]:
    """Processes of a session that have not ended; fields as in proc(5)."""
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            yield int(process.name)


def _readable(pidfds: Mapping[str, int]) -> list[str]:
    if not pidfds:
        return []
    poll = select.poll()
    for pidfd in pidfds.values():
        poll.register(pidfd, select.POLLIN)
    ready = {descriptor for descriptor, _ in poll.poll(0)}
    return [block_id for block_id, pidfd in pidfds.items() if pidfd in ready]
