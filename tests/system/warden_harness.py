"""A real warden as root, real accounts, and a manager's connection to it."""

import ctypes
import hashlib
import hmac
import json
import os
import pwd
import secrets
import signal
import socket
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mep
from mep.cli.listener import listen
from mep.manager.packets import Refused, Reply, Running, Started, pack_request, parse_reply
from mep.root import children
from mep.root.messages import MAX_PACKET, Start, Stop

WAIT_S = 60.0
ENDPOINT_ID = "6f1c2f1e-6a3e-4a55-9a0b-2f4f1b7c9d10"
KEY = bytes(range(32))
PROGRAM = Path(mep.__file__).parent / "root" / "__main__.py"
OPEN_TO_ALL = any(above.stat().st_mode & stat.S_IWOTH for above in PROGRAM.parents)
"""Whether the code lies beneath a directory that everyone may write to, such as ``/tmp``: no place
for what root runs, and units do not see it."""
FAKE_ENDPOINT = Path(__file__).parent / "warden_endpoint.py"


def identity(name: str) -> dict[str, str]:
    """One identity record; the same name is the same person."""
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_DNS, name)),
        "status": "used",
        "username": f"{name}@example.edu",
    }


def granted(boot_id: str, *people: dict[str, str], key: bytes = KEY, **changes: Any) -> Start:
    """A signed start, as a relay makes it, for `people`."""
    options = changes.pop("options", b"{}")
    runtime = changes.pop("runtime", b"{}")
    now = int(time.time())
    fields = {
        "v": 1,
        "endpoint_id": ENDPOINT_ID,
        "user_endpoint_id": str(uuid.uuid4()),
        "identities": list(people),
        "options_sha256": hashlib.sha256(options).hexdigest(),
        "runtime_sha256": hashlib.sha256(runtime).hexdigest(),
        "boot_id": boot_id,
        "issued": now,
        "expires": now + 120,
        "nonce": secrets.token_hex(16),
        "key_version": 1,
    } | changes
    grant = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    signature = hmac.digest(key, b"mep-grant-1\0" + grant, "sha256")
    return Start(grant, signature, options, runtime)


def wish(what: str) -> bytes:
    """Options that tell the fake endpoint what to do."""
    return json.dumps({"do": what}).encode()


def name_of(start: Start) -> str:
    """The user endpoint that a start is for."""
    return str(json.loads(start.grant)["user_endpoint_id"])


