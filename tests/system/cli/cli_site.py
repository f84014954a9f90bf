"""`mep` as root's command for a site of its own, or as a plain account's, and a relay for both."""

import json
import os
import pwd
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class RunningRelay:
    """A relay process and what its command line made."""

    url: str
    data: Path

    def token(self, user: str, *, admin: bool = False) -> str:
        flags = ["--admin"] if admin else []
        self.command("user", "add", user, *flags)
        return str(json.loads(self.command("token", "create", user, "--json"))["token"])

    def command(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(BIN / "mep-relay"), *arguments, "--data", str(self.data)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout


@dataclass
class CommandLine:
    """Runs ``mep``; `account` and `environment` are whose it is and where its endpoints are."""

    environment: dict[str, str]
    account: pwd.struct_passwd | None = None
    foreground: "subprocess.Popen[str] | None" = field(default=None)

    def _options(self, extra: dict[str, str]) -> dict[str, Any]:
        drop = {}
        if self.account is not None:
            drop = {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}
        return {
            "env": {"PATH": PATH, "LANG": "C.UTF-8", **self.environment, **extra},
            "text": True,
            "cwd": "/",
            **drop,
        }

    def try_(self, *arguments: str, given: str = "", **extra: str):
        """The finished process, whatever its exit status."""
        return subprocess.run(
            [str(BIN / "mep"), *arguments],
            input=given,
            capture_output=True,
            timeout=90,
            check=False,
            **self._options(extra),
        )

    def __call__(self, *arguments: str, given: str = "", **extra: str) -> str:
        """Standard output of a command that succeeds."""
        done = self.try_(*arguments, given=given, **extra)
        assert done.returncode == 0, f"{arguments}: {done.returncode}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout

    def begin(self, *arguments: str, **extra: str) -> "subprocess.Popen[str]":
        """A command that goes on; its output is a pipe."""
        self.foreground = subprocess.Popen(
            [str(BIN / "mep"), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **self._options(extra),
        )
        return self.foreground

    def status(self, name: str) -> dict[str, Any]:
        done = self.try_("status", name, "--json")
        assert done.returncode in (0, 3), done.stderr
        return dict(json.loads(done.stdout))


def user_endpoint(mep, etc, client, account, manager_log):
    """Submit a task; the pid of the process that is started for it."""
    endpoint_id = json.loads((etc / "parent.json").read_text())["endpoint_id"]
    function = client.register_function(print)
    client.run("hello", endpoint_id=endpoint_id, function_id=function)
    while f"started for {account.pw_name}" not in (line := manager_log.readline()):
        assert line
    (user,) = mep.status("test")["user_endpoints"]
    assert user["account"] == account.pw_name
    assert Path(f"/proc/{user['pid']}").stat().st_uid == account.pw_uid
    return user["pid"]


def begin(mep):
    process = mep.begin("start", "test")
    process.stdout.readline()
    process.stdout.readline()
    return process


def pids_gone(*pids: int, seconds: float = 20) -> None:
    """Wait for the end of processes, by pidfd."""
    import select

    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([descriptor], [], [], seconds)[0], f"process {pid} does not end"
        finally:
            os.close(descriptor)


def kill9(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    pids_gone(pid)
