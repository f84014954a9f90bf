"""Node pools that are stopped, cut off or late: they count as lost in time, and do no harm after.

The batch system here is one that ends jobs when it gets round to it, so that a pool which counts
as lost lives on, and comes back.
"""

import contextlib
import functools
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from detached import SlowBatchSystem, build
from engine_harness import LIMIT_S, Harness, until

from mep import payload

BEATS = {"heartbeat_period": 0.2, "heartbeat_threshold": 3}


def note(directory, name):
    """Write down that this task has begun; one file per execution."""
    import tempfile

    tempfile.mkstemp(prefix=f"{name}-", dir=directory)
    return name


def hold(directory, name):
    """The nth execution ends when there is a file ``goN``, and returns N."""
    import tempfile

    tempfile.mkstemp(prefix=f"{name}-", dir=directory)
    number = sum(entry.startswith(f"{name}-") for entry in os.listdir(directory))
    while not os.path.exists(f"{directory}/go{number}"):
        time.sleep(0.01)
    with open(f"{directory}/done{number}", "w") as file:
        file.write(str(os.getpid()))
    return number


def executions(ran: Path) -> Counter[str]:
    return Counter(path.name.split("-")[0] for path in ran.iterdir() if "-" in path.name)


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    directory = tmp_path / "ran"
    directory.mkdir()
    return directory


@pytest.fixture
def home(tmp_path: Path) -> Path:
    directory = tmp_path / "endpoint"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def system(home: Path) -> Iterator[SlowBatchSystem]:
    made = SlowBatchSystem(home)
    yield made
    for pid in made.jobs.values():
        with contextlib.suppress(psutil.NoSuchProcess):  # as it should be: the engine is closed
            job = psutil.Process(pid)
            for process in [job, *job.children(recursive=True)]:
                process.kill()
            psutil.wait_procs([job], timeout=LIMIT_S)


@pytest.fixture
def start(home: Path, system: SlowBatchSystem) -> Iterator[functools.partial[Harness]]:
    """Makes the engine; it is closed at the end."""
    made: list[Harness] = []

    def harness(**settings: object) -> Harness:
        provider = {"type": "LocalProvider", "max_blocks": 2}
        build_here = functools.partial(build, provider=system)
        one = Harness(home, build=build_here, provider=provider, **BEATS | settings)
        made.append(one)
        return one

    yield harness
    for one in made:
        system.kill = lambda block_id: system._signal(block_id, signal.SIGKILL)
        system.get_round_to_it()
        one.engine.close(0)


def job(system: SlowBatchSystem, block_id: str) -> psutil.Process:
    return psutil.Process(system.jobs[block_id])


def waits(done: Path) -> bool:
    """Whether the worker that wrote this file sleeps: it does so for its next task only."""
    if not done.exists() or not done.read_text():
        return False
    return psutil.Process(int(done.read_text())).status() == psutil.STATUS_SLEEPING


def stop(pool: psutil.Process) -> None:
    """SIGSTOP while it waits: what its workers do then, it sees before its orders."""
    until(lambda: pool.status() == psutil.STATUS_SLEEPING, "the pool's wait")
    pool.send_signal(signal.SIGSTOP)


def ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_without_retries_a_pool_that_comes_back_runs_nothing_more(start, system, ran):
    harness = start(max_workers_per_node=1, prefetch_capacity=5)
    running = harness.submit(hold, str(ran), "running")
    harness.running(running)
    queued = harness.submit_many(note, [(str(ran), f"q{n}") for n in range(5)])
    harness.wait(lambda: queued[4] in harness.starting)
    lost = job(system, "0")
    stop(lost)
    for task_id in (running, *queued):
        failure = harness.result(task_id).failure
        assert failure.code == "WORKER_LOST"
        assert "silent for 3 seconds" in failure.message
    # Another block serves, though the batch system has not ended the first one.
    assert harness.value(note, str(ran), "after") == "after"
    assert system.killed == ["0"]
    assert not ended(lost)

    (ran / "go1").touch()  # the worker was not stopped, and ends its task
    lost.send_signal(signal.SIGCONT)
    until(lambda: ended(lost), "the end of the pool that came back")
    assert harness.value(note, str(ran), "last") == "last"
    assert executions(ran) == {"running": 1, "after": 1, "last": 1}
    assert len(harness.results) == 8


def test_the_first_result_counts_though_it_comes_late(start, system, ran):
    """One retry: the task runs elsewhere as well, and the one that was stopped is done first."""
    harness = start(max_workers_per_node=1, max_retries_on_system_failure=1)
    task_id = harness.submit(hold, str(ran), "twice")
    harness.running(task_id)
    lost = job(system, "0")
    stop(lost)
    until(lambda: executions(ran)["twice"] == 2, "the second execution")
    (ran / "go1").touch()
    until(lambda: waits(ran / "done1"), "the worker's next wait, its result sent")
    lost.send_signal(signal.SIGCONT)
    assert payload.load_result(harness.result(task_id).payload) == 1
    until(lambda: ended(lost), "the end of the pool that came back")
    # The other execution was cancelled, and its worker serves again.
    assert harness.value(note, str(ran), "after") == "after"
    assert executions(ran) == {"twice": 2, "after": 1}
    assert len(harness.results) == 2


def test_with_retries_a_task_is_begun_at_most_once_more(start, system, ran):
    """What was queued at the stopped pool runs elsewhere, and not there too after SIGCONT."""
    harness = start(max_workers_per_node=1, prefetch_capacity=8, max_retries_on_system_failure=1)
    running = harness.submit(hold, str(ran), "running")
    harness.running(running)
    queued = harness.submit_many(note, [(str(ran), f"q{n}") for n in range(8)])
    harness.wait(lambda: queued[7] in harness.starting)
    lost = job(system, "0")
    stop(lost)
    (ran / "go2").touch()
    harness.wait(lambda: len(harness.results) == 9)
    lost.send_signal(signal.SIGCONT)
    until(lambda: ended(lost), "the end of the pool that came back")
    assert {result.outcome for result in harness.results} == {"success"}
    assert executions(ran) == {"running": 2, **{f"q{n}": 1 for n in range(8)}}


def test_a_short_stop_is_forgiven(start, system, ran):
    """Stopped for less than the threshold: late, not lost."""
    harness = start(max_workers_per_node=1, heartbeat_threshold=60)
    running = harness.submit(hold, str(ran), "running")
    harness.running(running)
    pool = job(system, "0")
    stop(pool)
    until(lambda: pool.status() == psutil.STATUS_STOPPED, "the stop")
    harness.submit_many(note, [(str(ran), "next")])
    pool.send_signal(signal.SIGCONT)
    (ran / "go1").touch()
    harness.wait(lambda: len(harness.results) == 2)
    assert {result.outcome for result in harness.results} == {"success"}
    assert system.killed == []
    assert executions(ran) == {"running": 1, "next": 1}
