"""PAM's account management, credentials and session, with a real stack and real accounts."""

import grp
import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from warden_harness import (
    Peer,
    Warden,
    granted,
    identity,
    name_of,
    refused,
    started,
    until,
    wish,
)

from mep.manager.packets import Exited
from mep.root.messages import Start, Stop

pytestmark = pytest.mark.root

ALICE = identity("alice")
SHIPPED = Path(__file__).parents[2] / "systemd/pam.d/debian"
GROUP_CONF = Path("/etc/security/group.conf")

if not Path("/etc/pam.d").is_dir():
    pytest.skip("needs PAM (package libpam-modules)", allow_module_level=True)


class Stack:
    """A PAM service of one test, and the files that its modules read and write."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.service = f"mep-test-{secrets.token_hex(4)}"
        self.file = Path("/etc/pam.d", self.service)
        self.log = place / "sessions.log"
        program = place / "note"
        program.write_text(f'#!/bin/sh\necho "$PAM_TYPE $PAM_USER $PAM_SERVICE" >> {self.log}\n')
        program.chmod(0o755)
        (place / "access.conf").write_text("")
        (place / "limits.conf").write_text("* soft nofile 512\n* hard nofile 1024\n* hard core 0\n")
        (place / "pam_env.conf").write_text("MEP_SITE DEFAULT=cluster1\nPATH DEFAULT=/site/bin\n")
        self.lines = [
            "auth required pam_rootok.so",
            f"account required pam_nologin.so file={place}/nologin",
            f"account required pam_access.so accessfile={place}/access.conf",
            "account required pam_unix.so",
            f"session required pam_limits.so conf={place}/limits.conf",
            f"session required pam_env.so conffile={place}/pam_env.conf readenv=0",
            "session required pam_unix.so",
            "session optional pam_echo.so welcome",
            f"session required pam_exec.so {program}",
        ]

    def write(self, *more: str) -> dict[str, Any]:
        """Make the service; what the policy says to use it."""
        self.file.write_text("\n".join([*self.lines, *more]) + "\n")
        return {"enable": True, "service_name": self.service}

    def sessions(self) -> list[str]:
        """What was opened and closed, and for whom."""
        text = self.log.read_text() if self.log.exists() else ""
        return [line.removesuffix(f" {self.service}") for line in text.splitlines()]


@pytest.fixture
def stack(warden: Warden) -> Iterator[Stack]:
    place = warden.base / "pam"
    place.mkdir()
    made = Stack(place)
    yield made
    made.file.unlink(missing_ok=True)


def go(warden: Warden, peer: Peer, boot_id: str, who: str = "alice", do: str = "wait") -> Any:
    """Start for somebody; what the process has seen."""
    start = granted(boot_id, identity(who), options=wish(do))
    peer.say(start)
    told = started(peer.hear())
    name, pid, _ = warden.up()
    assert (name, pid) == (name_of(start), told.pid)
    home = warden.accounts[who].pw_dir
    return json.loads(Path(home, f"seen-{name}.json").read_text())


def opened(account: pwd.struct_passwd) -> str:
    return f"open_session {account.pw_name}"


def closed(account: pwd.struct_passwd) -> str:
    return f"close_session {account.pw_name}"


def test_a_session_from_its_beginning_to_its_end(warden: Warden, stack: Stack) -> None:
    """Limits and variables are in the child; and it has nothing else of root's."""
    warden.start(pam=stack.write())
    alice = warden.accounts["alice"]
    with warden.manager_connected() as (peer, boot_id):
        inside = go(warden, peer, boot_id)
        assert stack.sessions() == [opened(alice)]
        assert inside["limits"]["RLIMIT_NOFILE"] == [512, 1024]
        environment = inside["environment"]
        assert (environment["MEP_SITE"], environment["PATH"]) == ("cluster1", "/site/bin")
        assert environment["HOME"] == alice.pw_dir
        assert "SECRET" not in environment
        assert inside["uids"] == [alice.pw_uid] * 3
        assert inside["gids"] == [alice.pw_gid] * 3
        assert inside["groups"] == sorted(os.getgrouplist(alice.pw_name, alice.pw_gid))
        status = inside["status"]
        assert status["NoNewPrivs"] == "0", "set-uid tools of a scheduler need it off"
        assert {status[key] for key in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {"0" * 16}
        assert (status["SigBlk"], status["SigPnd"]) == ("0" * 16, "0" * 16)
        assert sorted(inside["descriptors"]) == ["0", "1", "2", "3", "4"]
        os.kill(inside["pid"], signal.SIGKILL)
        assert isinstance(peer.hear(), Exited)
    until(lambda: stack.sessions() == [opened(alice), closed(alice)])


def test_privileges_are_gone_in_a_session_too(warden: Warden, stack: Stack) -> None:
    script = (
        "import os\n"
        "for step in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([])):\n"
        "    try: step(); print('REGAINED')\n"
        "    except PermissionError: print('no')\n"
    )
    command = ["/usr/bin/python3", "-I", "-S", "-c", script]
    warden.start(pam=stack.write(), endpoint_command=command)
    with warden.manager_connected() as (peer, boot_id):
        start = granted(boot_id, ALICE)
        peer.say(start)
        started(peer.hear())
        assert peer.hear() == Exited(name_of(start), 0, "")
    log = Path(warden.accounts["alice"].pw_dir, ".mep", name_of(start), "stderr.log")
    assert log.read_text() == "no\n" * 3


def test_the_policy_may_forbid_set_uid_programs(warden: Warden, stack: Stack) -> None:
    warden.start(pam=stack.write() | {"no_new_privs": True})
    with warden.manager_connected() as (peer, boot_id):
        assert go(warden, peer, boot_id)["status"]["NoNewPrivs"] == "1"


@pytest.mark.parametrize("do", ["wait", "ignore"])
def test_a_stop_closes_the_session(warden: Warden, stack: Stack, do: str) -> None:
    """Also where SIGKILL was needed: that is the user's process's, not the leader's."""
    warden.start(pam=stack.write())
    alice = warden.accounts["alice"]
    with warden.manager_connected() as (peer, boot_id):
        go(warden, peer, boot_id, do=do)
        (name,) = [one["user_endpoint_id"] for one in warden.audit() if one["event"] == "started"]
        peer.say(Stop(name))
        end = peer.hear()
        assert isinstance(end, Exited)
        assert end.status == (-signal.SIGKILL if do == "ignore" else -signal.SIGTERM)
    until(lambda: stack.sessions() == [opened(alice), closed(alice)])


def test_a_session_outlives_the_warden_and_is_closed(warden: Warden, stack: Stack) -> None:
    warden.start(pam=stack.write())
    alice = warden.accounts["alice"]
    with warden.manager_connected() as (peer, boot_id):
        inside = go(warden, peer, boot_id)
    warden.end(signal.SIGKILL)
    warden.start()
    with warden.manager_connected() as (peer, _):
        assert stack.sessions() == [opened(alice)]
        os.kill(inside["pid"], signal.SIGKILL)
        until(lambda: stack.sessions() == [opened(alice), closed(alice)])
        assert isinstance(peer.hear(), Exited)


def test_a_refusal_after_the_session_closes_it(warden: Warden, stack: Stack) -> None:
    alice = warden.accounts["alice"]
    rule = {"source": "{username}", "match": ".*", "output": alice.pw_name}
    warden.map({"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": [rule]})
    warden.start(pam=stack.write())
    with warden.manager_connected() as (peer, boot_id):
        go(warden, peer, boot_id)
        peer.say(granted(boot_id, identity("bob")))
        assert refused(peer.hear()).code == "ACCOUNT_SHARED"
    until(lambda: stack.sessions() == [opened(alice), opened(alice), closed(alice)])


# --- who is not let in ----------------------------------------------------------------------------


def must_change(account: pwd.struct_passwd, _: Path) -> None:
    subprocess.run(["chage", "-d", "0", account.pw_name], check=True, timeout=60)


def denied(account: pwd.struct_passwd, place: Path) -> None:
    (place / "access.conf").write_text(f"- : {account.pw_name} : ALL\n")


def maintenance(_: pwd.struct_passwd, place: Path) -> None:
    (place / "nologin").write_text("closed for today\n")


def inactive(account: pwd.struct_passwd, _: Path) -> None:
    command = ["chage", "-d", "2020-01-01", "-M", "10", "-I", "10", account.pw_name]
    subprocess.run(command, check=True, timeout=60)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (must_change, "pam_acct_mgmt: Authentication token is no longer valid"),
        (inactive, "pam_acct_mgmt: "),
        (denied, "pam_acct_mgmt: Permission denied (6)"),
        (maintenance, "pam_acct_mgmt: "),
    ],
)
def test_who_pam_does_not_let_in(
    warden: Warden,
    stack: Stack,
    new_account: Callable[..., pwd.struct_passwd],
    damage: Callable[[pwd.struct_passwd, Path], None],
    words: str,
) -> None:
    """The log has PAM's words; the user reads whom to ask, and a reference."""
    account = warden.accounts["carol"] = new_account("carol")
    damage(account, stack.place)
    warden.start(pam=stack.write())
    with warden.manager_connected() as (peer, boot_id):
        peer.say(granted(boot_id, identity("carol")))
        reply = refused(peer.hear())
    assert reply.code == "ACCOUNT_REFUSED"
    record = warden.refusal()
    assert record["reference"] == reply.reference
    assert record["why"].startswith(f"PAM service {stack.service}: {words}")
    assert stack.sessions() == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (["--lock"], "locked"),
        (["--expiredate", "1"], "expired"),
        (["--shell", "/usr/sbin/nologin"], "nologin"),
    ],
)
def test_whom_pam_alone_might_let_in(
    warden: Warden,
    stack: Stack,
    new_account: Callable[..., pwd.struct_passwd],
    change: list[str],
    why: str,
) -> None:
    account = warden.accounts["carol"] = new_account("carol")
    subprocess.run(["usermod", *change, account.pw_name], check=True, timeout=60)
    warden.start(pam=stack.write())
    with warden.manager_connected() as (peer, boot_id):
        peer.say(granted(boot_id, identity("carol")))
        assert refused(peer.hear()).code == "ACCOUNT_REFUSED"
    assert warden.refusal()["why"].endswith(f": {why}")


