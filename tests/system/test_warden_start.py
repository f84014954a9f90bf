"""Starts as root, with real accounts: what the user's process sees, and every refusal."""

import hashlib
import json
import os
import pwd
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from warden_harness import (
    ENDPOINT_ID,
    KEY,
    Peer,
    Warden,
    granted,
    identity,
    name_of,
    refused,
    started,
    wish,
)

from mep.manager.packets import Exited, report
from mep.manager.sentences import SENTENCES
from mep.manager.sentences import refused as sentence
from mep.root.messages import Start
from mep.wire import handover

pytestmark = pytest.mark.root

ALICE, BOB = identity("alice"), identity("bob")


@pytest.fixture
def talk(warden: Warden):
    """A warden that runs, the manager's connection to it, and the boot id."""
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        yield warden, peer, boot_id


def seen(warden: Warden, account: pwd.struct_passwd, start: Start) -> dict[str, Any]:
    """What the process of a start has seen, once it is up."""
    name, pid, _ = warden.up()
    assert name == name_of(start)
    found = json.loads(Path(account.pw_dir, f"seen-{name}.json").read_text())
    assert found["pid"] == pid
    return found


def test_what_the_process_sees(talk) -> None:
    warden, peer, boot_id = talk
    alice = warden.accounts["alice"]
    start = granted(
        boot_id, ALICE, BOB | {"status": "unused"}, options=b'{"do": "wait", "x": "\xc3\xa4"}'
    )
    peer.say(start)
    told = started(peer.hear())
    assert (told.user_endpoint_id, told.account) == (name_of(start), alice.pw_name)

    inside = seen(warden, alice, start)
    assert inside["pid"] == told.pid
    assert inside["uids"] == [alice.pw_uid] * 3
    assert inside["gids"] == [alice.pw_gid] * 3
    assert inside["groups"] == sorted(os.getgrouplist(alice.pw_name, alice.pw_gid))
    zero = "0" * 16
    status = inside["status"]
    assert {key: status[key] for key in status if key.startswith("Cap")} == dict.fromkeys(
        ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"], zero
    )
    assert status["NoNewPrivs"] == "1"
    assert (status["SigBlk"], status["SigPnd"]) == (zero, zero)
    assert inside["alarm"] == 0
    log = f"{alice.pw_dir}/.mep/{name_of(start)}/stderr.log"
    assert inside["descriptors"].pop("4").startswith("socket:")
    assert inside["descriptors"] == {
        "0": "/dev/null",
        "1": log,
        "2": log,
        "3": "/memfd:mep (deleted)",
    }
    assert inside["environment"] == {
        "HOME": alice.pw_dir,
        "USER": alice.pw_name,
        "LOGNAME": alice.pw_name,
        "SHELL": alice.pw_shell,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
    }
    assert inside["umask"] == 0o077
    assert inside["limits"]["RLIMIT_CORE"][0] == 0
    assert inside["cwd"] == alice.pw_dir
    assert inside["session"]


def test_limits_are_those_of_the_warden(talk) -> None:
    """But for core dumps: a site sets them for its users where it sets them for the warden."""
    import resource

    warden, peer, boot_id = talk
    start = granted(boot_id, ALICE)
    peer.say(start)
    started(peer.hear())
    inside = seen(warden, warden.accounts["alice"], start)
    for name, pair in inside["limits"].items():
        if name != "RLIMIT_CORE":
            assert tuple(pair) == resource.getrlimit(getattr(resource, name)), name


