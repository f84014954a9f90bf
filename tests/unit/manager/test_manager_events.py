"""What users' processes report: nothing of it is believed."""

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import stat
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mep.manager.allowance import PRUNE_ABOVE, Allowances
from mep.manager.audit_file import AuditFile
from mep.manager.decisions import asked
from mep.manager.events import EventLog
from mep.manager.records import FIELD, Sender, decode, noted, reported
from mep.wire.events import REPORT_BYTES, Event, Report
from mep.wire.to_manager import Start

SENDER = Sender(pid=3, uid=1001, gid=1002, account="alice")


def packet(*events, **fields):
    told = events or ({"event": "up", "at": 1.5, **fields},)
    return json.dumps({"user_endpoint_id": "u", "identity_id": "i", "events": told}).encode()


def lines(data, sender=SENDER, received=9.0):
    return [json.loads(line) for line in reported(decode(data), sender, "e", received).splitlines()]


def test_the_line_has_the_kernels_word_apart_from_the_users():
    (line,) = lines(packet(text="hello", uid=0, reported_by="root", account="root"))
    assert line == {
        "received": 9.0,
        "endpoint_id": "e",
        "uid": 1001,
        "gid": 1002,
        "pid": 3,
        "account": "alice",
        "reported_by": "the user's process",
        "event": {
            "event": "up",
            "user_endpoint_id": "u",
            "identity_id": "i",
            "at": 1.5,
            "text": "hello",
        },
    }


def test_one_line_for_each_event_in_order():
    names = [f"t{number}" for number in range(200)]
    events = [{"event": "RUNNING", "at": 1.0, "task_id": name} for name in names]
    assert [line["event"]["task_id"] for line in lines(packet(*events))] == names


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        packet({"event": 1, "at": 0}),
        packet({"event": "up"}),
        b'{"events": []}',
        packet(text="x" * REPORT_BYTES),
        b"[" * 4000,
    ],
)
def test_what_is_no_report(data):
    with pytest.raises(ValueError):
        decode(data)


def harmless_line(line):
    assert line.endswith(b"\n")
    text = line[:-1].decode("ascii")
    assert text.isprintable()
    return json.loads(text)


@given(st.text(), st.text())
def test_no_text_moves_a_terminal_or_ends_a_line(text, task_id):
    report = Report("u\x1b[2J", text[:50], (Event("up", 1.0, task_id, text=text),))
    shown = harmless_line(reported(report, SENDER, "e", 0.0))["event"]
    words = shown.get("text", "") + shown.get("task_id", "") + shown["identity_id"]
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in words)
    assert not set(words) & set("\u202a\u202b\u202e\u2066\u2067\u2028\u2029\u200f")
    assert shown["user_endpoint_id"] == "u\ufffd[2J"


def test_fields_that_are_too_long_are_cut():
    report = Report("u", "i", (Event("up", 1.0, "t" * 9000, text="x" * 9000),))
    line = reported(report, SENDER, "e", 0.0)
    assert len(line) < 2048
    assert harmless_line(line)["event"]["text"] == "x" * FIELD


def test_what_the_manager_notes_of_a_start():
    grant = {"identities": [{"id": "1", "username": "a\x1bb", "status": "used"}], "x": [1]}
    start = Start("u", "n", json.dumps(grant).encode(), b"s" * 32, b"", b"", ("t1",))
    line = harmless_line(noted({"event": "start-asked", **asked(start)}, "e", 1.0))
    assert line == {
        "received": 1.0,
        "endpoint_id": "e",
        "reported_by": "the manager",
        "event": {
            "event": "start-asked",
            "user_endpoint_id": "u",
            "nonce": "n",
            "identities": [{"id": "1", "username": "a\ufffdb"}],
            "tasks": ["t1"],
        },
    }
    assert asked(Start("u", "n", b"{", b"", b"", b""))["identities"] == []


def test_a_file_that_takes_a_part_of_a_line_takes_nothing(tmp_path):
    """What was written before stays, whole lines only."""
    path = tmp_path / "events.jsonl"
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            file = AuditFile(path)
            os.write(writing, bytes([file.write(b"x" * 39 + b"\n"), file.write(b"y" * 39 + b"\n")]))
            os.write(writing, bytes([file.failed, file.write(b"z\n"), file.failed]))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reading, 10) == bytes([True, False, True, True, False])
    os.close(reading)
    os.close(writing)
    assert path.read_bytes() == b"x" * 39 + b"\nz\n"
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0


