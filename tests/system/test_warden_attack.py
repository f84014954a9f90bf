"""A taken-over manager, hostile names, homes and neighbours: each attempt must fail closed."""

import base64
import contextlib
import hmac
import json
import os
import pwd
import random
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from warden_harness import (
    KEY,
    Peer,
    Warden,
    edit_accounts,
    granted,
    identity,
    name_of,
    refused,
    renamed,
    started,
    until,
    wish,
)

from mep.manager.packets import Exited, Refused, pack_request, parse_reply, report
from mep.root import children
from mep.root.messages import MAX_PACKET, START, Stop

pytestmark = pytest.mark.root

ALICE, BOB = identity("alice"), identity("bob")
PACKETS = 100_000
JUNK = 200
"""Of these; each of them costs the connection."""


def resident(pid: int) -> int:
    """Bytes of memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def hostile(dice: random.Random, boot_id: str, good: bytes) -> bytes:
    """A packet in the right form with the wrong contents."""
    match dice.randrange(6):
        case 0:
            return pack_request(Stop(str(dice.randbytes(18).hex())))
        case 1:
            return pack_request(Stop("../" * 12))
        case 2:
            grant = dice.randbytes(dice.randrange(300))
            return START.pack(b"S", len(grant), 0, 0, dice.randbytes(32)) + grant
        case 3:
            flipped = bytearray(good)
            flipped[dice.randrange(START.size - 32, len(good))] ^= 1 << dice.randrange(8)
            return bytes(flipped)
        case 4:
            lengths = [dice.randrange(1 << 31) for _ in range(3)]
            spread = len(good) - START.size
            cut = sorted(dice.randrange(spread + 1) for _ in range(2))
            lengths = [cut[0], cut[1] - cut[0], spread - cut[1]]
            return START.pack(b"S", *lengths, good[13:45]) + good[START.size :]
        case _:
            changes: dict[str, Any] = dice.choice(
                [
                    {"endpoint_id": BOB["id"]},
                    {"expires": 10**11},
                    {"issued": 1},
                    {"v": 2},
                    {"identities": [{"id": "x" * 5000, "status": "used"}]},
                    {"user_endpoint_id": "../../etc/passwd"},
                    {"nonce": "\0" * 32},
                    {"key": b"k" * 32},
                    {},
                ]
            )
            return pack_request(granted(boot_id if changes else "0" * 32, ALICE, **changes))


def junk(dice: random.Random) -> bytes:
    """No message at all."""
    return dice.choice(
        [
            b"Q" + dice.randbytes(20),
            b"S" + b"\xff" * 100,
            b"P" + dice.randbytes(dice.randrange(36)),
            b"x" * (MAX_PACKET + 1),
            b"R{}",
        ]
    )


def test_a_hundred_thousand_hostile_packets(warden: Warden) -> None:
    """Nothing is started, nothing dies, nothing grows; who runs goes on, who may start does."""
    warden.start(starts_per_minute=1000)
    assert warden.process is not None
    dice = random.Random(7)
    peer = warden.peer()
    boot_id = peer.running().boot_id
    peer.say(granted(boot_id, BOB))
    kept = started(peer.hear())
    prepared = [hostile(dice, boot_id, pack_request(granted(boot_id, ALICE))) for _ in range(3000)]
    before = resident(warden.process.pid)
    costly = {dice.randrange(PACKETS) for _ in range(JUNK)}
    replies = 0
    for number in range(PACKETS):
        if number in costly:
            peer.socket.send(junk(dice))
            while packet := drained(peer):
                replies += packet
            peer.socket.close()
            peer = warden.peer()
            assert peer.running().boot_id == boot_id
            continue
        peer.socket.send(dice.choice(prepared))
        if number % 16 == 0:
            peer.socket.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                while packet := peer.socket.recv(MAX_PACKET):
                    reply = parse_reply(packet)
                    assert isinstance(reply, Refused), reply
                    assert reply.code == "GRANT_REFUSED"
                    replies += 1
            peer.socket.settimeout(20)
    peer.socket.close()
    assert warden.process.poll() is None
    assert replies > PACKETS // 4
    assert resident(warden.process.pid) - before < 64 * 1024 * 1024
    assert [one["event"] for one in warden.audit()].count("started") == 1
    assert [one.pid for one in children.living(str(warden.base / "state"))] == [kept.pid]
    with warden.manager_connected() as (fresh, _):
        fresh.say(granted(boot_id, ALICE))
        while not isinstance(reply := fresh.hear(), type(kept)):
            assert isinstance(reply, Refused)


def drained(peer: Peer) -> int:
    """1 for a reply that was still to come, 0 when the warden has closed the connection."""
    try:
        return len(peer.socket.recv(MAX_PACKET)) > 0
    except ConnectionResetError:
        return 0


def test_a_flood_of_starts_that_are_all_the_relay_s(warden: Warden) -> None:
    """Leaders are bounded in number, whoever asks; the rest is refused at once."""
    program = warden.base / "slow"
    program.write_text("#!/bin/sh\nexec /bin/sleep 30\n")
    program.chmod(0o755)
    warden.map({"DATA_TYPE": "external_identity_mapping#1.0.0", "command": [str(program)]})
    # Sooner than the look-up gives up by itself.
    warden.start(max_starting=4, start_timeout_s=4)
    assert warden.process is not None
    with warden.manager_connected() as (peer, boot_id):
        refusals = []
        for first in range(0, 300, 100):  # more that lie unread, and the warden hangs up
            for number in range(first, first + 100):
                peer.say(granted(boot_id, identity(f"person-{number}")))
            refusals += [refused(peer.hear()) for _ in range(100 if first else 96)]
        assert {one.code for one in refusals} == {"START_LIMIT"}
        tree = Path(f"/proc/{warden.process.pid}/task/{warden.process.pid}/children")
        assert len(tree.read_text().split()) <= 4
        assert all(isinstance(peer.hear(), Exited) for _ in range(4))
        peer.say(granted(boot_id, ALICE))
        until(lambda: len(tree.read_text().split()) == 1)


# --- names ----------------------------------------------------------------------------------------


@pytest.fixture
def answered(warden: Warden) -> Callable[[str], None]:
    """Has the identity look-up answer an account of one's choice: it is taken over."""
    answer = warden.base / "answer"
    program = warden.base / "answers"
    program.write_text(f"#!/bin/sh\nexec /bin/cat {answer}\n")
    program.chmod(0o755)
    warden.map({"DATA_TYPE": "external_identity_mapping#1.0.0", "command": [str(program)]})

    def put(name: str) -> None:
        result = [{"id": ALICE["id"], "output": name}]
        document = {"DATA_TYPE": "identity_mapping_output#1.0.0", "result": result}
        answer.write_text(json.dumps(document))
        answer.chmod(0o644)

    return put


