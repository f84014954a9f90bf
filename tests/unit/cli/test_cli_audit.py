"""`mep audit` and `mep why-denied`: records of two logs, joined, filtered and shown."""

import dataclasses
import gzip
import json
import threading
from pathlib import Path

import pytest

from mep.cli import audit, why_denied
from mep.cli.audit_filter import Wanted, moment
from mep.cli.audit_log import Joined, records
from mep.cli.errors import CliError
from mep.cli.site import Site, site

ALICE = {"id": "id-a", "username": "alice@example.edu"}
MALLORY = {"id": "id-m", "username": "mallory@example.edu"}


@pytest.fixture
def place(tmp_path: Path) -> Site:
    made = site("test", {"MEP_PREFIX": str(tmp_path)}, uid=0)
    made.log.mkdir(parents=True)
    made.warden_log.mkdir(parents=True)
    return made


def warden(at: float, event: str, **facts: str) -> str:
    return json.dumps({"at": at, "event": event, "reference": f"r{at:.0f}", **facts}) + "\n"


def manager(at: float, event: str, **facts: object) -> str:
    who = {"received": at, "endpoint_id": "e", "reported_by": "the manager"}
    return json.dumps({**who, "event": {"event": event, **facts}}) + "\n"


def user(at: float, event: str, uid: int = 1001, **facts: object) -> str:
    who = {"received": at, "endpoint_id": "e", "reported_by": "the user's process"}
    kernel = {"account": f"u{uid}", "uid": uid, "gid": 7, "pid": 77}
    words = {"event": event, "user_endpoint_id": "uep-a", "identity_id": "forged", "at": at - 1}
    return json.dumps({**who, **kernel, "event": {**words, **facts}}) + "\n"


@pytest.fixture
def logs(place: Site) -> Site:
    """alice's endpoint and a task; mallory is refused; somebody reports for alice's endpoint."""
    place.audit_file.write_text(
        warden(2, "started", user_endpoint_id="uep-a", account="alice", uid="1001", pid="5",
               identity="id-a")
        + warden(5, "refused", user_endpoint_id="uep-m", code="ACCOUNT_REFUSED",
                 why="account 'root': root")
        + warden(9, "exited", user_endpoint_id="uep-a", pid="5", status="0", said="")
    )  # fmt: skip
    (place.log / "events.jsonl").write_text(
        manager(1, "start-asked", user_endpoint_id="uep-a", identities=[ALICE])
        + user(3, "RUNNING", task_id="t1", function_id="f", block_id="0", job_id="4711")
        + manager(4, "start-asked", user_endpoint_id="uep-m", identities=[MALLORY], tasks=["t9"])
        + user(6, "REFUSED", task_id="t2", function_id="g", text="failed FUNCTION_NOT_PERMITTED")
        + user(7, "RUNNING", uid=1002, task_id="t3")
        + "half a li"
    )
    return place


ANYTHING = Wanted()


def test_a_refusal_says_whom_that_start_was_mapped_to(place: Site) -> None:
    """And no account of another start of the same name, or of what runs under it."""
    mine = {"user_endpoint_id": "uep-a"}
    place.audit_file.write_text(
        warden(2, "mapped", **mine, account="root", identity="id-a", rule="$[0]: x")
        + warden(3, "refused", **mine, code="ACCOUNT_REFUSED", why="root")
        + warden(5, "started", **mine, account="alice", uid="1001", pid="5", identity="id-a")
        + warden(7, "refused", **mine, code="GRANT_REFUSED", why="expired")
    )
    asked = {**mine, "identities": [ALICE]}
    (place.log / "events.jsonl").write_text(
        manager(1, "start-asked", **asked) + manager(6, "start-asked", **asked)
    )
    first, second = found(place, Wanted(refused=True))
    assert (first["account"], first["identity"]) == ("root", "id-a")
    assert "account" not in second


def found(place: Site, wanted: Wanted = ANYTHING) -> list[dict]:
    return [one for one in Joined().all(records(place)) if wanted(one)]


def test_both_logs_in_order_and_joined(logs: Site) -> None:
    seen = found(logs)
    assert [one["at"] for one in seen] == [1, 2, 3, 4, 5, 6, 7, 9]
    running = seen[2]
    assert running["reporter"] == "user"
    assert (running["account"], running["identity"]) == ("alice", "id-a"), "not its own word"
    assert (running["block_id"], running["job_id"]) == ("0", "4711")
    assert running["identities"] == [ALICE]
    ended = seen[-1]
    assert (ended["account"], ended["uid"], ended["pid"]) == ("alice", 1001, 5)
    assert "signal" not in ended