def test_the_memory_file(talk) -> None:
    warden, peer, boot_id = talk
    alice = warden.accounts["alice"]
    start = granted(boot_id, ALICE, BOB, options=wish("wait"), runtime=b'{"python": "3"}')
    peer.say(start)
    started(peer.hear())
    inside = seen(warden, alice, start)
    assert inside["seals"] == 0b1111
    assert (inside["memory_mode"], inside["memory_uid"]) == ("0o0", 0)
    assert inside["reopens"] == "Permission denied, Permission denied"

    sections = {name: body.encode("latin-1") for name, body in inside["sections"].items()}
    packed = b"".join(
        handover._SECTION.pack(name.encode(), len(body)) + body for name, body in sections.items()
    )
    got = handover.decode(handover.MAGIC + packed)
    assert (got.options, got.runtime) == (start.options, start.runtime)
    assert got.template == b"engine: {{ 1 }}\n"
    assert got.schema == b""
    assert got.environment == b"A: b\n"
    assert json.loads(got.parent) == {"endpoint_id": ENDPOINT_ID}
    assert json.loads(got.facts) == {
        "endpoint_id": ENDPOINT_ID,
        "user_endpoint_id": name_of(start),
        "identity_id": ALICE["id"],
        "identities": sorted([ALICE["id"], BOB["id"]]),
        "events_socket": str(warden.base / "run/events.sock"),
        "template_directory": str(warden.etc),
    }
    import base64
    import hmac

    token = hmac.digest(KEY, b"mep-token-1\0" + start.grant, "sha256")
    assert got.token == base64.urlsafe_b64encode(token).rstrip(b"=")


def test_where_the_log_is(talk) -> None:
    warden, peer, boot_id = talk
    alice = warden.accounts["alice"]
    start = granted(boot_id, ALICE, options=wish("exit:0"))
    peer.say(start)
    started(peer.hear())
    warden.up()
    assert isinstance(peer.hear(), Exited)
    home = Path(alice.pw_dir)
    for path, mode in (
        (home / ".mep", 0o700),
        (home / ".mep" / name_of(start), 0o700),
        (home / ".mep" / name_of(start) / "stderr.log", 0o600),
    ):
        found = path.stat()
        assert (found.st_uid, found.st_gid) == (alice.pw_uid, alice.pw_gid)
        assert stat.S_IMODE(found.st_mode) == mode


def test_signals_are_as_at_a_login(warden: Warden) -> None:
    """Not even what Python itself ignores is ignored by what is executed."""
    warden.start(endpoint_command=["/bin/sh", "-c", "exec cat /proc/self/status"])
    with warden.manager_connected() as (peer, boot_id):
        start = granted(boot_id, ALICE)
        peer.say(start)
        started(peer.hear())
        assert peer.hear() == Exited(name_of(start), 0, "")
    log = Path(warden.accounts["alice"].pw_dir, ".mep", name_of(start), "stderr.log").read_text()
    fields = dict(line.split(":\t", 1) for line in log.splitlines())
    # 32 and 33 are the C library's own: no program can set them, and they are as they were found.
    ours = ~(0b11 << 31)
    found = [int(fields[key], 16) & ours for key in ("SigBlk", "SigIgn", "SigCgt", "SigPnd")]
    assert found == [0] * 4
    assert fields["NoNewPrivs"] == "1"


def test_umask_and_path_are_the_policy_s(warden: Warden) -> None:
    warden.start(umask="0027", path="/nowhere/bin")
    with warden.manager_connected() as (peer, boot_id):
        start = granted(boot_id, ALICE)
        peer.say(start)
        started(peer.hear())
        inside = seen(warden, warden.accounts["alice"], start)
    assert (inside["umask"], inside["environment"]["PATH"]) == (0o027, "/nowhere/bin")


def test_two_users_at_once(talk) -> None:
    warden, peer, boot_id = talk
    starts = {name: granted(boot_id, identity(name)) for name in ("alice", "bob")}
    for start in starts.values():
        peer.say(start)
    told = {(one := started(peer.hear())).user_endpoint_id: one.account for _ in starts}
    assert told == {name_of(starts[name]): warden.accounts[name].pw_name for name in starts}
    for _ in starts:
        name, pid, _ = warden.up()
        uid = Path(f"/proc/{pid}").stat().st_uid
        status = Path(f"/proc/{pid}/status").read_text()
        assert pwd.getpwuid(int(status.split("Uid:\t")[1].split()[0])).pw_name == told[name]
        assert uid in (0, pwd.getpwnam(told[name]).pw_uid)


def test_a_start_of_what_lives_starts_nothing(talk) -> None:
    warden, peer, boot_id = talk
    first = granted(boot_id, ALICE)
    peer.say(first)
    told = started(peer.hear())
    warden.up()
    again = granted(boot_id, ALICE, user_endpoint_id=name_of(first))
    peer.say(again)
    assert started(peer.hear()) == told
    os.kill(told.pid, 9)
    assert peer.hear() == Exited(name_of(first), -9, "")


