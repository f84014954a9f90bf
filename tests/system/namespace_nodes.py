"""Compute nodes that are namespaces of this machine, and a batch system that starts jobs on them.

A node has a host name and a mount namespace of its own, in which what is hidden from it is an empty
directory. The batch system is root's (:class:`BatchSystem`, in the process of the tests); a user
endpoint of some account asks it for blocks through a Unix socket (:class:`NodesProvider`).
"""

import contextlib
import json
import os
import pwd
import select
import shlex
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mep.endpoint.providers.base import Ended
from mep.endpoint.runtime.runtime import Runtime, carried_command

PACKET = 65536


@dataclass(frozen=True)
class Node:
    name: str
    hidden: Sequence[Path] = ()
    python: Path | None = None
    """Home of an interpreter; None: the system's serves."""

    def command(self, account: pwd.struct_passwd, job: Mapping[str, Any]) -> list[str]:
        """Starts a job on it, as the account."""
        prepare = [f"mount -t tmpfs tmpfs {path}" for path in self.hidden]
        prepare.append(f"echo {self.name} > /proc/sys/kernel/hostname")
        path = "/usr/bin:/bin"
        if self.python:
            prepare += self._opened(self.python)
            path = f"{self.python}/bin:{path}"
        ids = f"--reuid {account.pw_uid} --regid {account.pw_gid} --init-groups"
        home = f"HOME={account.pw_dir} USER={account.pw_name} LOGNAME={account.pw_name}"
        line = f"exec setpriv {ids} -- env -i PATH={path} {home} {shlex.join(job['command'])}"
        namespaces = ("--mount", "--uts", "--propagation", "private")
        return ["unshare", *namespaces, "sh", "-ec", "; ".join((*prepare, line))]

    @staticmethod
    def _opened(python: Path) -> list[str]:
        """Show it to everybody where it is, which is in the private home of whoever runs this."""
        return [
            f"mount --bind {python} /mnt",
            f"mount -t tmpfs -o mode=755 tmpfs {Path.home()}",
            f"mkdir -p {python}",
            f"mount --bind /mnt {python}",
        ]


@dataclass
class _Job:
    processes: "dict[int, subprocess.Popen[bytes]]" = field(default_factory=dict)
    """Of each node, by its pidfd."""
    statuses: list[int] = field(default_factory=list)


class BatchSystem:
    """Runs each job on all of its nodes; a thread of root's, for as long as it is open.

    Args:
        nodes: all of them.
        account: whose jobs they are.
        directory: where its socket is, and what jobs write.
    """

    def __init__(self, nodes: Sequence[Node], account: pwd.struct_passwd, directory: Path) -> None:
        self.path = directory / "scheduler.sock"
        self._nodes = nodes
        self._account = account
        self._directory = directory
        self._jobs: dict[str, _Job] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(self.path))
        self.path.chmod(0o666)
        self._listener.listen(1)
        self._listener.settimeout(60)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Returns when the endpoint has gone and all of its jobs with it."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._listener.close()

    def stderr(self) -> str:
        """What all jobs wrote."""
        return "".join(path.read_text() for path in sorted(self._directory.glob("*.err")))

    def _serve(self) -> None:
        try:
            client, _ = self._listener.accept()
        except TimeoutError:
            return
        with client:
            while self._turn(client):
                pass
        for job in self._jobs.values():
            self._signal(job, signal.SIGKILL)
            for pidfd in list(job.processes):
                self._reap(job, pidfd)

    def _turn(self, client: socket.socket) -> bool:
        owners = {pidfd: name for name, job in self._jobs.items() for pidfd in job.processes}
        ready, _, _ = select.select([client, *owners], [], [])
        for pidfd in set(ready) & set(owners):
            name = owners[pidfd]
            self._reap(self._jobs[name], pidfd)
            if not self._jobs[name].processes:
                how = f"exited with {self._jobs.pop(name).statuses}"
                client.send(json.dumps([name, how, self.stderr()[-4096:]]).encode())
        if client not in ready:
            return True
        packet = client.recv(PACKET)
        if packet:
            self._obey(json.loads(packet))
        return bool(packet)

    def _obey(self, order: Mapping[str, Any]) -> None:
        name = order["block"]
        if order["verb"] == "start":
            job = self._jobs[name] = _Job()
            for node in self._nodes:
                process = self._start(node, order)
                job.processes[os.pidfd_open(process.pid)] = process
        elif name in self._jobs:
            self._signal(self._jobs[name], signal.Signals[order["verb"]])

    def _start(self, node: Node, order: Mapping[str, Any]) -> "subprocess.Popen[bytes]":
        """In a directory of the job's own, with the files that were to be transferred."""
        place = self._directory / f"{order['block']}-{node.name}"
        place.mkdir()
        for file in order["files"]:
            shutil.copy(file, place)
        for path in (place, *place.iterdir()):
            os.chown(path, self._account.pw_uid, self._account.pw_gid)
        with (self._directory / f"{order['block']}-{node.name}.err").open("wb") as log:
            return subprocess.Popen(
                node.command(self._account, order),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=place,
            )

    @staticmethod
    def _signal(job: _Job, number: signal.Signals) -> None:
        for pidfd in job.processes:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, number)

    @staticmethod
    def _reap(job: _Job, pidfd: int) -> None:
        job.statuses.append(job.processes.pop(pidfd).wait())
        os.close(pidfd)


class NodesProvider:
    """A provider over that batch system, in the user endpoint.

    Args:
        scheduler: path of its socket.
        runtime: what node pools run from.
        transfer: whether jobs get copies of their files, for want of a shared file system.
    """

    def __init__(self, scheduler: Path, runtime: Runtime, transfer: bool) -> None:
        self.apart = False
        self._transfer = transfer
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.connect(str(scheduler))
        self._runtime = runtime

    def start(self, block_id: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        pool_file = Path(command[-1])
        if self._transfer:
            carried = self._runtime.carried(pool_file.parent)
            files = [str(carried), str(pool_file)]
            job = carried_command(carried.name, pool_file.name)
        else:
            files, job = [], self._runtime.command(str(pool_file))
        self._order("start", block_id, command=job, files=files)

    def adopt(self) -> list[str]:
        return []

    def descriptors(self) -> Sequence[int]:
        return [self._socket.fileno()]

    def ended(self) -> list[Ended]:
        block_id, how, stderr = json.loads(self._socket.recv(PACKET))
        return [Ended(block_id, how, stderr, exact=True)]

    def states(self) -> list[Any]:
        return []

    def lifeline(self) -> None:
        return

    def look(self, block_id: str) -> None:
        """It tells by itself."""

    def stop(self, block_id: str) -> None:
        self._order("SIGTERM", block_id)

    def kill(self, block_id: str) -> None:
        self._order("SIGKILL", block_id)

    def close(self) -> None:
        self._socket.close()

    def _order(self, verb: str, block_id: str, **rest: Any) -> None:
        self._socket.send(json.dumps({"verb": verb, "block": block_id, **rest}).encode())
