"""Whom the node pool gives tasks: real channels and pipes, worker processes played by the test."""

import os
import socket

import pytest

from mep.wire.frames import header
from mep.worker.channel import Channel
from mep.worker.crew import DEPTH, Crew
from mep.worker.execute import Call
from mep.worker.forkserver import Exit
from mep.worker.member import Task
from mep.worker.poll import Poll


class ScriptedForks:
    """A fork server whose workers do what the test says, and end when it says so."""

    def __init__(self):
        self._told, self._tell = socket.socketpair()
        self.channels = {}
        self.killed = []
        self.ended = []

    def fileno(self):
        return self._told.fileno()

    def spawn(self, number, channel, log):
        self.channels[number] = Channel(channel)

    def kill(self, number):
        self.killed.append(number)

    def drop(self, number):
        self.killed.append(number)

    def exits(self):
        self._told.recv(64)
        ended, self.ended = self.ended, []
        return ended

    def end_of(self, number):
        """Worker `number` is gone."""
        self.channels.pop(number).close()
        self.ended.append(Exit(number, -9, "own"))
        self._tell.send(b"!")

    def close(self):
        self._told.close()
        self._tell.close()


class Bench:
    """A crew of two, and what it has told."""

    def __init__(self, directory, size=2):
        self.forks, self.poll = ScriptedForks(), Poll()
        self.outcomes, self.spared = [], []
        self.crew = Crew(
            self.forks, self.poll, size, str(directory / "log"), "node", 0,
            self.outcomes.append, self.spared.extend, self.outcomes.append,
        )  # fmt: skip
        self.given = 0

    def give(self, count):
        """So many tasks, named by their numbers; how many there was room for."""
        room = self.crew.room(count)
        tasks = [task(self.given + number) for number in range(room)]
        self.given += room
        self.crew.start(tasks, {"f": b"body"}, 0.0)
        return room

    def result(self, number, name, took_s=0.0):
        """Worker `number` has ended that task."""
        fields = [name, "success", "", "", "", 0.0, took_s]
        self.forks.channels[number].send(header("result", *fields), b"")
        self.poll.wait(0)

    def has(self):
        """The tasks of each worker."""
        found = {}
        for name, member in self.crew._running.items():
            found.setdefault(member.number, []).append(name)
        return found


def task(number):
    return Task(number, Call(f"t{number}", "f", {}, b""))


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    for number in list(made.forks.channels):
        made.forks.end_of(number)
    made.poll.wait(0)
    made.forks.close()


def test_one_task_each_and_no_more(bench):
    assert bench.give(5) == 2
    assert bench.has() == {0: ["t0"], 1: ["t1"]}
    assert bench.give(1) == 0


def test_the_one_that_is_idle_gets_the_next(bench):
    bench.give(2)
    bench.result(1, "t1", took_s=1.0)
    assert bench.give(3) == 1
    assert bench.has() == {0: ["t0"], 1: ["t2"]}


def test_quick_tasks_are_handed_out_in_piles(bench):
    bench.give(2)
    for _ in range(DEPTH):
        name = bench.has()[0][0]
        bench.result(0, name)
        bench.give(1)
    bench.result(0, bench.has()[0][0])
    bench.result(1, "t1")
    assert bench.give(100) == 2 * DEPTH
    assert {number: len(names) for number, names in bench.has().items()} == {0: DEPTH, 1: DEPTH}
    assert bench.crew.busy
    assert not bench.crew.idle_beside_work()


def test_an_idle_one_is_given_tasks_though_another_has_a_pile(bench):
    """After tasks have become slow: what one has too many is no reason that the other has none."""
    test_quick_tasks_are_handed_out_in_piles(bench)
    for name in bench.has()[1]:
        bench.result(1, name, took_s=1.0)
    assert bench.crew.idle_beside_work()
    assert not bench.crew.busy
    assert bench.give(1) == 1
    assert bench.has()[1] == [f"t{bench.given - 1}"]


def test_one_that_is_being_ended_is_given_nothing(bench):
    bench.give(2)
    bench.crew.cancel("t1")
    assert bench.forks.killed == [1]
    bench.result(0, "t0", took_s=1.0)
    assert bench.give(2) == 1
    bench.forks.end_of(1)
    bench.poll.wait(0)
    assert [fields[:2] for fields, _ in bench.outcomes] == [["t0", "success"], ["t1", "cancelled"]]
    assert bench.give(2) == 1, "one takes its place"
    assert sorted(bench.has()) == [0, 1]


def test_one_that_ended_idle_is_given_nothing(bench):
    bench.give(2)
    bench.result(1, "t1", took_s=1.0)
    os.close(bench.forks.channels[1].socket.detach())
    bench.poll.wait(0)
    assert bench.forks.killed == [1]
    assert bench.give(1) == 0, "its number is not free before it is dead"
    bench.forks.end_of(1)
    bench.poll.wait(0)
    assert bench.give(1) == 1


def test_tasks_that_lie_behind_another_come_back_for_who_is_idle(bench):
    test_quick_tasks_are_handed_out_in_piles(bench)
    for name in bench.has()[1]:
        bench.result(1, name)
    back = bench.crew.take_back()
    assert len(back) == DEPTH
    assert bench.has() == {}
    assert bench.crew.room(2) == 2