def test_a_start_of_what_is_being_started_starts_nothing(talk) -> None:
    warden, peer, boot_id = talk
    first = granted(boot_id, ALICE)
    again = granted(boot_id, ALICE, user_endpoint_id=name_of(first))
    peer.say(first)
    peer.say(again)
    pids = {started(peer.hear()).pid}
    warden.up()
    third = granted(boot_id, ALICE, user_endpoint_id=name_of(first))
    peer.say(third)
    pids.add(started(peer.hear()).pid)
    assert len(pids) == 1
    assert len([one for one in warden.audit() if one["event"] == "started"]) == 1


# --- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("do", "status", "said"),
    [
        ("exit:0", 0, ("", "")),
        ("exit:7", 7, ("", "")),
        ('say:{"code": "OPTIONS_REFUSED", "message": "No."}', 9, ("OPTIONS_REFUSED", "No.")),
        ('say:{"account": "root", "message": "x"}', 9, ("", "")),
        ("say:nonsense", 9, ("", "")),
        ("say:" + "[" * 4000, 9, ("", "")),
        ("flood:", 9, ("", "")),
    ],
)
def test_how_an_endpoint_ends_is_told(talk, do: str, status: int, said: tuple[str, str]) -> None:
    """Root passes on what it said, and understands none of it."""
    warden, peer, boot_id = talk
    start = granted(boot_id, ALICE, options=wish(do))
    peer.say(start)
    assert started(peer.hear()).account == warden.accounts["alice"].pw_name
    end = peer.hear()
    assert isinstance(end, Exited)
    assert (end.user_endpoint_id, end.status, report(end.said)) == (name_of(start), status, said)
    assert len(end.said) <= 4096
    record = next(one for one in warden.audit() if one["event"] == "exited")
    assert record["status"] == str(status)
    assert re.fullmatch(r"\d+\.\d\d s, [1-9]\d* KiB", record["rusage"])
    peer.say(granted(boot_id, ALICE, user_endpoint_id=name_of(start)))
    started(peer.hear())


# --- refusals -------------------------------------------------------------------------------------


def no(warden: Warden, peer: Peer, start: Start, code: str, why: str) -> None:
    """`start` is refused; the audit log says why, and the user does not read it."""
    peer.say(start)
    reply = refused(peer.hear())
    assert (reply.code, reply.user_endpoint_id) == (code, name_of(start))
    assert reply.packet == hashlib.sha256(start.grant).hexdigest()
    record = warden.refusal()
    assert record["reference"] == reply.reference
    assert (record["code"], record["user_endpoint_id"]) == (code, name_of(start))
    assert why in record["why"]
    assert sentence(code, reply.reference).startswith(SENTENCES[code])


def test_an_identity_that_nobody_maps(talk) -> None:
    warden, peer, boot_id = talk
    no(warden, peer, granted(boot_id, identity("eve")), "IDENTITY_NOT_MAPPED", "eve@example.edu")
    closed = ALICE | {"status": "closed"}
    no(warden, peer, granted(boot_id, closed), "IDENTITY_NOT_MAPPED", "no rule")


def test_accounts_that_are_not_served(talk) -> None:
    warden, peer, boot_id = talk
    rules = [
        {"source": "{username}", "match": "(.*)@example\\.edu", "output": "{0}"},
    ]
    warden.map({"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": rules})
    for name, code, why in (
        ("root", "ACCOUNT_REFUSED", "root"),
        ("daemon", "ACCOUNT_REFUSED", "minimum_uid"),
        (warden.manager.pw_name, "ACCOUNT_REFUSED", "the daemon's own"),
        (warden.callout.pw_name, "ACCOUNT_REFUSED", "the daemon's own"),
        ("no-such-account-here", "ACCOUNT_UNKNOWN", "no account"),
        ("../etc", "ACCOUNT_UNKNOWN", "no account"),
    ):
        no(warden, peer, granted(boot_id, identity(name)), code, why)


