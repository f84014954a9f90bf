"""The warden's units under a real systemd, with real logind sessions by pam_systemd."""

import json
import pwd
import re
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from testbed.systemd_box import Box, booted, layouts, missing
from warden_harness import (
    ENDPOINT_ID,
    FAKE_ENDPOINT,
    KEY,
    OPEN_TO_ALL,
    PROGRAM,
    WAIT_S,
    Peer,
    connect_as,
    granted,
    identity,
    name_of,
    started,
    until,
)

from mep.manager.packets import Exited
from mep.root.messages import Stop

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        OPEN_TO_ALL, reason="the code lies beneath a directory that everyone may write to"
    ),
]

SYSTEMD = Path(__file__).parents[2] / "systemd"
ALICE = identity("alice")
SOCKET = Path("/run/mep-warden/site/warden.sock")


class Site:
    """The endpoint `site` of a box, and its accounts by role; uids that nobody else uses."""

    def __init__(self, box: Box) -> None:
        self.box = box
        base = 50_000 + secrets.randbelow(9_000)
        self.uids = {name: base + n for n, name in enumerate(("mep", "mep-map", "boxalice"))}
        for name, uid in self.uids.items():
            box("useradd", "--create-home", "--user-group", "--uid", str(uid), "--password", "*",
                "--shell", "/bin/sh", name)  # fmt: skip
        self.write("etc/pam.d/mep", (SYSTEMD / "pam.d/debian").read_text())
        self.units()
        self.files()
        self.events = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.events.settimeout(WAIT_S)
        where = box.root / "run/mep/site/events.sock"
        where.parent.mkdir(parents=True)
        self.events.bind(str(where))
        where.chmod(0o666)
        box("systemctl", "daemon-reload")
        # Until then there is /run/nologin, as at every boot.
        box("systemctl", "start", "systemd-user-sessions.service", "mep-warden@site.socket")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        target = self.box.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def units(self) -> None:
        """As shipped, but for where this checkout has what packages install."""
        for name in ("mep-warden@.service", "mep-warden@.socket"):
            text = (SYSTEMD / name).read_text()
            text = text.replace("/usr/lib/mep/bin/python3", sys.executable)
            text = text.replace("/usr/lib/mep/site-packages/mep/root/__main__.py", str(PROGRAM))
            text = text.replace("/usr/bin/mep", str(Path(sys.executable).parent / "mep"))
            self.write(f"etc/systemd/system/{name}", text)
        limits = "[Slice]\nTasksMax=17\n"
        self.write("etc/systemd/system/user-.slice.d/50-limits.conf", limits)

    def files(self) -> None:
        etc = "etc/mep/site"
        rule = {"source": "{username}", "match": "alice@example\\.edu", "output": "boxalice"}
        mapping = {"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": [rule]}
        self.write("opt/warden_endpoint.py", FAKE_ENDPOINT.read_text())
        command = json.dumps([sys.executable, "-I", "/opt/warden_endpoint.py"])
        self.write(f"{etc}/policy.toml", f"endpoint_command = {command}\n[pam]\nenable = true\n")
        self.write(f"{etc}/identity_mapping.json", json.dumps([mapping]))
        self.write(f"{etc}/parent.json", json.dumps({"endpoint_id": ENDPOINT_ID}))
        self.write(f"{etc}/config.yaml", "relay_url: https://relay.example.org\n")
        self.write(f"{etc}/user_config_template.yaml.j2", "engine: {}\n")
        self.write(f"{etc}/grant.key", f"1 {KEY.hex()}\n", 0o600)

    def peer(self) -> Peer:
        uid = self.uids["mep"]
        return connect_as(uid, uid, SOCKET, self.box.root)

    def begin(self, peer: Peer, boot_id: str) -> tuple[str, int]:
        """A user endpoint; its name, and its pid as seen from here."""
        start = granted(boot_id, ALICE)
        peer.say(start)
        inside = started(peer.hear()).pid
        assert json.loads(self.events.recv(1000))[:2] == [name_of(start), inside]
        return name_of(start), self.outside(inside)

    def outside(self, pid: int) -> int:
        """The pid here of a process that has this pid there."""
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                text = status.read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            found = re.search(r"^NSpid:\t(\d+)\t(\d+)$", text, re.MULTILINE)
            if found and int(found[2]) == pid and f"\t{self.uids['boxalice']}\t" in text:
                return int(found[1])
        raise AssertionError(f"no process is {pid} in the box")

    def sessions(self) -> list[str]:
        """Accounts with a session of logind's."""
        lines = self.box("loginctl", "list-sessions", "--no-legend").splitlines()
        return [line.split()[2] for line in lines]


@pytest.fixture(
    scope="module", params=layouts() or [None], ids=lambda one: f"v{one.version}" if one else "none"
)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """With each version of control groups that this machine offers."""
    if reason := missing():
        pytest.skip(reason)
    with booted(request.param) as box:
        made = Site(box)
        yield made
        made.events.close()


def group_of(pid: int) -> str:
    """In the hierarchies that systemd keeps processes apart by: its own, and that of version 2."""
    lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    return " ".join(path for _, kind, path in lines if kind in ("name=systemd", ""))


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_the_life_of_a_user_endpoint_under_systemd(site: Site) -> None:
    """Socket activation; a session in the user's slice, with its limits; restart and reload of the
    warden; and the session's end."""
    uid = site.uids["boxalice"]
    peer = site.peer()
    with peer.socket:
        boot_id = peer.running().boot_id
        name, pid = site.begin(peer, boot_id)
        assert f"/user.slice/user-{uid}.slice/session-" in group_of(pid)
        assert site.sessions() == ["boxalice"]
        shown = site.box("systemctl", "show", f"user-{uid}.slice", "--property=TasksMax")
        assert shown == "TasksMax=17\n"
        seen = json.loads(Path(site.box.root, f"home/boxalice/seen-{name}.json").read_text())
        assert seen["environment"]["XDG_SESSION_ID"]

    site.box("systemctl", "restart", "mep-warden@site.service")
    peer = site.peer()
    with peer.socket:
        running = peer.running()
        assert (running.boot_id != boot_id, running.user_endpoint_ids) == (True, [name])
        assert alive(pid)
        peer.say(Stop(name))
        assert peer.hear() == Exited(name, None, "")
    until(lambda: site.sessions() == [])
    assert not alive(pid)

    peer = site.peer()
    with peer.socket:
        name, pid = site.begin(peer, peer.running().boot_id)
        site.write("etc/mep/site/denied", "alice@example.edu\n")
        site.box("systemctl", "reload", "mep-warden@site.service")
        assert peer.hear() == Exited(name, -signal.SIGTERM, "")
    until(lambda: site.sessions() == [])


def test_a_warden_that_cannot_start_says_why(site: Site) -> None:
    policy = site.box.root / "etc/mep/site/policy.toml"
    good = policy.read_text()
    policy.write_text(f"minimum_udi = 5\n{good}")
    try:
        site.box.try_("systemctl", "restart", "mep-warden@site.service")
        journal: list[Any] = []

        def told() -> bool:
            journal[:] = [site.box("journalctl", "--no-pager", "--unit=mep-warden@site.service")]
            return "mep-warden: /etc/mep/site: policy.toml: unknown key minimum_udi" in journal[0]

        until(told)
    finally:
        policy.write_text(good)


def test_nobody_here_has_the_box_s_accounts(site: Site) -> None:
    names = {entry.pw_name for entry in pwd.getpwall()}
    assert "boxalice" not in names
    assert not {entry.pw_uid for entry in pwd.getpwall()} & set(site.uids.values())