def test_a_file_that_was_moved_is_followed_by_a_new_one(tmp_path):
    """Also where nobody sends a signal; else a rotated file that is compressed loses lines."""
    path, now = tmp_path / "events.jsonl", 0.0
    file = AuditFile(path, clock=lambda: now)
    file.write(b"1\n")
    path.rename(tmp_path / "events.jsonl.1")
    file.write(b"2\n")
    now = 1.0
    file.write(b"3\n")
    assert path.read_bytes() == b"3\n"
    path.rename(tmp_path / "events.jsonl.2")
    path.write_bytes(b"")
    now = 2.5
    file.write(b"4\n")
    file.write(b"5\n")
    file.close()
    assert path.read_bytes() == b"4\n5\n"
    assert (tmp_path / "events.jsonl.1").read_bytes() == b"1\n2\n"


def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path):
    (tmp_path / "events.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        AuditFile(tmp_path / "events.jsonl")


def test_an_allowance_is_spent_and_comes_back():
    allowances = Allowances(rate=10, burst=3)
    assert [allowances.take(1, 1, 0.0) for _ in range(4)] == [True, True, True, False]
    assert allowances.take(2, 1, 0.0), "another uid has its own"
    assert not allowances.take(1, 1, 0.05)
    assert allowances.take(1, 1, 0.2)
    assert allowances.dropped(1) == 2
    assert allowances.dropped(1) == 0


def test_allowances_of_many_uids_are_forgotten_once_full():
    allowances = Allowances(rate=10, burst=3)
    for uid in range(PRUNE_ABOVE):
        allowances.take(uid, 1, 0.0)
    allowances.take(PRUNE_ABOVE, 1, 100.0)
    assert len(allowances._buckets) == 1


@pytest.fixture
def places(tmp_path):
    for name in ("run", "log"):
        (tmp_path / name).mkdir()
    return tmp_path / "run", tmp_path / "log"


async def lines_after(places, send, expected):
    """What stands in the file once it has `expected` lines, after `send(socket)`."""
    run, logs = places
    log = EventLog(run, logs, "e")
    log.open()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(str(run / "events.sock"))
            await asyncio.to_thread(send, sender)
            async with asyncio.timeout(10):
                while True:
                    lines = (logs / "events.jsonl").read_text().splitlines()
                    if len(lines) >= expected:
                        return [json.loads(line) for line in lines]
                    await asyncio.sleep(0)
    finally:
        log.close()


def test_datagrams_become_lines_stamped_by_the_kernel(places):
    def send(sender):
        sender.send(b"nonsense")
        sender.send(packet(text="x" * REPORT_BYTES))
        sender.send(packet(text="yes"))

    (line,) = asyncio.run(lines_after(places, send, 1))
    assert (line["uid"], line["pid"]) == (os.getuid(), os.getpid())
    assert line["event"]["text"] == "yes"


def opened():
    """What this process has open; other threads may close theirs meanwhile."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return found


def test_passed_descriptors_are_not_taken_in(places):
    passed = set()

    def send(sender):
        reading, writing = os.pipe()
        passed.add(os.fstat(reading).st_ino)
        socket.send_fds(sender, [packet()], [reading, writing])
        os.close(reading)
        os.close(writing)

    asyncio.run(lines_after(places, send, 1))
    (inode,) = passed
    assert f"pipe:[{inode}]" not in opened()


def test_a_flood_is_cut_off_and_confessed(places):
    run, logs = places
    allowances = Allowances(rate=0.0, burst=3)
    log = EventLog(run, logs, "e", allowances)
    log.reopen()
    for number in range(10):
        log._take(packet(text=str(number)), SENDER)
    allowances.rate = 1e9
    log._take(packet(text="later"), SENDER)
    log.close()
    lines = (logs / "events.jsonl").read_text().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert [event.get("text") for event in events] == ["0", "1", "2", None, "later"]
    assert events[3] == {"event": "dropped", "count": 7, "uid": 1001}


def test_the_socket_is_for_everybody_and_the_file_is_not(places):
    run, logs = places

    async def modes():
        log = EventLog(run, logs, "e")
        log.open()
        try:
            return (
                stat.S_IMODE((run / "events.sock").stat().st_mode),
                stat.S_IMODE((logs / "events.jsonl").stat().st_mode) & 0o007,
            )
        finally:
            log.close()

    assert asyncio.run(modes()) == (0o666, 0)
    assert not (run / "events.sock").exists()


def test_after_rotation_lines_go_to_the_new_file(places):
    run, logs = places
    log = EventLog(run, logs, "e")
    log.reopen()
    log._take(packet(text="old"), SENDER)
    (logs / "events.jsonl").rename(logs / "events.jsonl.1")
    log.reopen()
    log._take(packet(text="new"), SENDER)
    log.close()
    assert "old" in (logs / "events.jsonl.1").read_text()
    assert "new" in (logs / "events.jsonl").read_text()


def test_no_line_is_lost_while_the_file_is_rotated(places):
    """Writers go on while a program renames and the file is opened anew, again and again."""
    run, logs = places
    writers, each, turns = 4, 2_000, 25

    def send():
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(str(run / "events.sock"))
            for number in range(each):
                sender.send(packet(text=str(number)))

    async def scenario():
        log = EventLog(run, logs, "e")
        log.open()
        threads = [threading.Thread(target=send) for _ in range(writers)]
        for thread in threads:
            thread.start()
        turn = 0
        async with asyncio.timeout(60):
            while any(thread.is_alive() for thread in threads) or turn < turns:
                await asyncio.sleep(0.002)
                turn += 1
                (logs / "events.jsonl").rename(logs / f"events.jsonl.{turn}")
                log.reopen()
            while count() < writers * each:
                await asyncio.sleep(0.01)
        log.close()

    def count():
        return sum(path.read_bytes().count(b"\n") for path in logs.iterdir())

    asyncio.run(scenario())
    seen = [json.loads(line) for path in logs.iterdir() for line in path.read_text().splitlines()]
    assert len(seen) == writers * each
    assert len({(line["pid"], line["event"]["text"]) for line in seen}) == each


# --- reports that are answered


async def served(places, talk, **changes):
    """The file's lines after `talk(socket)` on a connection to ``audit.sock``."""
    run, logs = places
    log = EventLog(run, logs, "e")
    log.open()
    for name, value in changes.items():
        setattr(log._assured, name, value)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(20)
            connection.connect(str(run / "audit.sock"))
            await asyncio.to_thread(talk, connection, log)
    finally:
        log.close()
    return [json.loads(line) for line in (logs / "events.jsonl").read_text().splitlines()]


def test_an_answer_comes_when_the_line_is_there(places):
    _, logs = places

    def talk(connection, log):
        for number in range(3):
            connection.send(packet(text=str(number)))
            assert connection.recv(10) == b"+"
            assert (logs / "events.jsonl").read_text().count("\n") == number + 1

    lines = asyncio.run(served(places, talk))
    assert [line["event"]["text"] for line in lines] == ["0", "1", "2"]
    assert {(line["uid"], line["pid"]) for line in lines} == {(os.getuid(), os.getpid())}


@pytest.mark.parametrize("junk", [b"junk", b"{}", b"x" * (REPORT_BYTES + 10)])
def test_junk_closes_the_connection(places, junk):
    def talk(connection, log):
        connection.send(junk)
        assert connection.recv(10) == b""

    assert asyncio.run(served(places, talk)) == []


def test_what_cannot_be_written_is_said(places):
    def talk(connection, log):
        connection.send(packet(text="one"))
        assert connection.recv(10) == b"+"
        os.dup2(os.open("/dev/full", os.O_WRONLY), log._file._file)
        connection.send(packet(text="two"))
        assert connection.recv(10) == b"-"

    assert [line["event"]["text"] for line in asyncio.run(served(places, talk))] == ["one"]


def test_who_reports_too_fast_waits_and_loses_nothing(places):
    def talk(connection, log):
        for number in range(30):
            connection.send(packet(text=str(number)))
            assert connection.recv(10) == b"+"

    slow = Allowances(rate=100.0, burst=3)
    lines = asyncio.run(served(places, talk, _allowances=slow))
    assert [line["event"]["text"] for line in lines] == [str(number) for number in range(30)]