@pytest.mark.parametrize("key", ["deny_users", "allow_users"])
def test_the_policy_s_lists(warden: Warden, key: str) -> None:
    warden.start(**{key: [warden.accounts["alice" if key == "deny_users" else "bob"].pw_name]})
    with warden.manager_connected() as (peer, boot_id):
        no(warden, peer, granted(boot_id, ALICE), "ACCOUNT_REFUSED", key)
        peer.say(granted(boot_id, BOB))
        started(peer.hear())


def test_a_second_person_on_an_account(talk) -> None:
    warden, peer, boot_id = talk
    alice = warden.accounts["alice"].pw_name
    rule = {"source": "{username}", "match": ".*", "output": alice}
    warden.map({"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": [rule]})
    first = granted(boot_id, ALICE)
    peer.say(first)
    told = started(peer.hear())
    warden.up()
    no(warden, peer, granted(boot_id, BOB), "ACCOUNT_SHARED", ALICE["id"])
    peer.say(granted(boot_id, BOB, ALICE))
    started(peer.hear())
    warden.up()
    os.kill(told.pid, 9)
    assert isinstance(peer.hear(), Exited)
    no(warden, peer, granted(boot_id, identity("eve")), "ACCOUNT_SHARED", BOB["id"])


def test_two_persons_who_come_at_once(talk) -> None:
    """Two leaders decide at the same time, and only one of them wins the account."""
    warden, peer, boot_id = talk
    rule = {"source": "{username}", "match": ".*", "output": warden.accounts["alice"].pw_name}
    warden.map({"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": [rule]})
    for person in ("a", "b", "c", "d"):
        peer.say(granted(boot_id, identity(person)))
    replies = [peer.hear() for _ in range(4)]
    codes = sorted(getattr(reply, "code", "STARTED") for reply in replies)
    assert codes == ["ACCOUNT_SHARED"] * 3 + ["STARTED"]


def test_a_shared_account(warden: Warden) -> None:
    alice = warden.accounts["alice"].pw_name
    warden.start(shared_accounts=[alice])
    rule = {"source": "{username}", "match": ".*", "output": alice}
    warden.map({"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": [rule]})
    with warden.manager_connected() as (peer, boot_id):
        for person in (ALICE, BOB):
            peer.say(granted(boot_id, person))
            assert started(peer.hear()).account == alice


def test_a_grant_that_is_not_the_relay_s(talk) -> None:
    """Nothing in it is believed, so nothing of it is repeated."""
    warden, peer, boot_id = talk
    for start, why in (
        (granted(boot_id, ALICE, key=b"x" * 32), "signature"),
        (granted(boot_id, ALICE)._replace(grant=b"{}"), "signature"),
        (granted(boot_id, ALICE)._replace(options=b"{} "), "options"),
        (granted(boot_id, ALICE)._replace(runtime=b"{} "), "runtime"),
        (granted(boot_id, ALICE, endpoint_id=BOB["id"]), "endpoint"),
        (granted("0" * 32, ALICE), "boot_id"),
        (
            granted(boot_id, ALICE, issued=int(time.time()) - 300, expires=int(time.time()) - 130),
            "freshness",
        ),
        (granted(boot_id, ALICE, expires=int(time.time()) + 1000), "freshness"),
        (granted(boot_id, ALICE, surprise=1), "shape"),
        (granted(boot_id, ALICE | {"name": "x" * 1025}), "shape"),
        (granted(boot_id), "shape"),
    ):
        peer.say(start)
        reply = refused(peer.hear())
        assert (reply.code, reply.user_endpoint_id) == ("GRANT_REFUSED", "")
        assert reply.packet == hashlib.sha256(start.grant).hexdigest()
        assert warden.refusal()["why"] == why


def test_a_replay(talk) -> None:
    warden, peer, boot_id = talk
    start = granted(boot_id, ALICE, options=wish("exit:0"))
    peer.say(start)
    started(peer.hear())
    assert isinstance(peer.hear(), Exited)
    peer.say(start)
    assert refused(peer.hear()).code == "GRANT_REFUSED"
    assert warden.refusal()["why"] == "replay"