@pytest.fixture
def second_root() -> Iterator[str]:
    """Another name of uid 0: no account of these tests' own making, for those are killed off."""
    name = "mepx-second-root"
    lines = {
        "/etc/passwd": f"{name}:x:0:100::/nonexistent:/bin/sh\n",
        "/etc/shadow": f"{name}:*:::::::\n",
    }

    def without(text: str) -> str:
        kept = [one for one in text.splitlines(keepends=True) if not one.startswith(f"{name}:")]
        return "".join(kept)

    edit_accounts(lambda path, text: without(text) + lines[path])
    yield name
    edit_accounts(lambda _, text: without(text))


def test_names_that_are_nobody_s_to_use(
    warden: Warden, answered: Callable[[str], None], second_root: str
) -> None:
    alice = warden.accounts["alice"].pw_name
    lookalike = alice.replace("a", "\N{CYRILLIC SMALL LETTER A}", 1)
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        for name, codes in (
            ("root", {"ACCOUNT_REFUSED"}),
            (second_root, {"ACCOUNT_REFUSED"}),
            (warden.manager.pw_name, {"ACCOUNT_REFUSED"}),
            (warden.callout.pw_name, {"ACCOUNT_REFUSED"}),
            ("daemon", {"ACCOUNT_REFUSED"}),
            *(
                (odd, {"ACCOUNT_UNKNOWN", "START_FAILED", "IDENTITY_NOT_MAPPED"})
                for odd in (
                    "../x", "-oProxyCommand=x", f"{alice}\n", f"\n{alice}", f"{alice}\0",
                    lookalike, alice.upper(), f" {alice}", f"{alice}:x", "x" * 10_000, "0",
                    str(warden.accounts["alice"].pw_uid), "*", "", "\ud800",
                )
            ),
        ):  # fmt: skip
            answered(name)
            peer.say(granted(boot_id, ALICE))
            assert refused(peer.hear()).code in codes, name[:40]
    assert "started" not in [one["event"] for one in warden.audit()]


