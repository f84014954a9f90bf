"""The warden's peer, and what outlives what: stops, kill -9, restarts, signals."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from warden_harness import (
    ENDPOINT_ID,
    KEY,
    PROGRAM,
    WAIT_S,
    Peer,
    Warden,
    connect_as,
    exit_of,
    granted,
    identity,
    name_of,
    refused,
    started,
    wish,
)

from mep.cli.listener import listen
from mep.manager.packets import Exited, Running, pack_request
from mep.root import children
from mep.root.messages import MAX_PACKET, Start, Stop

pytestmark = pytest.mark.root

ALICE = identity("alice")


def start_one(warden: Warden, peer: Peer, boot_id: str, do: str = "wait") -> tuple[str, int, int]:
    """A user endpoint that is up: its id, its pid, and the pid of its child."""
    start = granted(boot_id, ALICE, options=wish(do))
    peer.say(start)
    pid = started(peer.hear()).pid
    name, up, grandchild = warden.up()
    assert (name, up) == (name_of(start), pid)
    return name, pid, grandchild


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


# --- the peer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["root", "alice", "callout"])
def test_any_other_peer_is_refused(warden: Warden, who: str) -> None:
    """Even one who has got past the socket's mode."""
    uids = {"root": 0, "alice": warden.accounts["alice"].pw_uid, "callout": warden.callout.pw_uid}
    warden.start()
    peer = warden.peer(uids[who])
    with peer.socket:
        assert peer.closed()
    with warden.manager_connected():
        pass
    assert [one["uid"] for one in warden.audit() if one["event"] == "peer-refused"] == [
        str(uids[who])
    ]


def test_others_cannot_even_connect(warden: Warden) -> None:
    warden.start()
    script = "import socket,sys; socket.socket(1, 5).connect(sys.argv[1])"
    alice = warden.accounts["alice"]
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", "-c", script, str(warden.socket)],
        user=alice.pw_uid, group=alice.pw_gid, extra_groups=[],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "PermissionError" in done.stderr


JUNK = [
    b"Q",
    b"S" + b"\xff" * 100,
    b"P" + b"x" * 35,
    pack_request(Start(b"{}", b"s" * 32, b"", b"")) + b"!",
    b"x" * (MAX_PACKET + 1),
    pack_request(Start(b"g" * MAX_PACKET, b"s" * 32, b"", b"")),
]


@pytest.mark.parametrize("packet", JUNK, ids=range(len(JUNK)))
def test_junk_closes_the_connection(warden: Warden, packet: bytes) -> None:
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        name, pid, _ = start_one(warden, peer, boot_id)
        peer.socket.send(packet)
        assert peer.closed()
    again = warden.peer()
    with again.socket:
        assert again.running() == Running(boot_id, [name])
    assert warden.audit()[-1]["event"] == "peer-gone"
    assert lives(pid)


