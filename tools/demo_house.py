"""What tools/demo.py builds and takes down again: accounts, a relay, a site, two laptops.

Everything is made below one fresh directory and under names of its own, which a record in that
directory lists, so that a later demonstration can clean up after one that was killed.
"""

import contextlib
import json
import os
import pwd
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

TOOLS: Final = Path(__file__).parent
BIN: Final = Path(sys.executable).parent
ROOT: Final = os.geteuid() == 0
PREFIX: Final = "mep-demo-"
TOP: Final = Path("/var/lib" if ROOT else tempfile.gettempdir())
RECORD: Final = "demo.json"
SERVICE_ACCOUNTS: Final = ("mep", "mep-map")
DOMAIN: Final = "demo.example"
NAME: Final = "demo"
UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

TEMPLATE: Final = """\
display_name: {{ LABEL|default("demonstration") }}
engine:
  type: GlobusComputeEngine
  max_workers_per_node: {{ MAX_WORKERS|default(2) }}
  provider:
    type: LocalProvider
    init_blocks: 1
    min_blocks: 0
    max_blocks: 1
"""
SCHEMA: Final = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "LABEL": {"type": "string", "maxLength": 80},
        "MAX_WORKERS": {"type": "integer", "minimum": 1, "maximum": 8},
    },
    "additionalProperties": False,
}


def say(text: str) -> None:
    print(text, flush=True)