def test_a_session_that_cannot_be_opened(warden: Warden, stack: Stack) -> None:
    warden.start(pam=stack.write("session required pam_deny.so"))
    with warden.manager_connected() as (peer, boot_id):
        peer.say(granted(boot_id, ALICE))
        assert refused(peer.hear()).code == "ACCOUNT_REFUSED"
    assert "pam_open_session: " in warden.refusal()["why"]


@pytest.mark.parametrize("name", ["{}-gone", "../pam.d/{}", "{}/../{}", "{}/"])
def test_a_service_without_a_file_of_its_own(warden: Warden, stack: Stack, name: str) -> None:
    """PAM would take `other`, or look elsewhere."""
    pam = stack.write() | {"service_name": name.format(stack.service, stack.service)}
    warden.start(pam=pam)
    with warden.manager_connected() as (peer, boot_id):
        peer.say(granted(boot_id, ALICE))
        assert refused(peer.hear()).code == "START_FAILED"
    assert "there is no file /etc/pam.d/" in warden.refusal()["why"]
    assert stack.sessions() == []


def test_a_service_in_capitals(warden: Warden, stack: Stack) -> None:
    """PAM would look for it in lower case."""
    loud = Path("/etc/pam.d", stack.service.upper())
    stack.write()
    stack.file.rename(loud)
    try:
        warden.start(pam={"enable": True, "service_name": loud.name})
        with warden.manager_connected() as (peer, boot_id):
            peer.say(granted(boot_id, ALICE))
            assert refused(peer.hear()).code == "START_FAILED"
    finally:
        loud.unlink()


