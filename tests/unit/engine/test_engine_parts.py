"""Scheduler, blocks, timers, talk, channel, recent, plan: the small pure parts."""

import ast
import contextlib
import os
import signal
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mep.endpoint.engines.base import Surroundings
from mep.endpoint.engines.plan import Account, plan, pool_environment
from mep.endpoint.engines.settings import read
from mep.endpoint.engines.transport import Beside
from mep.endpoint.interchange import talk
from mep.endpoint.interchange.blocks import LONGEST_PAUSE_S, Blocks, Bounds
from mep.endpoint.interchange.events import (
    Finished,
    Place,
    Returned,
    Started,
)
from mep.endpoint.interchange.scheduler import Scheduler
from mep.endpoint.interchange.timers import Timers
from mep.endpoint.providers.local import describe
from mep.wire import PROTOCOL, frames, limits
from mep.wire.codec import WireError
from mep.wire.tasks import Failure, Function, Result, Task
from mep.worker import bundle, endings, node
from mep.worker.channel import Channel
from mep.worker.recent import Recent
from mep.worker.worker import CANNOT_SPEAK


def test_workers_are_filled_in_turn_and_prefetch_after_that():
    scheduler = Scheduler(1)
    scheduler.join("a", 2, 10)
    scheduler.join("b", 1, 10)
    first = [scheduler.take() for _ in range(3)]
    assert sorted(first) == ["a", "a", "b"]
    assert first[0] != first[1]
    assert sorted(scheduler.take() or "" for _ in range(2)) == ["a", "b"]
    assert scheduler.take() is None
    scheduler.free("b", 1)
    assert scheduler.take() == "b"


def test_the_credit_of_a_pool_bounds_everything():
    scheduler = Scheduler(100)
    scheduler.join("a", 4, 3)
    assert [scheduler.take() for _ in range(4)] == ["a", "a", "a", None]


def test_prefetch_doubles_for_quick_tasks_and_falls_back_for_slow_ones():
    scheduler = Scheduler()
    scheduler.join("a", 1, 100)

    def room():
        taken = 0
        while scheduler.take():
            taken += 1
        scheduler.free("a", taken)
        return taken

    assert room() == 2
    scheduler.learn("a", 0.001)
    assert room() == 3
    for _ in range(20):
        scheduler.learn("a", 0.001)
    assert room() == 100
    scheduler.learn("a", 0.02)
    assert room() == 100
    scheduler.learn("a", 0.2)
    assert room() == 2


def test_a_fixed_prefetch_is_not_learnt():
    scheduler = Scheduler(0)
    scheduler.join("a", 1, 100)
    scheduler.learn("a", 0.001)
    assert [scheduler.take(), scheduler.take()] == ["a", None]


def test_recalls_are_bounded_by_idle_workers_and_asked_for_once():
    scheduler = Scheduler(10)
    scheduler.join("full", 1, 11)
    for _ in range(11):
        scheduler.take()
    assert list(scheduler.recalls()) == []
    scheduler.join("idle", 3, 13)
    assert list(scheduler.recalls()) == [("full", 3)]
    assert list(scheduler.recalls()) == []
    scheduler.recalled("full")
    scheduler.leave("idle")
    assert list(scheduler.recalls()) == []
    assert scheduler.workers == 1


def test_blocks_follow_demand_within_their_bounds():
    blocks = Blocks(Bounds(1, 0, 3, 1.0), workers=2)
    assert blocks.first() == ["0"]
    assert blocks.wanted(2, 0, 0.0) == []
    assert blocks.wanted(3, 0, 0.0) == ["1"]
    assert blocks.wanted(100, 0, 0.0) == ["2"]
    blocks.came_up("0", 2)
    assert blocks.may_shrink()
    blocks.leaving("0")
    assert blocks.wanted(100, 0, 0.0) == ["3"]
    assert blocks.all == {"0", "1", "2", "3"}


def test_one_block_is_asked_for_whatever_the_parallelism():
    assert Blocks(Bounds(0, 0, 5, 0.0), 4).wanted(1, 0, 0.0) == ["0"]