def command(*argv: str | Path, given: str = "", **environment: str) -> str:
    """stdout of a command that must succeed."""
    done = subprocess.run(
        [str(word) for word in argv],
        env={**os.environ, **environment},
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        start_new_session=True,  # Ctrl-C is for the demonstration, which cleans up
    )
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]} {argv[1]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


# --- the record, and what an earlier demonstration left ------------------------------------------


@dataclass
class Record:
    """What has been made, on disk before it is made."""

    top: Path
    pid: int = field(default_factory=os.getpid)
    started: str = field(default_factory=lambda: _start_time(os.getpid()))
    accounts: list[str] = field(default_factory=list)
    service_accounts: list[str] = field(default_factory=list)
    processes: dict[int, str] = field(default_factory=dict)

    def write(self) -> None:
        values = {**vars(self), "top": str(self.top)}
        fresh = self.top / (RECORD + ".new")
        fresh.write_text(json.dumps(values))
        fresh.replace(self.top / RECORD)


def sweep() -> None:
    """Clean up after demonstrations that were killed."""
    for top in TOP.glob(PREFIX + "*"):
        path = top / RECORD
        if top.is_symlink() or not path.is_file() or path.stat().st_uid != os.geteuid():
            continue
        raw = json.loads(path.read_text())
        processes = {int(pid): started for pid, started in raw.pop("processes").items()}
        record = Record(**{**raw, "top": top, "processes": processes})
        if _start_time(record.pid) != record.started:
            say(f"cleaning up after a demonstration that was killed ({top.name})")
            take_down(record)


def take_down(record: Record) -> None:
    """Remove everything in the record; each step is tried, whatever became of those before."""
    steps: list[tuple[str, Callable[[], None]]] = [("endpoint", lambda: _stop(record.top))]
    for pid, started in record.processes.items():
        steps.append((f"process {pid}", lambda p=pid, s=started: _end(p, s)))
    steps += [(name, lambda n=name: _remove_account(n)) for name in record.accounts]
    steps += [(name, lambda n=name: _remove_service(n)) for name in record.service_accounts]
    steps.append(("directory", lambda: shutil.rmtree(record.top)))
    for what, step in steps:
        try:
            step()
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            print(f"demo: {what} could not be cleaned up: {error}", file=sys.stderr)


def _stop(top: Path) -> None:
    """Stop the endpoint, if it runs, and remove what its user endpoints left in a home."""
    environment = site_environment(top)
    listed = json.loads(command(BIN / "mep", "list", "--json", **environment))
    if any(endpoint["running"] for endpoint in listed):
        command(BIN / "mep", "stop", NAME, **environment)
    if not ROOT:
        for audit in top.rglob("audit.log"):
            for name in set(UUID.findall(audit.read_text())):
                shutil.rmtree(Path.home() / ".mep" / name, ignore_errors=True)


def _end(pid: int, started: str) -> None:
    """SIGTERM, then SIGKILL, to the process that had this start time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if _start_time(pid) != started:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number)
            if select.select([descriptor], [], [], 15)[0]:
                return
    finally:
        os.close(descriptor)


def _start_time(pid: int) -> str:
    """Names a process for good, with its pid; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except FileNotFoundError:
        return ""


# --- accounts -------------------------------------------------------------------------------------


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _remove_account(name: str) -> None:
    if not _exists(name):
        return
    uid = pwd.getpwnam(name).pw_uid
    for pid in _processes_of(uid):
        _end(pid, _start_time(pid))
    # 12: there was no home to remove.
    done = subprocess.run(
        ["userdel", "--force", "--remove", name], capture_output=True, timeout=60, check=False
    )
    if done.returncode not in (0, 12):
        raise RuntimeError(done.stderr.decode(errors="replace").strip())


def _remove_service(name: str) -> None:
    if _exists(name) and not _processes_of(pwd.getpwnam(name).pw_uid):
        command("userdel", name)


def _processes_of(uid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError):
                if entry.stat().st_uid == uid:
                    found.append(int(entry.name))
    return found


# --- building -------------------------------------------------------------------------------------


def site_environment(top: Path) -> dict[str, str]:
    """Where `mep` finds the demonstration's endpoint."""
    if ROOT:
        return {"MEP_PREFIX": str(top)}
    return {"XDG_CONFIG_HOME": str(top / "config"), "XDG_STATE_HOME": str(top / "state")}


def harmless() -> dict[str, Any]:
    """For processes that need no privilege: as root, they run as nobody."""
    if not ROOT:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


class House:
    """A relay and a site, up and running."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.environment = site_environment(record.top)
        self.url = ""
        self.endpoint_id = ""
        self.accounts: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        self._relay_data = record.top / "relay/data"

    def make_accounts(self, people: list[str]) -> None:
        """Throw-away accounts for people, and the service's own where they are missing."""
        missing = [name for name in SERVICE_ACCOUNTS if not _exists(name)]
        if missing:
            say(f"making the service's accounts for the demonstration: {', '.join(missing)}")
        for name in missing:
            self.record.service_accounts.append(name)
            self.record.write()
            options = ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
            command("useradd", *options, "--shell", "/usr/sbin/nologin", name)
        for person in people:
            name = f"mepdemo-{secrets.token_hex(3)}"
            self.record.accounts.append(name)
            self.record.write()
            mark = f"mep demo of process {os.getpid()}"
            command(
                "useradd",
                "--password",
                "*",
                "--create-home",
                "--user-group",
                "--comment",
                mark,
                name,
            )
            self.accounts[person] = name
        say(f"making throw-away accounts: {', '.join(self.accounts.values())}; removed at the end")

    def start_relay(self) -> None:
        """An embedded relay: SQLite, plain HTTP on loopback, a port of the kernel's choice."""
        data = self._relay_data
        data.parent.mkdir(mode=0o700)
        drop = harmless()
        if drop:
            os.chown(data.parent, drop["user"], drop["group"])
        self._relay("init", str(data), "--domain", DOMAIN)
        log = (self.record.top / "relay.log").open("ab")
        with log:
            process = self._popen(
                [str(BIN / "mep-relay"), "serve", "--data", str(data), "--port", "0"], stderr=log
            )
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        if not line.startswith("relay listening on "):
            raise RuntimeError(f"the relay did not start; see {self.record.top}/relay.log")
        self.url = line.removeprefix("relay listening on ").strip()

    def add_person(self, name: str, *, admin: bool = False) -> None:
        flags = ["--admin"] if admin else []
        data = str(self._relay_data)
        self._relay("user", "add", name, "--data", data, *flags)
        made = self._relay("token", "create", name, "--data", data, "--json")
        self.tokens[name] = json.loads(made)["token"]

    def start_site(self, owner: str) -> None:
        """Configure, register and start the endpoint; `owner` has the token."""
        self._mep("configure", NAME, "--relay-url", self.url)
        etc = self.record.top / ("etc/mep" if ROOT else "config/mep") / NAME
        (etc / "user_config_template.yaml.j2").write_text(TEMPLATE)
        (etc / "user_config_schema.json").write_text(json.dumps(SCHEMA))
        if ROOT:
            rules = [
                {"source": "{username}", "match": f"{person}@{DOMAIN}", "output": account}
                for person, account in self.accounts.items()
            ]
            document = {"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": rules}
            (etc / "identity_mapping.json").write_text(json.dumps([document]))
        said = self._mep("start", NAME, "--detach", "--json", MEP_TOKEN=self.tokens[owner])
        self.endpoint_id = json.loads(said)["endpoint_id"]
        if json.loads(said)["relay"] != "up":
            raise RuntimeError(f"the endpoint's link to the relay is not up: {said}")

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self._mep("status", NAME, "--json"))
        return status

    @contextlib.contextmanager
    def laptop(self, person: str) -> Iterator["Laptop"]:
        """A process with that person's token, and the SDK."""
        # The checkout may be private, the laptop's account is not its owner.
        script = self.record.top / "laptop.py"
        script.write_text((TOOLS / "demo_laptop.py").read_text())
        process = self._popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            env={
                "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
                "HOME": "/nonexistent" if ROOT else str(Path.home()),
                "MEP_RELAY_URL": self.url,
                "MEP_TOKEN": self.tokens[person],
                "MEP_DEMO_ENDPOINT": self.endpoint_id,
            },
        )
        try:
            yield Laptop(person, process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _popen(self, argv: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, cwd="/", start_new_session=True, **options, **harmless()
        )
        self.record.processes[process.pid] = _start_time(process.pid)
        self.record.write()
        return process

    def _relay(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(BIN / "mep-relay"), *arguments],
            capture_output=True,
            text=True,
            cwd="/",
            timeout=60,
            check=False,
            start_new_session=True,
            **harmless(),
        )
        if done.returncode != 0:
            raise RuntimeError(f"mep-relay {arguments[0]}: {done.stderr.strip()}")
        return done.stdout

    def _mep(self, *arguments: str, **environment: str) -> str:
        return command(BIN / "mep", *arguments, **self.environment, **environment)


class Laptop:
    """One person at a laptop."""

    def __init__(self, person: str, process: "subprocess.Popen[bytes]") -> None:
        self.person = person
        self._process = process

    def do(self, action: str, **arguments: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": action, **arguments}).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.person}'s laptop ended with {self._process.wait(10)}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextlib.contextmanager
def house() -> Iterator[House]:
    """A fresh directory with nothing in it yet; taken down at the end, also when interrupted."""
    top = Path(tempfile.mkdtemp(prefix=PREFIX, dir=TOP))
    top.chmod(0o755 if ROOT else 0o700)
    record = Record(top)
    record.write()
    try:
        yield House(record)
    finally:
        numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        began = time.monotonic()
        take_down(record)
        say(f"everything that was made is removed again ({time.monotonic() - began:.1f} s)")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