def test_a_replay_to_the_next_warden(warden: Warden) -> None:
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        start = granted(boot_id, ALICE, options=wish("exit:0"))
        peer.say(start)
        started(peer.hear())
        assert isinstance(peer.hear(), Exited)
    warden.end(9)
    warden.start()
    with warden.manager_connected() as (peer, second):
        assert second != boot_id
        peer.say(start)
        assert refused(peer.hear()).code == "GRANT_REFUSED"
        assert warden.refusal()["why"] == "boot_id"


def test_a_key_that_is_rotated(talk) -> None:
    """The older key holds as long as it stands in the file."""
    warden, peer, boot_id = talk
    new = b"n" * 32
    warden.write("grant.key", f"1 {KEY.hex()}\n2 {new.hex()}\n", 0o600)
    for start in (granted(boot_id, ALICE), granted(boot_id, ALICE, key=new, key_version=2)):
        peer.say(start)
        started(peer.hear())
    warden.write("grant.key", f"2 {new.hex()}\n", 0o600)
    # The change is taken up with the next start that is admitted.
    peer.say(granted(boot_id, ALICE, key=new, key_version=2))
    started(peer.hear())
    peer.say(granted(boot_id, ALICE))
    assert refused(peer.hear()).code == "GRANT_REFUSED"


def test_starts_are_counted_per_person(warden: Warden) -> None:
    warden.start(starts_per_minute=2)
    with warden.manager_connected() as (peer, boot_id):
        for _ in range(2):
            peer.say(granted(boot_id, ALICE))
            started(peer.hear())
        no(warden, peer, granted(boot_id, ALICE, BOB), "START_LIMIT", "2 a minute")
        peer.say(granted(boot_id, BOB))
        started(peer.hear())


def test_there_is_room_for_so_many(warden: Warden) -> None:
    warden.start(max_endpoints=1)
    with warden.manager_connected() as (peer, boot_id):
        first = granted(boot_id, ALICE)
        peer.say(first)
        told = started(peer.hear())
        no(warden, peer, granted(boot_id, BOB), "START_LIMIT", "1 alive")
        os.kill(told.pid, 9)
        assert isinstance(peer.hear(), Exited)
        peer.say(granted(boot_id, BOB))
        started(peer.hear())


def test_an_account_has_room_for_so_many(warden: Warden) -> None:
    warden.start(max_endpoints_per_user=1)
    with warden.manager_connected() as (peer, boot_id):
        peer.say(granted(boot_id, ALICE))
        started(peer.hear())
        no(warden, peer, granted(boot_id, ALICE), "START_LIMIT", "has 1 endpoints")


def test_leaders_are_bounded_in_number_and_time(warden: Warden) -> None:
    """A look-up that hangs keeps one leader busy, until the alarm ends it."""
    program = warden.base / "hang"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    warden.map({"DATA_TYPE": "external_identity_mapping#1.0.0", "command": [str(program)]})
    # Sooner than the look-up gives up by itself.
    warden.start(max_starting=1, start_timeout_s=4)
    with warden.manager_connected() as (peer, boot_id):
        hanging = granted(boot_id, ALICE)
        peer.say(hanging)
        no(warden, peer, granted(boot_id, BOB), "START_LIMIT", "0 alive of 1")
        assert peer.hear() == Exited(name_of(hanging), None, "")
        assert warden.audit()[-1]["event"] == "leader-lost"


def test_a_template_that_is_missing(talk) -> None:
    warden, peer, boot_id = talk
    (warden.etc / "user_config_template.yaml.j2").unlink()
    no(warden, peer, granted(boot_id, ALICE), "START_FAILED", "user_config_template.yaml.j2")


def test_a_template_that_others_can_write(talk) -> None:
    warden, peer, boot_id = talk
    (warden.etc / "user_config_template.yaml.j2").chmod(0o666)
    no(warden, peer, granted(boot_id, ALICE), "START_FAILED", "chmod go-w")