def test_min_blocks_are_kept():
    blocks = Blocks(Bounds(0, 2, 5, 1.0), 4)
    assert blocks.first() == ["0", "1"]
    blocks.ended("0", 0.0)
    assert blocks.wanted(0, 0, 0.0) == ["2"]


def failing(blocks, times, now=0.0):
    for _ in range(times):
        for block_id in sorted(blocks.all) or blocks.wanted(1, 0, now):
            blocks.ended(block_id, now)


def test_three_blocks_that_fail_in_a_row_are_enough():
    blocks = Blocks(Bounds(1, 0, 1, 1.0), 1)
    blocks.first()
    failing(blocks, 2)
    assert not blocks.given_up
    failing(blocks, 1)
    assert blocks.given_up


def test_after_giving_up_each_attempt_is_one_block_and_pauses_grow():
    blocks = Blocks(Bounds(3, 2, 9, 1.0), 1)
    blocks.first()
    failing(blocks, 1)
    assert blocks.given_up
    assert blocks.wanted(0, 0, 100.0) == [], "not even the least, for nobody waits"
    (probe,) = blocks.wanted(9, 0, 100.0)
    assert blocks.wanted(9, 0, 100.0) == [], "one at a time"
    blocks.ended(probe, 100.0)
    pauses = []
    for _ in range(9):
        assert blocks.wanted(9, 0, blocks.try_at - 0.001) == []
        (probe,) = blocks.wanted(9, 0, blocks.try_at)
        now = blocks.try_at
        blocks.ended(probe, now)
        pauses.append(blocks.try_at - now)
    assert pauses == sorted(pauses)
    assert pauses[0] == 10.0
    assert pauses[-1] == LONGEST_PAUSE_S


def test_the_first_pool_to_come_up_ends_the_pauses():
    blocks = Blocks(Bounds(1, 0, 3, 1.0), 1)
    blocks.first()
    failing(blocks, 5)
    (probe,) = blocks.wanted(9, 0, blocks.try_at)
    blocks.came_up(probe, 1)
    assert not blocks.given_up
    assert len(blocks.wanted(9, 0, 0.0)) == 2


def test_blocks_that_do_not_scale():
    blocks = Blocks(Bounds(2, 0, 5, 1.0, scales=False), 1)
    assert blocks.first() == ["0", "1"]
    blocks.came_up("0", 1)
    assert blocks.wanted(9, 0, 0.0) == []
    assert not blocks.may_shrink()
    blocks.ended("0", 0.0)
    assert not blocks.over
    blocks.ended("1", 0.0)
    assert blocks.over


def test_blocks_of_an_earlier_process_count():
    blocks = Blocks(Bounds(2, 0, 2, 1.0), 1, first=8)
    blocks.adopt("7")
    assert blocks.first() == ["8"]
    assert blocks.all == {"7", "8"}


def test_workers_are_counted_once_a_block_is_up():
    blocks = Blocks(Bounds(1, 0, 9, 1.0), workers=1)
    blocks.first()
    blocks.came_up("0", 4)
    blocks.came_up("0", 4)
    assert blocks.wanted(8, 0, 0.0) == []
    assert len(blocks.wanted(9, 0, 0.0)) == 1


def test_timers_tell_the_latest_point_of_each_name():
    timers = Timers()
    assert timers.next() is None
    timers.set("a", 1.0)
    timers.set("b", 2.0)
    timers.set("a", 3.0)
    timers.set("c", 2.5)
    timers.clear("c")
    assert list(timers.expired(2.6)) == ["b"]
    assert timers.next() == 3.0
    assert list(timers.expired(9.0)) == ["a"]
    assert list(timers.expired(9.0)) == []


def test_a_timer_that_is_put_off_again_and_again_takes_no_room():
    timers = Timers()
    for number in range(1000):
        timers.set("idle", 10.0 + number)
    assert len(timers) == 1
    assert list(timers.expired(500.0)) == []
    assert timers.next() == 1009.0
    timers.set("idle", 600.0)
    assert list(timers.expired(600.0)) == ["idle"]
    assert list(timers.expired(2000.0)) == []
    assert len(timers) == 0


