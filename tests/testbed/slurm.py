"""A real Slurm cluster on one machine: munge, slurmctld, a slurmd on each of n1, n2, ...

Several clusters live side by side: ports and munge socket are each one's own. `srun`, `sbatch` and
the rest work as any user with :attr:`Cluster.environment`.
"""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from testbed import accounting, mpi, until
from testbed.machines import Machine, Process
from testbed.slurm_conf import CONTROLLER, addresses, hosts, mpi_conf, slurm_conf

_NEEDED = ("munged", "slurmctld", "slurmd", "srun", "mpicc.openmpi", "mpicc.mpich")
_NEEDED_FOR_ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db")
_PREFIX = "mep-test-slurm-"
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


def missing(with_accounting: bool = False) -> str:
    """Why there can be no cluster here; empty: there can."""
    if os.geteuid() != 0:
        return "needs root: Slurm's daemons change uid"
    needed = _NEEDED + (_NEEDED_FOR_ACCOUNTING if with_accounting else ())
    absent = [name for name in needed if not shutil.which(name, path=_PATH)]
    return f"needs {', '.join(absent)}: see TEST_PACKAGES in the Makefile" if absent else ""


@dataclass(frozen=True)
class Job:
    """A line of `squeue`."""

    job_id: str
    state: str
    """As in ``PENDING``, ``RUNNING``, ``COMPLETING``."""
    user: str
    name: str
    nodes: str
    """As Slurm writes several: ``n[1-3]``; empty while it waits."""


