"""Simulated machines: host name and mounts of their own; one process tree for all of a cluster.

The network and the files are the host's. A cluster's machines have their processes in one PID
namespace, apart from the host's: they end with the process that made the first machine, even by
SIGKILL, so that a test run leaves nothing behind.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed import until

# What holds a machine; that of a cluster's first is also the parent of its orphans, of whom dash's
# `wait` leaves no zombie.
_INIT = """
set -e
hostname "$1"; shift
while [ "$1" != -- ]; do mount --bind "$1" "$2"; shift 2; done; shift
for empty; do mount -t tmpfs -o mode=1777,size=256m tmpfs "$empty"; done
echo up
sleep infinity & wait
"""
_IDENTITY = ("ns/uts", "ns/pid")
"""What all processes of a machine have in common, and nobody else."""
_NAMESPACES = ["unshare", "--uts", "--mount"]
_FIRST = [
    "setpriv",
    "--pdeathsig",
    "KILL",
    *_NAMESPACES,
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
]


@dataclass(frozen=True)
class Process:
    """A process of a machine; `pid` as the host counts."""

    pid: int
    name: str
    uid: int
    argv: tuple[str, ...]


class Machine:
    """One machine; :meth:`on` and :meth:`off` may be repeated.

    Args:
        name: its host name.
        log: directory for what its daemons print.
        mounts: directory or file of this machine alone → where it appears.
        empty: directories that are empty at first, and this machine's alone.
        first: the first machine of the cluster, which is on; None: this is it. The others see what
            is mounted there.
    """

    def __init__(
        self,
        name: str,
        log: Path,
        mounts: Mapping[Path, Path],
        empty: Sequence[Path] = (),
        first: "Machine | None" = None,
    ) -> None:
        self.name = name
        self._log = log
        self._words = [str(path) for pair in mounts.items() for path in pair]
        self._first = first
        self._empty = [str(path) for path in empty]
        self._holder: subprocess.Popen[str] | None = None
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._init = 0
        self._namespaces: tuple[str, ...] = ()

    def on(self) -> None:
        """Start the machine, with no daemon yet."""
        if self._holder is not None:
            return
        log = self._log / f"init-{self.name}.out"
        with log.open("ab") as errors:
            self._holder = subprocess.Popen(
                [
                    *(self._first.inside(*_NAMESPACES) if self._first else _FIRST),
                    *("sh", "-c", _INIT, "init", self.name, *self._words, "--", *self._empty),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        assert self._holder.stdout
        if not self._holder.stdout.readline():
            self.off()
            raise RuntimeError(f"machine {self.name} did not start: {log.read_text()}")
        holder = self._holder.pid
        self._init = int(Path(f"/proc/{holder}/task/{holder}/children").read_text())
        proc = Path("/proc", str(self._init))
        self._namespaces = tuple(os.readlink(proc / name) for name in _IDENTITY)

    def off(self) -> None:
        """End every process of the machine at once, as a power cut would."""
        if self._holder is None:
            return
        assert self._holder.stdout
        until(lambda: not self._kill(self._all()), f"the processes of {self.name} gone")
        self._holder.kill()
        self._holder.wait(60)
        self._holder.stdout.close()
        for daemon in self._daemons:
            daemon.wait(60)
        self._holder = None
        self._daemons.clear()

    def inside(self, *argv: str) -> list[str]:
        """The command that runs `argv` on this machine."""
        return ["nsenter", "--target", str(self._init), "--all", *argv]

    def start(self, *argv: str, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        """Start a daemon that stays in the foreground; its output goes to the log directory."""
        with (self._log / f"{Path(argv[0]).name}-{self.name}.out").open("ab") as log:
            daemon = subprocess.Popen(
                self.inside(*argv),
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._daemons.append(daemon)
        return daemon

    def kill(self, name: str) -> None:
        """SIGKILL to the processes of that name (as in ``ps -o comm``); see them gone."""
        victims = [process for process in self.processes() if process.name == name]
        if not victims:
            raise ProcessLookupError(f"no {name} runs on {self.name}")
        self._kill(victims)
        until(lambda: not {*self.processes()} & {*victims}, f"{name} gone from {self.name}")

    def processes(self) -> list[Process]:
        """What runs on the machine, apart from what holds it."""
        return [
            process
            for process in self._all()
            if process.argv != ("sleep", "infinity") and process.pid != self._init
        ]

    def _all(self) -> list[Process]:
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
        return [found for pid in pids for found in self._process(pid)]

    @staticmethod
    def _kill(processes: Sequence[Process]) -> bool:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        return bool(processes)

    def _process(self, pid: int) -> Iterator[Process]:
        proc = Path("/proc", str(pid))
        try:
            if tuple(os.readlink(proc / name) for name in _IDENTITY) != self._namespaces:
                return
            status = (proc / "status").read_text()
            argv = (proc / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return  # gone, or not even root's to look at, so none of ours
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        if fields["State"][0] not in "ZX":
            yield Process(pid, fields["Name"], int(fields["Uid"].split()[0]), tuple(argv))