def test_who_reports_for_another_is_marked(logs: Site) -> None:
    (disputed,) = [one for one in found(logs) if "disputed" in one]
    assert (disputed["account"], disputed["uid"]) == ("u1002", 1002)
    assert disputed["identity"] == "forged"


@pytest.mark.parametrize(
    ("wanted", "moments"),
    [
        (Wanted(account="alice"), [2, 3, 6, 9]),
        (Wanted(identity="alice@example.edu"), [1, 2, 3, 6, 9]),
        (Wanted(identity="Alice@EXAMPLE.edu"), [1, 2, 3, 6, 9]),
        (Wanted(identity="id-m"), [4, 5]),
        (Wanted(task="t1"), [3]),
        (Wanted(task="t9"), [5]),
        (Wanted(since=5.5), [6, 7, 9]),
        (Wanted(refused=True), [5, 6]),
        (Wanted(refused=True, identity="mallory@example.edu"), [5]),
    ],
)
def test_filters(logs: Site, wanted: Wanted, moments: list[int]) -> None:
    assert [one["at"] for one in found(logs, wanted)] == moments


def test_times() -> None:
    assert moment("90s", 1000.0) == 910.0
    assert moment("2h", 10000.0) == 2800.0
    assert moment("2026-11-29T10:30:00+00:00", 0.0) == 1795948200.0
    with pytest.raises(CliError, match="no time"):
        moment("yesterday", 0.0)


def test_a_line_for_people(logs: Site) -> None:
    shown = [audit.line(one) for one in found(logs)]
    assert shown[2].endswith(
        "user    RUNNING      alice user_endpoint_id=uep-a pid=77 task_id=t1 function_id=f "
        "block_id=0 job_id=4711"
    )
    assert shown[4].endswith("code=ACCOUNT_REFUSED reference=r5 why=\"account 'root': root\"")
    hostile = {"at": 0.0, "reporter": "user", "event": "\x1b[2J", "why": "a\nb", "text": "\u202e"}
    assert audit.line(hostile).isprintable()


def test_a_decision_is_shown_with_what_decided_it(place: Site) -> None:
    """The rule of a mapping, the use of resources, who was denied by whom, which peer it was."""
    mine = {"user_endpoint_id": "uep-a"}
    place.audit_file.write_text(
        warden(1, "mapped", **mine, account="alice", identity="id-a", rule="$[0]: x")
        + warden(2, "exited", **mine, status="0", said="", rusage="1.00 s, 9 KiB")
        + warden(3, "denied", who="alice", reason="ticket 7", by="carol")
        + warden(4, "peer-refused", uid="1002")
    )
    shown = [audit.line(one) for one in found(place)]
    assert 'alice user_endpoint_id=uep-a reference=r1 identity=id-a rule="$[0]: x"' in shown[0]
    assert shown[1].endswith('status=0 reference=r2 rusage="1.00 s, 9 KiB"')
    assert shown[2].endswith('reference=r3 who=alice reason="ticket 7" by=carol')
    assert shown[3].endswith("reference=r4 uid=1002")
    assert [one["at"] for one in found(place, Wanted(account="alice"))] == [1, 3]
    assert [one["at"] for one in found(place, Wanted(identity="alice"))] == [3]


@pytest.mark.parametrize(
    ("what", "codes"),
    [
        ("mallory@example.edu", ["ACCOUNT_REFUSED"]),
        ("MALLORY@example.edu", ["ACCOUNT_REFUSED"]),
        ("id-m", ["ACCOUNT_REFUSED"]),
        ("r5", ["ACCOUNT_REFUSED"]),
        ("uep-m", ["ACCOUNT_REFUSED"]),
        ("t9", ["ACCOUNT_REFUSED"]),
        ("t2", ["FUNCTION_NOT_PERMITTED"]),
        ("alice@example.edu", ["FUNCTION_NOT_PERMITTED"]),
        ("t1", []),
        ("nobody", []),
    ],
)
def test_why_denied(logs: Site, what: str, codes: list[str]) -> None:
    denials = [why_denied.explained("test", one) for one in why_denied.denied(found(logs), what)]
    assert [one["code"] for one in denials] == codes
    assert all(one["remedy"] and one["why"] for one in denials)