class Cluster:
    """A cluster between :meth:`start` and :meth:`stop`; also a context manager.

    Args:
        nodes: how many; named ``n1``, ``n2``, ...
        cpus: of each.
        with_accounting: also slurmdbd, so that `sacct` works.
        hidden: directories that are empty on the nodes, though not here.
    """

    def __init__(
        self,
        nodes: int = 4,
        cpus: int = 2,
        *,
        with_accounting: bool = False,
        hidden: Sequence[Path] = (),
    ) -> None:
        _sweep()
        self.top = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir="/var/lib"))
        self.nodes = tuple(addresses(nodes))
        self.conf = self.top / "slurm.conf"
        self._accounting = with_accounting
        self._cpus = cpus
        self._ports = _free_ports(nodes + 2)
        log = self.top / "log"
        self._controller = Machine(
            CONTROLLER, log, {self.top / "hosts": Path("/etc/hosts")}, [Path("/dev/shm")]
        )
        self._machines = {
            name: Machine(
                name,
                log,
                {self.top / "pmix-of" / name: self.top / "pmix"},
                hidden,
                self._controller,
            )
            for name in self.nodes
        }

    @property
    def environment(self) -> dict[str, str]:
        """What a user of the cluster needs beside HOME and USER."""
        return {"SLURM_CONF": str(self.conf), "PATH": _PATH}

    @cached_property
    def mpi(self) -> Mapping[str, mpi.Mpi]:
        """``openmpi`` and ``mpich``; compiled when first asked for."""
        return mpi.install(self.top / "mpi")

    # --- life -----------------------------------------------------------------------------------

    def __enter__(self) -> "Cluster":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return when every node is idle.

        Raises:
            TimeoutError: it did not come up; the message has the end of the controller's log.
        """
        with ExitStack() as stack:
            stack.callback(self.stop)
            self._lay_out()
            self._start_controller()
            for name in self.nodes:
                self.power_on(name)
            try:
                until(self._all_idle, "every node idle")
            except TimeoutError as error:
                log = (self.top / "log/slurmctld.log").read_text(errors="replace")
                raise TimeoutError(f"{error}\n{log[-2000:]}") from None
            stack.pop_all()

    def stop(self) -> None:
        """End every process of the cluster, jobs too, and remove its files."""
        for machine in (*self._machines.values(), self._controller):
            machine.off()
        shutil.rmtree(self.top)

    def _lay_out(self) -> None:
        top = self.top
        top.chmod(0o755)
        for name in ("munge", "state", "spool", "log", "pmix", "pmix-of"):
            (top / name).mkdir()
        for name in self.nodes:
            (top / "spool" / name).mkdir()
            (top / "pmix-of" / name).mkdir()
            (top / "pmix-of" / name).chmod(0o1777)
        (top / "hosts").write_text(hosts(len(self.nodes)))
        (top / "mpi.conf").write_text(mpi_conf(top / "pmix"))
        port, dbd_port, *ports = self._ports
        self.conf.write_text(
            slurm_conf(
                top,
                port,
                dict(zip(self.nodes, ports, strict=True)),
                self._cpus,
                dbd_port if self._accounting else None,
            )
        )
        key = top / "munge/key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        for path, owner in ((top / "munge", "munge"), (key, "munge")):
            shutil.chown(path, owner, owner)
        for name in ("state", "log"):
            shutil.chown(top / name, "slurm", "slurm")

    def _start_controller(self) -> None:
        machine, where = self._controller, self.top / "munge"
        machine.on()
        machine.start(
            *("setpriv", "--reuid=munge", "--regid=munge", "--clear-groups"),
            *("munged", "--foreground", "--force", f"--key-file={where}/key"),
            *(f"--socket={where}/socket", f"--pid-file={where}/pid"),
            *(f"--log-file={where}/log", f"--seed-file={where}/seed"),
            environment={},
        )
        until((where / "socket").exists, "munged up")
        if self._accounting:
            accounting.start(machine, self.top, self._ports[1], self.environment)
            self.run("sacctmgr", "--immediate", "add", "cluster", "testbed")
        machine.start("slurmctld", "-D", "-c", environment=self.environment)

    # --- users ----------------------------------------------------------------------------------

    def run(self, *argv: str, user: str | None = None, timeout: float = 60.0) -> str:
        """stdout of a command that knows the cluster.

        Raises:
            subprocess.CalledProcessError: it failed; its output is a note of the error.
        """
        account = pwd.getpwnam(user or "root")
        done = subprocess.run(
            argv,
            env={"HOME": account.pw_dir, "USER": account.pw_name, **self.environment},
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            error = subprocess.CalledProcessError(done.returncode, argv, done.stdout, done.stderr)
            error.add_note(f"{done.stdout}{done.stderr}")
            raise error
        return done.stdout

    def squeue(self, user: str | None = None) -> list[Job]:
        """Jobs that wait, run, or have not quite ended; one user's or everybody's."""
        whose = ("--user", user) if user else ()
        lines = self.run("squeue", "--noheader", "--format=%A|%T|%u|%j|%N", *whose).splitlines()
        return [Job(*line.split("|")) for line in lines]

    def job(self, job_id: str) -> dict[str, str]:
        """What ``scontrol show job`` says, also some minutes after the job's end."""
        words = self.run("scontrol", "--oneliner", "show", "job", job_id).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    # --- what happens to nodes ------------------------------------------------------------------

    def node_state(self, name: str) -> str:
        """As in ``idle``, ``allocated``, ``mixed``, ``down``; ``idle*``: it does not answer."""
        return self.run(
            "sinfo", "--noheader", "--nodes", name, "--partition=debug", "-o", "%T"
        ).strip()

    def down(self, name: str, reason: str = "a test") -> None:
        """The administrator declares a node dead: its jobs end as NODE_FAIL."""
        self.run("scontrol", "update", f"NodeName={name}", "State=DOWN", f"Reason={reason}")

    def resume(self, name: str) -> None:
        """The administrator gives it back, unless it is back by itself."""
        try:
            self.run("scontrol", "update", f"NodeName={name}", "State=RESUME")
        except subprocess.CalledProcessError:
            if self.node_state(name).startswith(("down", "drain")):
                raise

    def kill_slurmd(self, name: str) -> None:
        """kill -9 of the daemon alone: job steps and their processes live on, unattended."""
        self._machines[name].kill("slurmd")

    def start_slurmd(self, name: str) -> None:
        """A daemon for a node that has lost its own."""
        self._machines[name].start("slurmd", "-D", "-N", name, environment=self.environment)

    def power_off(self, name: str) -> None:
        """Every process of the node is gone at once."""
        self._machines[name].off()

    def power_on(self, name: str) -> None:
        """The node boots."""
        self._machines[name].on()
        self.start_slurmd(name)

    def on_node(self, name: str, *argv: str) -> list[str]:
        """The command that runs `argv` on a node, past Slurm."""
        return self._machines[name].inside(*argv)

    def processes(self, name: str) -> list[Process]:
        """What runs on a node."""
        return self._machines[name].processes()

    def users_processes(self, user_id: int) -> dict[str, list[Process]]:
        """The processes of an account, by node; nodes without any are left out."""
        found = {
            name: [process for process in self.processes(name) if process.uid == user_id]
            for name in self.nodes
        }
        return {name: some for name, some in found.items() if some}

    def reset(self) -> None:
        """As after :meth:`start`: no job, every node up and idle."""
        if jobs := [job.job_id for job in self.squeue()]:
            self.run("scancel", *jobs)
        for name in self.nodes:
            if not any(process.name == "slurmd" for process in self.processes(name)):
                self.power_off(name)  # an orphan of the old daemon would keep its job alive
                self.power_on(name)
            if self.node_state(name).startswith(("down", "drain")):
                self.resume(name)
        until(lambda: not self.squeue() and self._all_idle(), "no job and every node idle", 60.0)

    def _all_idle(self) -> bool:
        try:
            states = self.run("sinfo", "--noheader", "--Node", "--partition=debug", "-o", "%T")
        except subprocess.CalledProcessError:  # slurmctld does not listen yet
            return False
        return states.split() == ["idle"] * len(self.nodes)


def _sweep() -> None:
    """Remove what clusters of killed processes have left in files."""
    for left in Path("/var/lib").glob(f"{_PREFIX}*-*"):
        if not Path("/proc", left.name.removeprefix(_PREFIX).split("-")[0]).exists():
            shutil.rmtree(left, ignore_errors=True)  # another process may do the same


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("", 0))
        return [each.getsockname()[1] for each in sockets]
