"""A PostgreSQL server of its own: data in a new directory, run by an account without privilege.

It listens on a Unix socket in that directory and on a free port of 127.0.0.1; connections by TCP
need the password.
"""

import os
import pwd
import secrets
import select
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from testbed import until

ACCOUNT = "postgres"
_HOMES = Path("/usr/lib/postgresql")
_BOUND_S = 120


def missing() -> str | None:
    """Why there can be no server here; None if there can."""
    if _programs() is None:
        return "needs PostgreSQL (package postgresql)"
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(ACCOUNT)
        except KeyError:
            return f"needs an account {ACCOUNT} to run PostgreSQL as (package postgresql)"
    return None


def _programs() -> Path | None:
    found = sorted(_HOMES.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class Server:
    """One server; a context manager. `fsync` off makes it fast, and unfit for a power cut."""

    user = "relay"

    def __init__(self, *, fsync: bool = True) -> None:
        programs = _programs()
        assert programs is not None
        self._programs = programs
        self._fsync = fsync
        self._process: subprocess.Popen[bytes] | None = None
        self.password = secrets.token_hex(8)
        self.directory = Path(tempfile.mkdtemp(prefix="mep-postgres-", dir="/tmp"))
        self.port = 0

    def __enter__(self) -> Self:
        try:
            self._make()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.directory)

    def start(self) -> None:
        """Start it, or start it again on the same port, and wait until it answers."""
        self.port = self.port or _free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
            "fsync": "on" if self._fsync else "off",
            "shared_buffers": "128MB",  # PostgreSQL's own default
            "max_connections": "40",
            "timezone": "UTC",
        }
        words = [f"-c{name}={value}" for name, value in settings.items()]
        with open(self.directory / "log", "ab") as log:
            self._process = subprocess.Popen(
                # It ends with whoever started it, also if that is killed.
                [
                    "setpriv",
                    "--pdeathsig",
                    "INT",
                    self._programs / "postgres",
                    "-D",
                    self.directory / "data",
                    *words,
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as_account(),
            )
        until(self._answers, f"PostgreSQL in {self.directory}", _BOUND_S)

    def stop(self) -> None:
        """End it, with whatever connections there are."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
            self._process.wait(_BOUND_S)
            self._process = None

    def kill(self) -> None:
        """As a crash of the server would: every process of it at once, and gone when it returns.

        Each is the leader of a session of its own. While one of them lives, no other server starts.
        """
        assert self._process is not None
        pid = self._process.pid
        self._process.send_signal(signal.SIGSTOP)  # it forks nobody any more
        until(lambda: _state(pid) == "T", "the postmaster stopped", _BOUND_S)
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        living = [os.pidfd_open(int(child)) for child in children]
        for pidfd in living:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        for pidfd in living:
            assert select.select([pidfd], [], [], _BOUND_S)[0], "a process of PostgreSQL lives"
            os.close(pidfd)
        self._process.kill()
        self._process.wait(_BOUND_S)
        self._process = None

    def new_database(self) -> str:
        """URL of a new, empty database, without the password."""
        name = f"db_{secrets.token_hex(4)}"
        self.sql(f"CREATE DATABASE {name}")
        return f"postgresql://{self.user}@127.0.0.1:{self.port}/{name}"

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run one statement; its rows as text."""
        done = subprocess.run(
            [*self._psql(database), "-c", statement],
            capture_output=True,
            text=True,
            timeout=_BOUND_S,
            **self._as_account(),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _make(self) -> None:
        password = self.directory / "password"
        password.write_text(self.password)
        if os.geteuid() == 0:
            for path in (self.directory, password):
                shutil.chown(path, ACCOUNT, ACCOUNT)
        command = [self._programs / "initdb", "-D", self.directory / "data", "-U", self.user]
        how = ["--auth-host=scram-sha-256", "--auth-local=trust", f"--pwfile={password}"]
        done = subprocess.run(
            [*command, *how, "--encoding=UTF8", "--locale=C", "--no-sync"],
            capture_output=True,
            text=True,
            timeout=_BOUND_S,
            **self._as_account(),
        )
        assert done.returncode == 0, done.stderr

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.directory / "log").read_text()
        done = subprocess.run(
            [*self._psql("postgres"), "-c", "SELECT 1"],
            capture_output=True,
            timeout=_BOUND_S,
            **self._as_account(),
        )
        return done.returncode == 0

    def _psql(self, database: str) -> list[str]:
        where = ["-h", str(self.directory), "-p", str(self.port), "-U", self.user, "-d", database]
        return [
            str(self._programs / "psql"),
            "-X",
            "-A",
            "-t",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            *where,
        ]

    def _as_account(self) -> dict[str, object]:
        # From a directory that the account can enter, and without the caller's PG* variables.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        common: dict[str, object] = {"cwd": "/", "env": environment}
        if os.geteuid() == 0:
            common |= {"user": ACCOUNT, "group": ACCOUNT, "extra_groups": []}
        return common


def _state(pid: int) -> str:
    """As in proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