def test_the_frames_have_the_protocol_number_of_the_wire():
    assert frames.PROTOCOL == PROTOCOL


def test_what_a_pool_says():
    item = ["t", "failed", "WORKER_LOST", "died", "tail", 1.0, 2.0]
    heard = talk.hear("p", [frames.header("results", [item]), b"payload"])
    failure = Failure("WORKER_LOST", "died", "tail")
    assert heard == Finished("p", [Result("t", "failed", b"payload", failure, 1.0, 2.0)])
    heard = talk.hear("p", [frames.header("started", [["t", 3, 1.5]])])
    assert heard == Started("p", [("t", 1.5)])
    assert talk.hear("p", [frames.header("returned", ["t"])]) == Returned("p", ("t",))
    hello = talk.hear("p", [frames.hello("p", "0", "node", 1, "3.11.2", 2, 4, [])])
    assert isinstance(hello, talk.Hello)
    assert (hello.protocol, hello.info.credit) == (PROTOCOL, 4)


@pytest.mark.parametrize(
    "message",
    [[], [b""], [b"{}"], [b'["x"]'], [b'["results",[]]', b"extra"], [b'["beat","now"]'],
     [b'["results",[["t","odd","","","",0,0]]]', b""], [b'["beat",1,2]'], [b"[" * 200_000]],
)  # fmt: skip
def test_what_no_pool_says(message):
    with pytest.raises(WireError):
        talk.hear("p", message)


@given(st.lists(st.binary(max_size=200), max_size=3))
def test_bytes_are_a_message_or_a_wire_error(message):
    with contextlib.suppress(WireError):
        assert talk.hear("p", message)


def test_a_placement_as_a_pool_reads_it():
    task = Task("t", "f", "g", b"args", b"", ("11", "00"))
    kind, fields = frames.parse(talk.tasks([task], {})[0])
    spec = {"serializers": ["11", "00"]}
    assert (kind, fields) == ("tasks", [[["t", "f", 0, spec]]])
    bodies = talk.functions(Place("p", [Function("f", b"body")], []))
    assert (frames.parse(bodies[0]), bodies[1:]) == (("functions", [["f"]]), [b"body"])


@pytest.mark.parametrize("frame", [b"", b"x", b"[]", b"[1]", b"{}", b"[" * 200_000])
def test_a_header_that_is_none(frame):
    with pytest.raises(frames.FrameError):
        frames.parse(frame)


def test_a_channel_carries_messages_whatever_the_pieces():
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    sender, receiver = Channel(left), Channel(right)
    big = os.urandom(10_000_000)
    sent = [sender.send(frames.header("task", n), body) for n, body in enumerate((b"", big, b"x"))]
    assert sent[0]
    assert not sent[1]
    heard = []
    while len(heard) < 3:
        sender.flush()
        receiver.fill()
        while (message := receiver.message()) is not None:
            heard.append(message)
    assert [(m.kind, m.fields, m.payload) for m in heard] == [
        ("task", [0], b""),
        ("task", [1], big),
        ("task", [2], b"x"),
    ]
    sender.close()
    assert not receiver.fill()
    receiver.close()


def test_a_channel_whose_peer_is_gone_takes_everything():
    left, right = socket.socketpair()
    right.close()
    channel = Channel(left)
    assert channel.send(b"[]", b"x" * 100_000)
    assert not channel.fill()
    channel.close()


def test_a_channel_refuses_an_endless_header():
    left, right = socket.socketpair()
    left.send(b"\xff" * 16)
    channel = Channel(right)
    channel.fill()
    with pytest.raises(frames.FrameError):
        channel.take()
    left.close()
    right.close()


@given(st.lists(st.integers(0, 9)))
def test_pool_and_worker_forget_alike(keys):
    pool, worker = Recent(4), Recent(4)
    for key in map(str, keys):
        if not pool.touch(key):
            pool.put(key, True)
            worker.put(key, "function")
        assert worker.touch(key) == "function"