@pytest.mark.parametrize("form", ["{}.x-Y_z", "{}@example.edu", "{}$", "{}-UPPER", "{}" + "l" * 30])
def test_names_that_are_merely_unusual(
    warden: Warden,
    answered: Callable[[str], None],
    new_account: Callable[..., pwd.struct_passwd],
    form: str,
) -> None:
    account = new_account("odd")
    odd = form.format(account.pw_name)
    with renamed(account.pw_name, odd):
        answered(odd)
        warden.start()
        with warden.manager_connected() as (peer, boot_id):
            start = granted(boot_id, ALICE)
            peer.say(start)
            assert started(peer.hear()).account == odd
            warden.up()
            seen = json.loads(Path(account.pw_dir, f"seen-{name_of(start)}.json").read_text())
            assert seen["environment"]["USER"] == odd
            assert seen["uids"] == [account.pw_uid] * 3
            os.kill(seen["pid"], 9)
            assert isinstance(peer.hear(), Exited)


# --- homes ----------------------------------------------------------------------------------------


def test_a_home_on_a_full_disk(
    warden: Warden, new_account: Callable[..., pwd.struct_passwd]
) -> None:
    account = warden.accounts["carol"] = new_account("carol")
    options = f"nr_inodes=1,mode=0755,uid={account.pw_uid},gid={account.pw_gid}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", account.pw_dir]
    subprocess.run(mount, check=True, timeout=60)
    try:
        warden.start()
        with warden.manager_connected() as (peer, boot_id):
            peer.say(granted(boot_id, identity("carol")))
            started(peer.hear())
            end = peer.hear()
            assert isinstance(end, Exited)
            code, message = report(end.said)
            assert code == "START_FAILED"
            assert "No space left on device" in message
    finally:
        subprocess.run(["umount", "--lazy", account.pw_dir], check=True, timeout=60)


@pytest.mark.parametrize("whose", ["bob", "root"])
def test_a_home_that_leads_to_somebody_else(
    warden: Warden, new_account: Callable[..., pwd.struct_passwd], whose: str
) -> None:
    account = warden.accounts["carol"] = new_account("carol")
    target = warden.base / "theirs"
    target.mkdir(mode=0o755)
    owner = warden.accounts["bob"].pw_uid if whose == "bob" else 0
    os.chown(target, owner, -1)
    away = Path(account.pw_dir).with_suffix(".away")
    Path(account.pw_dir).rename(away)
    Path(account.pw_dir).symlink_to(target)
    try:
        warden.start()
        with warden.manager_connected() as (peer, boot_id):
            peer.say(granted(boot_id, identity("carol")))
            started(peer.hear())
            end = peer.hear()
            assert isinstance(end, Exited)
            assert report(end.said)[0] == "START_FAILED"
        assert list(target.iterdir()) == []
    finally:
        Path(account.pw_dir).unlink()
        away.rename(account.pw_dir)