def test_descriptors_are_not_taken(warden: Warden) -> None:
    warden.start()
    with warden.manager_connected() as (peer, _):
        with open("/dev/full") as file:
            socket.send_fds(peer.socket, [pack_request(Stop(ENDPOINT_ID))], [file.fileno()])
        assert peer.closed()
        assert warden.process is not None
        links = []
        for one in Path(f"/proc/{warden.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed just now, as that of the log is
                links.append(os.readlink(one))
        assert "/dev/full" not in links


def test_a_start_of_the_largest_size(warden: Warden) -> None:
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        pad = MAX_PACKET - len(pack_request(granted(boot_id, ALICE, options=b"{}"))) + 2
        start = granted(boot_id, ALICE, options=b"{" + b" " * (pad - 2) + b"}")
        assert len(pack_request(start)) == MAX_PACKET
        peer.say(start)
        started(peer.hear())


def test_one_peer_at_a_time(warden: Warden) -> None:
    """The newest: a manager that comes again does not wait for its own dead connection."""
    warden.start()
    with warden.manager_connected() as (first, boot_id):
        first.say(granted(boot_id, ALICE))
        name = started(first.hear()).user_endpoint_id
        second = warden.peer()
        assert first.closed()
    with second.socket:
        assert second.running() == Running(boot_id, [name])


def test_a_peer_that_does_not_read_is_hung_up_on(warden: Warden) -> None:
    """Root never waits for the manager, who hears all that counts when it comes again."""
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        name, _, _ = start_one(warden, peer, boot_id)
        bad = pack_request(granted(boot_id, ALICE, key=b"x" * 32))
        peer.socket.settimeout(WAIT_S)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(100_000):
                peer.socket.send(bad)
    again = warden.peer()
    with again.socket:
        assert again.running().user_endpoint_ids == [name]


def test_a_flood_does_not_fill_the_log(warden: Warden) -> None:
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        bad = granted(boot_id, ALICE, key=b"x" * 32)
        for _ in range(2500):
            peer.say(bad)
            refused(peer.hear())
        peer.say(granted(boot_id, ALICE))
        started(peer.hear())
    events = [one["event"] for one in warden.audit()]
    assert events.count("refused") <= 2000  # at most two minutes' worth
    assert events.count("started") == 1


# --- stops ----------------------------------------------------------------------------------------


def test_a_stop(warden: Warden) -> None:
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        name, pid, _ = start_one(warden, peer, boot_id)
        peer.say(Stop(name))
        end = peer.hear()
        assert isinstance(end, Exited)
        assert (end.user_endpoint_id, end.status) == (name, -signal.SIGTERM)
        assert not lives(pid)


def test_a_stop_of_what_ignores_it(warden: Warden) -> None:
    """SIGKILL after the grace, to the whole process group."""
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        name, pid, grandchild = start_one(warden, peer, boot_id, "ignore")
        peer.say(Stop(name))
        end = peer.hear()
        assert isinstance(end, Exited)
        assert end.status == -signal.SIGKILL
        assert not lives(pid)
        exit_of(grandchild)


def test_a_stop_leaves_nobody_of_the_group(warden: Warden) -> None:
    """Nor where the endpoint itself ended as it was told, and left a child that did not."""
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        name, _, grandchild = start_one(warden, peer, boot_id, "family")
        assert lives(grandchild)
        peer.say(Stop(name))
        end = peer.hear()
        assert isinstance(end, Exited)
        assert end.status == -signal.SIGTERM
        exit_of(grandchild)


def test_a_stop_of_nothing(warden: Warden) -> None:
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        peer.say(Stop(ENDPOINT_ID))
        peer.say(Stop("/" * 36))
        peer.say(granted(boot_id, ALICE))
        started(peer.hear())


# --- the warden's own end -------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_users_outlive_the_warden_and_are_adopted(warden: Warden, how: signal.Signals) -> None:
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        name, pid, _ = start_one(warden, peer, boot_id)
    status = warden.end(how)
    assert status == -how
    assert lives(pid)

    warden.start()
    with warden.manager_connected() as (peer, second):
        assert second != boot_id
    peer = warden.peer()
    with peer.socket:
        assert peer.running() == Running(second, [name])
        peer.say(granted(second, ALICE, user_endpoint_id=name))
        told = started(peer.hear())
        assert (told.account, told.pid) == (warden.accounts["alice"].pw_name, pid)
        os.kill(pid, signal.SIGKILL)
        end = peer.hear()
        assert isinstance(end, Exited)
        assert (end.user_endpoint_id, end.status) == (name, None)


def test_what_is_adopted_is_stopped_like_any_other(warden: Warden) -> None:
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        name, pid, grandchild = start_one(warden, peer, boot_id, "ignore")
    warden.end(signal.SIGKILL)
    warden.start()
    peer = warden.peer()
    with peer.socket:
        assert peer.running().user_endpoint_ids == [name]
        peer.say(Stop(name))
        end = peer.hear()
        assert isinstance(end, Exited)
        assert (end.user_endpoint_id, end.status) == (name, None)
    exit_of(pid)
    exit_of(grandchild)


def test_who_ended_meanwhile_is_not_adopted(warden: Warden) -> None:
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        _, pid, _ = start_one(warden, peer, boot_id)
    warden.end(signal.SIGKILL)
    (record,) = children.living(str(warden.base / "state"))
    os.kill(pid, signal.SIGKILL)
    exit_of(pid)
    exit_of(record.leader)
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        pass
    peer = warden.peer()
    with peer.socket:
        assert peer.running().user_endpoint_ids == []
    assert [path.name for path in (warden.base / "state").iterdir()] == ["lock"]


def test_an_account_in_use_stays_in_use_across_a_restart(warden: Warden) -> None:
    rule = {"source": "{username}", "match": ".*", "output": warden.accounts["alice"].pw_name}
    warden.map({"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": [rule]})
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        start_one(warden, peer, boot_id)
    warden.end(signal.SIGKILL)
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        peer.say(granted(boot_id, identity("bob")))
        assert refused(peer.hear()).code == "ACCOUNT_SHARED"


def test_the_policy_is_read_again(warden: Warden) -> None:
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        text = (warden.etc / "policy.toml").read_text()
        warden.write("policy.toml", f"{text}\nallow_users = []\n")
        peer.say(granted(boot_id, ALICE))
        assert refused(peer.hear()).code == "ACCOUNT_REFUSED"
        warden.write("policy.toml", f"{text}\nalow_users = []\n")
        peer.say(granted(boot_id, ALICE))
        assert refused(peer.hear()).code == "ACCOUNT_REFUSED"
        record = next(one for one in warden.audit() if one["event"] == "settings-refused")
        assert "unknown key alow_users" in record["why"]


# --- what refuses to start ------------------------------------------------------------------------


def said(warden: Warden) -> str:
    """What a warden that does not start says."""
    done = subprocess.run(
        warden.command(), capture_output=True, text=True, check=False, timeout=60, env={}
    )
    assert done.returncode == 1
    assert done.stderr.startswith("mep-warden: ")
    return done.stderr


@pytest.fixture
def ready(warden: Warden) -> Warden:
    """A site that would start."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in warden.policy.items()]
    warden.write("policy.toml", "\n".join(lines))
    warden.map()
    return warden


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [
        ("grant.key", 0o640, "chmod 600"),
        ("policy.toml", 0o664, "chmod go-w"),
        ("identity_mapping.json", 0o666, "chmod go-w"),
        ("parent.json", 0o666, "chmod go-w"),
    ],
)
def test_files_that_are_not_root_s_alone(ready: Warden, name: str, mode: int, words: str) -> None:
    (ready.etc / name).chmod(mode)
    assert words in said(ready)


@pytest.mark.parametrize(
    "name", ["grant.key", "policy.toml", "identity_mapping.json", "parent.json"]
)
def test_files_that_are_missing(ready: Warden, name: str) -> None:
    (ready.etc / name).unlink()
    assert name in said(ready)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("grant.key", "", "mep register"),
        ("grant.key", "1 abcd\n", "mep register"),
        ("grant.key", f"x {KEY.hex()}\n", "invalid literal"),
        ("parent.json", "{}", "endpoint_id"),
        ("parent.json", "[]", "etc"),
        ("parent.json", "{", "etc"),
        ("identity_mapping.json", "{", "$ is not JSON"),
        ("identity_mapping.json", "[{}]", "$[0].DATA_TYPE"),
        ("policy.toml", "manager_user = 'no-such-account-here'", "no-such-account-here"),
        ("policy.toml", "callout_user = 'no-such-account-here'", "no-such-account-here"),
    ],
)
def test_files_that_make_no_sense(ready: Warden, name: str, text: str, words: str) -> None:
    if name == "policy.toml":
        text = (ready.etc / name).read_text().replace(text.split()[0], f"{text}\n#")
    ready.write(name, text, 0o600)
    assert words in said(ready)


@pytest.mark.parametrize("folder", ["state", "log"])
def test_directories_that_others_can_write(ready: Warden, folder: str) -> None:
    (ready.base / folder).chmod(0o777)
    assert "chmod go-w" in said(ready)


# --- other ways to be started ---------------------------------------------------------------------


def test_what_is_passed_must_be_a_socket(ready: Warden) -> None:
    with open("/dev/null") as file:
        done = subprocess.run(
            [*ready.command()[:-1], str(file.fileno())], pass_fds=(file.fileno(),),
            capture_output=True, text=True, check=False, timeout=60, env={},
        )  # fmt: skip
    assert (done.returncode, done.stderr[:12]) == (1, "mep-warden: ")


def test_a_warden_that_is_not_root(warden: Warden) -> None:
    """The owner's own: no drop, no mapping, the same everything else."""
    alice = warden.accounts["alice"]
    base = Path(alice.pw_dir) / "site"  # everything that is hers is removed with her
    for folder in ("", "etc", "state", "run", "log"):
        (base / folder).mkdir(mode=0o700)
    files = {
        "grant.key": f"1 {KEY.hex()}\n",
        "parent.json": json.dumps({"endpoint_id": ENDPOINT_ID}),
        "user_config_template.yaml.j2": "x",
        "policy.toml": f"owner = ['{ALICE['id']}']\nendpoint_command = "
        + json.dumps([sys.executable, "-I", str(warden.program)]),
    }
    for name, text in files.items():
        (base / "etc" / name).write_text(text)
        (base / "etc" / name).chmod(0o600)
    for path in [base, *base.rglob("*")]:
        os.chown(path, alice.pw_uid, alice.pw_gid)
    listener = listen(base / "run/warden.sock", None)
    os.chown(base / "run/warden.sock", alice.pw_uid, alice.pw_gid)
    process = subprocess.Popen(
        [
            *(sys.executable, "-I", "-S", str(PROGRAM), str(base / "etc"), str(base / "state")),
            *(str(base / "log/audit.log"), str(warden.base / "run/events.sock")),
            str(listener.fileno()),
        ],
        user=alice.pw_uid, group=alice.pw_gid, extra_groups=[], text=True,
        env={"HOME": alice.pw_dir}, pass_fds=(listener.fileno(),),
    )  # fmt: skip
    try:
        stranger = connect_as(0, 0, base / "run/warden.sock")
        with stranger.socket:
            assert stranger.closed()
        peer = connect_as(alice.pw_uid, alice.pw_gid, base / "run/warden.sock")
        with peer.socket:
            boot_id = peer.running().boot_id
            peer.say(granted(boot_id, identity("eve")))
            assert refused(peer.hear()).code == "IDENTITY_NOT_MAPPED"
            start = granted(boot_id, identity("eve"), ALICE)
            peer.say(start)
            told = started(peer.hear())
            assert told.account == alice.pw_name
            assert warden.up()[1] == told.pid
            inside = json.loads(Path(alice.pw_dir, f"seen-{name_of(start)}.json").read_text())
            assert inside["uids"] == [alice.pw_uid] * 3
            assert inside["status"]["NoNewPrivs"] == "0"
            assert sorted(inside["descriptors"]) == ["0", "1", "2", "3", "4"]
            assert json.loads(inside["sections"]["facts"])["identity_id"] == ALICE["id"]
            records = map(json.loads, (base / "log/audit.log").read_text().splitlines())
            (mapped,) = [one for one in records if one["event"] == "mapped"]
            assert (mapped["identity"], mapped["rule"]) == (ALICE["id"], "owner")
            peer.say(Stop(name_of(start)))
            assert isinstance(peer.hear(), Exited)
    finally:
        process.kill()
        process.wait()
        listener.close()