# --- other modules --------------------------------------------------------------------------------


def test_a_home_that_is_made_by_the_first_session(
    warden: Warden, stack: Stack, new_account: Callable[..., pwd.struct_passwd]
) -> None:
    account = warden.accounts["carol"] = new_account("carol")
    shutil.rmtree(account.pw_dir)
    warden.start(pam=stack.write("session required pam_mkhomedir.so umask=0077"))
    with warden.manager_connected() as (peer, boot_id):
        inside = go(warden, peer, boot_id, "carol")
    assert inside["cwd"] == account.pw_dir
    found = Path(account.pw_dir).stat()
    assert (found.st_uid, found.st_mode & 0o777) == (account.pw_uid, 0o700)


@pytest.fixture
def admitted(stack: Stack) -> Iterator[int]:
    """A group that pam_group gives to whoever uses the service, and to nobody else."""
    name = "games"
    before = GROUP_CONF.read_text()
    GROUP_CONF.write_text(f"{before}\n{stack.service};*;*;Al0000-2400;{name}\n")
    yield grp.getgrnam(name).gr_gid
    GROUP_CONF.write_text(before)


@pytest.mark.skipif(not GROUP_CONF.exists(), reason="needs pam_group (package libpam-modules)")
def test_groups_that_credentials_bring_stay(warden: Warden, stack: Stack, admitted: int) -> None:
    """The account's groups are set before: set afterwards, they would take these away again."""
    stack.lines.insert(0, "auth required pam_group.so")
    warden.start(pam=stack.write())
    alice = warden.accounts["alice"]
    with warden.manager_connected() as (peer, boot_id):
        inside = go(warden, peer, boot_id)
    groups = os.getgrouplist(alice.pw_name, alice.pw_gid)
    assert admitted not in groups
    assert inside["groups"] == sorted([*groups, admitted])


def test_a_module_that_never_comes_back(warden: Warden, stack: Stack) -> None:
    """Is a start that failed, when its time is over."""
    program = stack.place / "hang"
    program.write_text("#!/bin/sh\nexec /bin/sleep 20\n")
    program.chmod(0o755)
    warden.start(pam=stack.write(f"session required pam_exec.so {program}"), start_timeout_s=1)
    with warden.manager_connected() as (peer, boot_id):
        start = granted(boot_id, ALICE)
        peer.say(start)
        assert peer.hear() == Exited(name_of(start), None, "")


@pytest.mark.skipif(not Path("/etc/pam.d/common-account").exists(), reason="Debian's PAM")
def test_the_service_file_that_is_shipped(warden: Warden, stack: Stack) -> None:
    stack.file.write_text(SHIPPED.read_text())
    warden.start(pam={"enable": True, "service_name": stack.service})
    with warden.manager_connected() as (peer, boot_id):
        inside = go(warden, peer, boot_id)
        assert inside["uids"] == [warden.accounts["alice"].pw_uid] * 3
        start: Start = granted(boot_id, identity("bob"), options=wish("exit:0"))
        peer.say(start)
        started(peer.hear())
        assert peer.hear() == Exited(name_of(start), 0, "")