def test_a_home_that_changes_while_it_is_entered(
    warden: Warden, new_account: Callable[..., pwd.struct_passwd]
) -> None:
    """Links swapped in as fast as can be: whatever is written is written by the user."""
    alice = warden.accounts["alice"] = new_account("alice")
    elsewhere = warden.base / "elsewhere"
    elsewhere.mkdir()
    elsewhere.chmod(0o1777)
    script = (
        "import os, sys, itertools\n"
        "os.chdir(sys.argv[1])\n"
        "print(1, flush=True)\n"
        "for n in itertools.count():\n"
        "    try:\n"
        "        os.rename('.mep', f'.old{n}')\n"
        "    except OSError: pass\n"
        "    try: os.symlink(sys.argv[2], '.mep')\n"
        "    except OSError: pass\n"
        "    try: os.unlink('.mep')\n"
        "    except OSError: pass\n"
    )
    with subprocess.Popen(
        ["/usr/bin/python3", "-I", "-S", "-c", script, alice.pw_dir, str(elsewhere)],
        user=alice.pw_uid, group=alice.pw_gid, extra_groups=[], stdout=subprocess.PIPE,
    ) as racer:  # fmt: skip
        assert racer.stdout is not None
        racer.stdout.readline()
        try:
            warden.start(endpoint_command=["/bin/true"], starts_per_minute=1000)
            with warden.manager_connected() as (peer, boot_id):
                for _ in range(20):
                    peer.say(granted(boot_id, ALICE))
                    started(peer.hear())
                    assert isinstance(peer.hear(), Exited)
        finally:
            racer.kill()
    written = [*elsewhere.rglob("*"), *Path(alice.pw_dir).rglob("*")]
    assert all(path.lstat().st_uid == alice.pw_uid for path in written)


# --- what leaks -----------------------------------------------------------------------------------


def test_secrets_are_in_no_argument_variable_log_or_file(warden: Warden) -> None:
    """But in the key's own file, and in the memory of who needs them."""
    warden.write("user_environment.yaml", "LD_PRELOAD: /tmp/evil.so\nPYTHONPATH: /tmp\n")
    warden.start()
    assert warden.process is not None
    alice = warden.accounts["alice"]
    with warden.manager_connected() as (peer, boot_id):
        start = granted(boot_id, ALICE)
        peer.say(start)
        started(peer.hear())
        warden.up()
        digest = hmac.digest(KEY, b"mep-token-1\0" + start.grant, "sha256")
        token = base64.urlsafe_b64encode(digest).rstrip(b"=")
        secret = [token, digest, digest.hex().encode(), KEY.hex().encode(), start.signature]
        seen = f"seen-{name_of(start)}.json"  # the fake endpoint's own, which shows the test
        for path in (*warden.base.rglob("*"), *Path(alice.pw_dir).rglob("*")):
            if path.is_file() and path.name not in ("grant.key", seen):
                assert not any(one in path.read_bytes() for one in secret), path
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                for name in ("cmdline", "environ"):
                    assert not any(one in (process / name).read_bytes() for one in secret), process
        (record,) = children.living(str(warden.base / "state"))
        for pid in (warden.process.pid, record.leader, record.pid):
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"LD_PRELOAD" not in environment
            assert b"PYTHONPATH" not in environment


def test_one_user_s_endpoint_cannot_reach_another_s(warden: Warden) -> None:
    warden.start()
    alice = warden.accounts["alice"]
    with warden.manager_connected() as (peer, boot_id):
        first = granted(boot_id, ALICE)
        peer.say(first)
        victim = started(peer.hear()).pid
        warden.up()
        (record,) = children.living(str(warden.base / "state"))
        private = socket.socket(socket.AF_UNIX)
        home = Path(alice.pw_dir, ".mep", name_of(first))
        private.bind(str(home / "x.sock"))
        private.listen()
        paths = [
            *(f"/proc/{pid}/{name}" for pid in (victim, record.leader) for name in
              ("environ", "mem", "fd/0", "fd/3", "fd/4", "maps")),
            str(home / "stderr.log"),
            str(warden.base / "state" / name_of(first)),
            str(warden.base / "log/audit.log"),
            str(warden.etc / "grant.key"),
        ]  # fmt: skip
        attack = {"pids": [victim, record.leader], "paths": paths,
                  "sockets": [str(home / "x.sock"), str(warden.socket)]}  # fmt: skip
        second = granted(boot_id, BOB, options=wish(f"attack:{json.dumps(attack)}"))
        peer.say(second)
        started(peer.hear())
        warden.up()
        assert isinstance(peer.hear(), Exited)
        private.close()
        log = Path(warden.accounts["bob"].pw_dir, ".mep", name_of(second), "stderr.log")
        assert json.loads(log.read_text().splitlines()[-1]) == []
        assert os.path.exists(f"/proc/{victim}")