def test_how_processes_ended_in_words():
    assert endings.describe(3 << 8, "own") == "exited with status 3 before the function returned"
    assert "signal 9 (SIGKILL)" in endings.describe(signal.SIGKILL, "own")
    assert "descriptors" in endings.describe(CANNOT_SPEAK << 8, "own")
    assert endings.signal_name(63) == "real-time signal"
    assert describe(1) == "exited with status 1"
    assert describe(-11) == "was ended by signal 11 (SIGSEGV)"
    assert describe(-63) == "was ended by signal 63"


@pytest.mark.parametrize(
    "module",
    sorted(name for name in bundle.contents() if name.startswith("mep/")),
)
def test_what_a_worker_runs_is_python_3_8(module):
    assert ast.parse(bundle.contents()[module], feature_version=(3, 8)) is not None


AROUND = Surroundings("/home/a/.mep/u", "e", "u", 1000)


def test_the_plan_of_an_empty_section():
    planned = plan(
        read(None),
        AROUND,
        {"A": "b"},
        cores=8,
        memory_gb=16,
        lifeline=5,
        transport=Beside("/home/a/.mep/u"),
    )
    assert (planned.workers, planned.prefetch, planned.retries) == (8, None, 0)
    assert planned.bounds == Bounds(1, 0, 1, 1.0)
    assert planned.command[1:] == ["-I", "-m", "mep.worker.pool"]
    settings = planned.pool_settings
    assert settings["mode"] == "process"
    assert planned.transport.admit("0") == {"ipc": "/home/a/.mep/u"}
    assert settings["working_dir"] == "/home/a/.mep/u/tasks_working_dir"
    assert settings["lifeline"] == 5
    assert settings["prefetch"] > 0
    assert settings["max_workers"] is None


def test_worker_init_stays_apart_from_the_command():
    section = {"provider": {"worker_init": "module load x; y='$(z)'"}, "prefetch_capacity": 0}
    planned = plan(
        read(section), AROUND, {}, cores=2, memory_gb=16, lifeline=None, transport=Beside("/d")
    )
    bash, flag, script, name, *_pool = planned.command
    assert (bash, flag, name) == ("bash", "-c", "bash")
    assert script == "module load x; y='$(z)'\nexec \"$@\""
    assert planned.pool_settings["prefetch"] == 0


def test_threads_and_an_absolute_working_directory():
    section = {"type": "ThreadPoolEngine", "max_workers": 3, "working_dir": "/scratch/a"}
    planned = plan(
        read(section), AROUND, {}, cores=2, memory_gb=16, lifeline=None, transport=Beside("/d")
    )
    settings = planned.pool_settings
    assert (settings["mode"], settings["max_workers"]) == ("thread", 3)
    assert settings["working_dir"] == "/scratch/a"


def test_what_functions_may_count_on_in_their_environment():
    account = Account("alice", "/home/alice", "/bin/zsh")
    made = pool_environment({"PATH": "/opt/bin", "HOSTNAME": "old", "X": "1"}, account, "node7")
    assert made == {
        "HOME": "/home/alice",
        "USER": "alice",
        "LOGNAME": "alice",
        "SHELL": "/bin/zsh",
        "PATH": "/opt/bin",
        "HOSTNAME": "node7",
        "X": "1",
    }


@given(st.lists(st.integers(0, 3), max_size=12))
def test_messages_of_tasks_are_of_bounded_size(sizes):
    quarter = limits.BATCH_BYTES // 4
    tasks = [Task(str(n), "f", "g", bytes(size * quarter)) for n, size in enumerate(sizes)]
    batches = list(talk.batches(tasks))
    assert [task for batch in batches for task in batch] == tasks
    for batch in batches:
        assert sum(len(task.payload) for task in batch[:-1]) <= limits.BATCH_BYTES


def test_messages_of_tasks_are_of_bounded_number():
    tasks = [Task(str(n), "f", "g", b"") for n in range(limits.BATCH_TASKS + 1)]
    assert [len(batch) for batch in talk.batches(tasks)] == [limits.BATCH_TASKS, 1]


def test_messages_of_results_are_of_bounded_size():
    large = ([], bytes(3 * 2**20))
    assert node.that_fit([([], b"x")] * 50) == 50
    assert node.that_fit([large] * 5) == 2
    assert node.that_fit([([], bytes(9 * 2**20)), ([], b"")]) == 1
