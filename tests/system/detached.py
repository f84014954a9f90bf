"""A batch system at the edge: jobs that outlive whoever submitted them, known by a file.

Its jobs are processes of this machine. Like a real one it ends a job when it gets round to it:
:class:`SlowBatchSystem` gets round to it when the test says so.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mep.endpoint.engines.base import Callbacks, Surroundings
from mep.endpoint.engines.engine import PoolEngine
from mep.endpoint.engines.network_settings import ports
from mep.endpoint.engines.plan import plan
from mep.endpoint.engines.settings import ComputeEngineSettings, read
from mep.endpoint.interchange.network import Network, reach
from mep.endpoint.providers.base import BlockState, Ended

SUBMIT = """
import os, sys
if os.fork() == 0:
    os.setsid()
    log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(log, number)
    os.execvp(sys.argv[3], sys.argv[3:])
"""


class BatchSystem:
    """A provider whose blocks may outlive this process; the next one finds them by their file."""

    apart = True

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / "jobs.json"
        self._pidfds: dict[str, int] = {}
        self.killed: list[str] = []

    @property
    def jobs(self) -> dict[str, int]:
        """The process of each block."""
        return json.loads(self._file.read_text()) if self._file.exists() else {}

    def adopt(self) -> list[str]:
        for block_id, pid in self.jobs.items():
            with contextlib.suppress(ProcessLookupError):
                self._pidfds[block_id] = os.pidfd_open(pid)
        return list(self._pidfds)

    def start(self, block_id: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        log = self._directory / f"job-{block_id}.log"
        # The shell tells its own pid before it becomes the job.
        line = 'echo $$ > "$0".pid; exec "$@"'
        pidfile = self._directory / f"job-{block_id}"
        os.mkfifo(f"{pidfile}.pid", 0o600)
        submit = [sys.executable, "-I", "-c", SUBMIT, str(log), "--", "sh", "-c", line]
        subprocess.run([*submit, str(pidfile), *command], env=dict(environment), check=True)
        pid = int(Path(f"{pidfile}.pid").read_text())
        Path(f"{pidfile}.pid").unlink()
        self._pidfds[block_id] = os.pidfd_open(pid)
        # Whoever reads it may do so at any time, and this process may be killed at any time.
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps({**self.jobs, block_id: pid}))
        fresh.replace(self._file)

    def descriptors(self) -> list[int]:
        return list(self._pidfds.values())

    def ended(self) -> list[Ended]:
        poll = select.poll()
        for pidfd in self._pidfds.values():
            poll.register(pidfd, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(0)}
        over = [block_id for block_id, pidfd in self._pidfds.items() if pidfd in ready]
        for block_id in over:
            os.close(self._pidfds.pop(block_id))
        return [Ended(block_id, "ended", "", exact=False) for block_id in over]

    def states(self) -> list[BlockState]:
        return [BlockState(block_id, "running", 0.0) for block_id in self._pidfds]

    def look(self, block_id: str) -> None:
        pass

    def lifeline(self) -> None:
        return None

    def stop(self, block_id: str) -> None:
        self._signal(block_id, signal.SIGTERM)

    def kill(self, block_id: str) -> None:
        self.killed.append(block_id)
        self._signal(block_id, signal.SIGKILL)

    def close(self) -> None:
        pass

    def _signal(self, block_id: str, number: signal.Signals) -> None:
        if block_id in self._pidfds:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfds[block_id], number)


def build(
    raw: Any, surroundings: Surroundings, callbacks: Callbacks, provider: BatchSystem
) -> PoolEngine:
    """The engine of these settings on this batch system."""
    where = reach(
        "127.0.0.1",
        local=True,
        loopback="127.0.0.1",
        ports=ports(ComputeEngineSettings()),
        probe_s=5,
    )
    network = Network(surroundings.directory, where, encrypted=True)
    planned = plan(read(raw), surroundings, dict(os.environ), 2, 4.0, provider.lifeline(), network)
    return PoolEngine(planned, provider, callbacks)


class SlowBatchSystem(BatchSystem):
    """Says yes to the end of a job, and does nothing until :meth:`get_round_to_it`."""

    def kill(self, block_id: str) -> None:
        self.killed.append(block_id)

    def get_round_to_it(self) -> None:
        for block_id in self.killed:
            self._signal(block_id, signal.SIGKILL)