class Peer:
    """One connection to the warden."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.settimeout(WAIT_S)

    def say(self, request: Start | Stop) -> None:
        self.socket.send(pack_request(request))

    def hear(self) -> Reply:
        packet = self.socket.recv(MAX_PACKET)
        assert packet, "the warden has closed the connection"
        return parse_reply(packet)

    def running(self) -> Running:
        reply = self.hear()
        assert isinstance(reply, Running)
        return reply

    def closed(self) -> bool:
        """Whether the warden closes the connection without another word."""
        try:
            return self.socket.recv(MAX_PACKET) == b""
        except ConnectionResetError:
            return True


def connect_as(uid: int, gid: int, path: Path, root: Path | None = None) -> Peer:
    """A connection made by a process of `uid`: the kernel tells the warden who connected.

    `root`: where `path` begins, if not here.
    """
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            if root is not None:
                os.chroot(root)
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            connection.connect(str(path))
            socket.send_fds(theirs, [b"."], [connection.fileno()])
        finally:
            os._exit(0)
    theirs.close()
    with ours:
        ours.settimeout(WAIT_S)
        _, passed, _, _ = socket.recv_fds(ours, 1, 1)
    os.waitpid(pid, 0)
    assert passed, f"uid {uid} cannot connect to {path}"
    return Peer(socket.socket(fileno=passed[0]))


@dataclass
class Warden:
    """The site's files, and the process that serves it."""

    base: Path
    manager: pwd.struct_passwd
    callout: pwd.struct_passwd
    accounts: dict[str, pwd.struct_passwd] = field(default_factory=dict)
    process: "subprocess.Popen[str] | None" = None

    def __post_init__(self) -> None:
        for folder, mode in (("etc", 0o755), ("state", 0o700), ("run", 0o755), ("log", 0o700)):
            (self.base / folder).mkdir(mode=mode)
        self.program = self.base / "endpoint.py"
        self.program.write_text(FAKE_ENDPOINT.read_text())
        self.etc = self.base / "etc"
        self.policy: dict[str, Any] = {
            "manager_user": self.manager.pw_name,
            "callout_user": self.callout.pw_name,
            "stop_grace_s": 1,
            "endpoint_command": [sys.executable, "-I", str(self.program)],
        }
        self.write("grant.key", f"1 {KEY.hex()}\n", 0o600)
        self.write("parent.json", json.dumps({"endpoint_id": ENDPOINT_ID}))
        self.write("user_config_template.yaml.j2", "engine: {{ 1 }}\n")
        self.write("user_environment.yaml", "A: b\n")
        self.events = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.events.bind(str(self.base / "run/events.sock"))
        self.events.settimeout(WAIT_S)
        (self.base / "run/events.sock").chmod(0o666)
        self.listener = listen(self.socket, self.manager.pw_gid)

    @property
    def socket(self) -> Path:
        return self.base / "run/warden.sock"

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        """Replace a file of the site, as an editor would."""
        fresh = self.etc / f".{name}"
        fresh.write_text(text)
        fresh.chmod(mode)
        fresh.replace(self.etc / name)

    def map(self, *documents: object) -> None:
        """Replace the mapping; without documents: every account's person to that account."""
        rules = [
            {"source": "{username}", "match": f"{person}@example\\.edu", "output": account.pw_name}
            for person, account in self.accounts.items()
        ]
        mine = {"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": rules}
        self.write("identity_mapping.json", json.dumps(list(documents) or [mine]))

    def set_policy(self, **policy: Any) -> None:
        """Write the policy, changed by these keys; a dictionary is a table."""
        self.policy |= policy
        tables = {key: value for key, value in self.policy.items() if isinstance(value, dict)}
        lines = [
            f"{key} = {json.dumps(value)}"
            for key, value in self.policy.items()
            if key not in tables
        ]
        for name, table in tables.items():
            lines += [
                f"[{name}]",
                *(f"{key} = {json.dumps(value)}" for key, value in table.items()),
            ]
        self.write("policy.toml", "\n".join(lines))

    def command(self) -> list[str]:
        return [
            *(sys.executable, "-I", "-S", str(PROGRAM), str(self.etc), str(self.base / "state")),
            *(str(self.base / "log/audit.log"), str(self.base / "run/events.sock")),
            str(self.listener.fileno()),
        ]

    def start(self, **policy: Any) -> None:
        """Start the process, and wait until its log says that it is up."""
        self.set_policy(**policy)
        if not (self.etc / "identity_mapping.json").exists():
            self.map()
        ups = self.count("up")
        # What a service manager and a careless administrator may leave to be inherited.
        self.process = subprocess.Popen(
            self.command(),
            env={"SECRET": "x", "LD_LIBRARY_PATH": "/nowhere"},
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=(self.listener.fileno(),),
        )
        until(lambda: self.count("up") > ups)

    def end(self, number: int) -> int:
        """Send a signal, and wait until it has ended."""
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(WAIT_S)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return status

    def stop(self) -> None:
        """End it and all that it started, however the test ended."""
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGTERM)
        for record in children.living(str(self.base / "state")):
            with suppress(ProcessLookupError):  # it has ended just now
                os.kill(record.leader, signal.SIGTERM)
            exit_of(record.leader)
        self.events.close()
        self.listener.close()

    def peer(self, uid: int | None = None) -> Peer:
        """A connection of the manager's, or of another uid that is in the manager's group."""
        mine = self.manager.pw_uid if uid is None else uid
        return connect_as(mine, self.manager.pw_gid, self.socket)

    @contextmanager
    def manager_connected(self) -> Iterator[tuple[Peer, str]]:
        """A connection as the manager's, and the boot id."""
        peer = self.peer()
        with peer.socket:
            yield peer, peer.running().boot_id

    def up(self) -> tuple[str, int, int]:
        """A fake endpoint that has come up: its id, pid, and the pid of its child, if any."""
        name, pid, grandchild = json.loads(self.events.recv(1000))
        return name, pid, grandchild

    def audit(self) -> list[dict[str, Any]]:
        path = self.base / "log/audit.log"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    def refusal(self) -> dict[str, Any]:
        """The newest record of a refusal; others may follow it at any time."""
        return [one for one in self.audit() if one["event"] == "refused"][-1]

    def count(self, event: str) -> int:
        """How many records of this kind there are."""
        return sum(one["event"] == event for one in self.audit())


def until(holds: Callable[[], object]) -> None:
    """Wait until something holds that nobody tells of."""
    late = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < late, "it does not come about"
        time.sleep(0.01)


def started(reply: Reply) -> Started:
    assert isinstance(reply, Started), reply
    return reply


def refused(reply: Reply) -> Refused:
    assert isinstance(reply, Refused), reply
    return reply


def exit_of(pid: int) -> None:
    """Wait until a process that is not our child has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    import select

    try:
        assert select.select([pidfd], [], [], WAIT_S)[0], f"process {pid} lives"
    finally:
        os.close(pidfd)


@contextmanager
def renamed(name: str, other: str) -> Iterator[None]:
    """An account by a name that the tools would not give it, or not while it is in use."""
    _rename(name, other)
    try:
        yield
    finally:
        _rename(other, name)


def _rename(name: str, other: str) -> None:
    def changed(_: str, text: str) -> str:
        mine = f"{name}:"
        return "".join(
            other + line[len(name) :] if line.startswith(mine) else line
            for line in text.splitlines(keepends=True)
        )

    edit_accounts(changed)


def edit_accounts(change: Callable[[str, str], str]) -> None:
    """Change passwd and shadow (path, text -> text), each as a whole and under their own lock."""
    libc = ctypes.CDLL(None)
    assert libc.lckpwdf() == 0, "somebody else changes accounts"
    try:
        for path in (Path("/etc/passwd"), Path("/etc/shadow")):
            found = path.stat()
            fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
            fresh.touch(stat.S_IMODE(found.st_mode))
            os.chown(fresh, found.st_uid, found.st_gid)
            fresh.write_text(change(str(path), path.read_text()))
            fresh.replace(path)
    finally:
        libc.ulckpwdf()
