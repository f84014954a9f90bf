"""What users' processes report: nothing of it is believed."""

import asyncio
import json
import os
import socket
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mep.manager.allowance import PRUNE_ABOVE, Allowances
from mep.manager.events import EventLog, Sender, record
from mep.wire.events import EVENT_BYTES

SENDER = Sender(pid=3, uid=1001, gid=1002)


def datagram(**fields):
    return json.dumps({"event": "up", "user_endpoint_id": "u", "at": 1.5, **fields}).encode()


def test_the_line_has_the_kernels_word_apart_from_the_users():
    line = json.loads(record(datagram(text="hello", uid=0, reported_by="root"), SENDER, 9.0))
    assert line == {
        "received": 9.0,
        "uid": 1001,
        "gid": 1002,
        "pid": 3,
        "reported_by": "the user's process",
        "event": {"event": "up", "user_endpoint_id": "u", "at": 1.5, "text": "hello"},
    }


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b'{"event": 1, "user_endpoint_id": "u", "at": 0}',
        b'{"event": "up"}',
        datagram(text="x" * EVENT_BYTES),
        b"[" * 4000,
    ],
)
def test_what_is_no_event(data):
    with pytest.raises(ValueError):
        record(data, SENDER, 0.0)


@given(st.text())
def test_no_text_moves_a_terminal_or_ends_a_line(text):
    data = datagram(text=text)
    if len(data) > EVENT_BYTES:
        return
    line = record(data, SENDER, 0.0)
    assert line.isascii()
    assert line.isprintable()
    shown = json.loads(line)["event"].get("text", "")
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in shown)
    assert not set(shown) & set("\u202a\u202b\u202e\u2066\u2067\u2028\u2029\u200f")


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
    log = EventLog(run, logs)
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
        sender.send(datagram(text="x" * 9000))
        sender.send(datagram(text="yes"))

    (line,) = asyncio.run(lines_after(places, send, 1))
    assert (line["uid"], line["pid"]) == (os.getuid(), os.getpid())
    assert line["event"]["text"] == "yes"


def test_passed_descriptors_are_not_taken_in(places):
    before = len(os.listdir("/proc/self/fd"))

    def send(sender):
        reading, writing = os.pipe()
        socket.send_fds(sender, [datagram()], [reading, writing])
        os.close(reading)
        os.close(writing)

    asyncio.run(lines_after(places, send, 1))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_flood_is_cut_off_and_confessed(places):
    run, logs = places
    allowances = Allowances(rate=0.0, burst=3)
    log = EventLog(run, logs, allowances)
    log.reopen()
    for number in range(10):
        log._take(datagram(text=str(number)), SENDER)
    allowances.rate = 1e9
    log._take(datagram(text="later"), SENDER)
    log.close()
    lines = (logs / "events.jsonl").read_text().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert [event.get("text") for event in events] == ["0", "1", "2", None, "later"]
    assert events[3] == {"event": "dropped", "count": 7}


def test_the_socket_is_for_everybody_and_the_file_is_not(places):
    run, logs = places

    async def modes():
        log = EventLog(run, logs)
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
    log = EventLog(run, logs)
    log.reopen()
    log._take(datagram(text="old"), SENDER)
    (logs / "events.jsonl").rename(logs / "events.jsonl.1")
    log.reopen()
    log._take(datagram(text="new"), SENDER)
    log.close()
    assert "old" in (logs / "events.jsonl.1").read_text()
    assert "new" in (logs / "events.jsonl").read_text()