def test_a_program_that_does_not_exist(warden: Warden) -> None:
    warden.start(endpoint_command=["/nowhere/python"])
    with warden.manager_connected() as (peer, boot_id):
        start = granted(boot_id, ALICE)
        peer.say(start)
        started(peer.hear())
        end = peer.hear()
        assert isinstance(end, Exited)
        assert (end.status, report(end.said)[0]) == (1, "START_FAILED")
        assert "cannot be executed: No such file or directory" in end.said


# --- homes ----------------------------------------------------------------------------------------


def missing(home: Path, _: Path) -> None:
    home.rename(home.with_suffix(".away"))


def a_file(home: Path, _: Path) -> None:
    missing(home, home)
    home.write_text("")


def read_only(home: Path, _: Path) -> None:
    os.chown(home, 0, 0)


def linked(home: Path, elsewhere: Path) -> None:
    (home / ".mep").symlink_to(elsewhere)


def foreign(home: Path, _: Path) -> None:
    (home / ".mep").mkdir()
    (home / ".mep").chmod(0o777)


def no_directory(home: Path, _: Path) -> None:
    (home / ".mep").write_text("")


@pytest.mark.parametrize("damage", [missing, a_file, read_only, linked, foreign, no_directory])
def test_a_home_that_cannot_be_used(
    warden: Warden, new_account: Callable[..., pwd.struct_passwd], damage: Callable[..., None]
) -> None:
    account = new_account("home")
    elsewhere = warden.base / "elsewhere"
    elsewhere.mkdir()
    os.chown(elsewhere, account.pw_uid, account.pw_gid)
    warden.accounts["carol"] = account
    damage(Path(account.pw_dir), elsewhere)
    warden.start()
    try:
        with warden.manager_connected() as (peer, boot_id):
            start = granted(boot_id, identity("carol"))
            peer.say(start)
            started(peer.hear())
            end = peer.hear()
            assert isinstance(end, Exited)
            code, message = report(end.said)
            assert (end.status, code) == (1, "START_FAILED")
            assert message.startswith(
                "Your home directory on the endpoint's machine cannot be used"
            )
            assert list(elsewhere.iterdir()) == []
    finally:
        home = Path(account.pw_dir)
        if home.is_file():
            home.unlink()
        if home.with_suffix(".away").exists():
            home.with_suffix(".away").rename(home)
        os.chown(home, account.pw_uid, account.pw_gid)


def test_a_log_that_is_a_link(talk) -> None:
    warden, peer, boot_id = talk
    alice = warden.accounts["alice"]
    start = granted(boot_id, ALICE)
    place = Path(alice.pw_dir, ".mep", name_of(start))
    place.mkdir(parents=True, mode=0o700)
    target = Path(alice.pw_dir, "precious")
    target.write_text("kept")
    (place / "stderr.log").symlink_to(target)
    for path in (place.parent, place, target):
        os.chown(path, alice.pw_uid, alice.pw_gid)
    peer.say(start)
    started(peer.hear())
    end = peer.hear()
    assert isinstance(end, Exited)
    assert report(end.said)[0] == "START_FAILED"
    assert target.read_text() == "kept"


# --- the mapping ----------------------------------------------------------------------------------


def test_a_change_of_the_mapping(talk) -> None:
    """A valid one is taken up; an invalid one is refused, by JSON path, and the old one stays."""
    warden, peer, boot_id = talk
    warden.accounts = {"alice": warden.accounts["alice"]}
    warden.map()
    no(warden, peer, granted(boot_id, BOB), "IDENTITY_NOT_MAPPED", "no rule")
    assert "settings-read" in [one["event"] for one in warden.audit()]
    rule = {"source": "{username}", "match": "*", "output": "{0}"}
    warden.map({"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": [rule]})
    peer.say(granted(boot_id, ALICE))
    started(peer.hear())
    record = next(one for one in warden.audit() if one["event"] == "settings-refused")
    assert "$[0].mappings[0].match:" in record["why"]