def test_why_denied_by_the_manager(place: Site) -> None:
    """It refuses some starts itself; whom they were for is in what was asked."""
    asked = {"user_endpoint_id": "uep-a", "identities": [ALICE], "tasks": ["t1"]}
    refused = {"user_endpoint_id": "uep-a", "code": "START_LIMIT", "why": "it keeps ending"}
    (place.log / "events.jsonl").write_text(
        manager(1, "start-asked", **asked) + manager(2, "refused", **refused)
    )
    assert [one["at"] for one in found(place, Wanted(refused=True))] == [2]
    for what in ("alice@example.edu", "t1", "uep-a"):
        (denial,) = why_denied.denied(found(place), what)
        said = why_denied.explained("test", denial)
        assert (said["code"], said["why"]) == ("START_LIMIT", "it keeps ending")


def test_a_manager_that_is_taken_over_hides_nothing(logs: Site) -> None:
    """Whatever shapes it writes, the warden's records are shown."""
    events = logs.log / "events.jsonl"
    who = {"endpoint_id": {}, "reported_by": ["x"], "account": [1], "uid": {}}
    shapes = [
        {"event": "start-asked", "user_endpoint_id": {"a": 1}, "identities": [{"id": {}}]},
        {"event": ["x"], "user_endpoint_id": ["a"], "identities": [3], "tasks": {"a": 1}},
        {"event": "refused", "user_endpoint_id": "uep-m", "tasks": [{}], "who": {}, "code": []},
        {"event": "REFUSED", "task_id": [], "identity_id": {}, "identities": "x", "tasks": 3},
    ]
    hostile = [json.dumps({"received": 4.5, **who, "event": one}) for one in shapes]
    for at in ('"x"', "[]", "NaN", "Infinity", "1e300", "-1", "null"):
        hostile.append(f'{{"received": {at}, "event": {{"event": "up"}}}}')
    with events.open("a") as file:
        file.write("\n" + "\n".join(hostile) + "\n")
    mine = [one for one in found(logs) if one["reporter"] == "warden"]
    assert [one["at"] for one in mine] == [2, 5, 9]
    assert len([one for one in found(logs) if one["at"] == 4.5]) == len(shapes)
    assert all(audit.line(one).isprintable() for one in found(logs))
    for wanted in (Wanted(task="t"), Wanted(identity="t"), Wanted(account="t")):
        assert found(logs, wanted) == []
    (denial,) = why_denied.denied(found(logs), "r5")
    assert why_denied.explained("test", denial)["code"] == "ACCOUNT_REFUSED"
    (logs.log / "events.jsonl.2.gz").write_bytes(gzip.compress(b"x" * 999)[:-9])
    with pytest.raises(OSError, match="is damaged"):
        found(logs)


def test_predecessors_are_read_compressed_or_not(logs: Site) -> None:
    old = logs.log / "events.jsonl.2.gz"
    old.write_bytes(gzip.compress(user(0.1, "up").encode()))
    (logs.log / "events.jsonl.1").write_text(user(0.2, "idle"))
    (logs.log / "events.jsonl.bak").write_text(user(0.3, "no"))
    (logs.log / "events.jsonl.3").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic"):
        found(logs)
    (logs.log / "events.jsonl.3").unlink()
    assert [one["event"] for one in found(logs)][:2] == ["up", "idle"]


def test_following_goes_on_through_a_rotation(logs: Site) -> None:
    stream = audit.followed(logs)
    seen: list[float] = []
    wake = threading.Condition()

    def read() -> None:
        for record in stream:
            with wake:
                seen.append(record["at"])
                wake.notify()
            if record["event"] == "down":
                return

    def until(moments: list[float]) -> None:
        with wake:
            assert wake.wait_for(lambda: seen == moments, 20), seen

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    until([1, 2, 3, 4, 5, 6, 7, 9])
    file = logs.log / "events.jsonl"
    with file.open("a") as old:
        old.write("ne\n" + user(10, "up"))
        old.flush()
        until([1, 2, 3, 4, 5, 6, 7, 9, 10])
        file.rename(logs.log / "events.jsonl.1")
        old.write(user(11, "idle"))
    file.write_text(user(12, "up"))
    until([1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12])
    with logs.audit_file.open("a") as warden_log:
        warden_log.write(warden(13, "down"))
    reader.join(20)
    assert seen[-1] == 13
    stream.close()


def test_nothing_is_an_empty_log(place: Site) -> None:
    assert found(place) == []
    assert found(dataclasses.replace(place, log=place.log / "nowhere")) == []