def test_a_mapping_by_a_command(warden: Warden) -> None:
    """It runs as the callout's account, with nothing of root's, and is asked in the known form."""
    seen_there = warden.base / "asked"
    seen_there.mkdir()
    os.chown(seen_there, warden.callout.pw_uid, -1)
    program = warden.base / "map"
    answer = {
        "DATA_TYPE": "identity_mapping_output#1.0.0",
        "result": [{"id": ALICE["id"], "output": warden.accounts["alice"].pw_name}],
    }
    program.write_text(
        "#!/bin/sh\n"
        f'cd {seen_there}; cat > input; cat /proc/self/status > status; echo "$@" > argv\n'
        f"ls -l /proc/self/fd > fds; env > env; echo '{json.dumps(answer)}'\n"
    )
    program.chmod(0o755)
    warden.map({"DATA_TYPE": "external_identity_mapping#1.0.0", "command": [str(program), "-v"]})
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        peer.say(granted(boot_id, BOB | {"status": "closed"}, ALICE))
        assert started(peer.hear()).account == warden.accounts["alice"].pw_name
    assert json.loads((seen_there / "input").read_text())["identities"] == [ALICE]
    assert (seen_there / "argv").read_text() == f"-v -c {ENDPOINT_ID} -s {ENDPOINT_ID} -a\n"
    text = (seen_there / "status").read_text()
    fields = {line.partition(":")[0]: line.partition(":")[2].split() for line in text.splitlines()}
    assert fields["Uid"] == [str(warden.callout.pw_uid)] * 4
    assert fields["Groups"] == [str(warden.callout.pw_gid)]
    assert fields["NoNewPrivs"] == ["1"]
    assert {*fields["CapPrm"], *fields["CapBnd"], *fields["CapInh"]} == {"0" * 16}
    listed = (seen_there / "fds").read_text()
    assert "socket:" not in listed
    assert ".sock" not in listed


@pytest.mark.parametrize(
    "script",
    ["exit 1", "echo nonsense", "echo '{}'", "kill -9 $$", "head -c 99999 /dev/zero"],
)
def test_a_command_that_fails_maps_nobody(warden: Warden, script: str) -> None:
    program = warden.base / "map"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    fallback = {"source": "{username}", "match": ".*", "output": warden.accounts["alice"].pw_name}
    warden.map(
        {"DATA_TYPE": "external_identity_mapping#1.0.0", "command": [str(program)]},
        {"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": [fallback]},
    )
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        no(warden, peer, granted(boot_id, ALICE), "START_FAILED", "identity mapping:")


def test_a_mapping_may_not_speak_of_somebody_else(warden: Warden) -> None:
    """Were the unprivileged process taken over: an identity that was not asked for is no answer."""
    program = warden.base / "map"
    answer = {
        "DATA_TYPE": "identity_mapping_output#1.0.0",
        "result": [{"id": BOB["id"], "output": warden.accounts["bob"].pw_name}],
    }
    program.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    program.chmod(0o755)
    warden.map({"DATA_TYPE": "external_identity_mapping#1.0.0", "command": [str(program)]})
    warden.start()
    with warden.manager_connected() as (peer, boot_id):
        no(warden, peer, granted(boot_id, ALICE), "START_FAILED", "no id of the question")


# --- what must not be in the log ------------------------------------------------------------------


def test_the_audit_log(talk) -> None:
    """Readable by root alone, one line a record, nothing that a user can forge, no secret."""
    warden, peer, boot_id = talk
    start = granted(boot_id, ALICE, options=wish('say:{"code": "X\\n", "message": "\\u001b[2J"}'))
    peer.say(start)
    started(peer.hear())
    assert isinstance(peer.hear(), Exited)
    evil = identity("eve") | {"username": 'e\n{"event": "started"}\x1b[2J\u202e'}
    no(warden, peer, granted(boot_id, evil), "IDENTITY_NOT_MAPPED", "no rule")
    path = warden.base / "log/audit.log"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert text.isascii()
    assert not {*text} & {*"\x1b\x7f"}
    events = [record["event"] for record in warden.audit()]
    assert events == ["up", "mapped", "started", "exited", "refused"]
    assert KEY.hex() not in text
    assert "Bearer" not in text


def test_the_socket_is_the_manager_s(talk) -> None:
    warden, _, _ = talk
    found = warden.socket.stat()
    assert (found.st_uid, found.st_gid) == (0, warden.manager.pw_gid)
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert stat.S_ISSOCK(found.st_mode)
