"""Quick tasks lie at a worker several at a time: a slow or a dying one harms none behind it."""

import os
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from engine_harness import engine, until

from mep import payload
from mep.wire.tasks import Function


def work(directory, name):
    """Write down that this task has begun; the one called ``block`` does not end."""
    import tempfile

    tempfile.mkstemp(prefix=f"{name}-", dir=directory)
    while name == "block":
        time.sleep(60)


@pytest.fixture
def home(tmp_path):
    directory = tmp_path / "home"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def ran(tmp_path):
    directory = tmp_path / "ran"
    directory.mkdir()
    return directory


def quick(ran: Path, prefix: str, count: int = 200) -> list[tuple[str, str]]:
    return [(str(ran), f"{prefix}{number}") for number in range(count)]


def executions(ran: Path) -> Counter[str]:
    return Counter(path.name.split("-")[0] for path in ran.iterdir())


def warm_up(harness, ran: Path) -> None:
    """So many quick tasks that several are given to a worker at once from now on."""
    ids = harness.submit_many(work, quick(ran, "warm"))
    harness.wait(lambda: len(harness.results) == len(ids))


def test_tasks_behind_a_slow_one_run_elsewhere(home, ran):
    with engine(home, max_workers_per_node=2, prefetch_capacity=100) as harness:
        warm_up(harness, ran)
        calls = quick(ran, "a", 50)
        slow, *_ = harness.submit_many(work, [(str(ran), "block"), *calls])
        harness.wait(lambda: len(harness.results) == 250, "the results of the quick tasks")
        assert slow not in {result.task_id for result in harness.results}
        assert {result.outcome for result in harness.results} == {"success"}
        assert set(executions(ran).values()) == {1}
        assert len(executions(ran)) == 251


def test_a_dying_worker_takes_no_task_with_it_but_its_own(home, ran):
    with engine(home, max_workers_per_node=1, prefetch_capacity=100) as harness:
        warm_up(harness, ran)
        slow, *_ = harness.submit_many(work, [(str(ran), "block"), *quick(ran, "a", 50)])
        harness.running(slow)
        (worker,) = (
            process
            for process in psutil.Process().children(recursive=True)
            if not process.children() and str(home) in " ".join(process.cmdline())
        )
        worker.kill()
        failure = harness.result(slow).failure
        assert failure.code == "WORKER_LOST"
        harness.wait(lambda: len(harness.results) == 251, "the results of the others")
        assert Counter(r.outcome for r in harness.results) == {"success": 250, "failed": 1}
        assert set(executions(ran).values()) == {1}


def who_runs_this():
    return os.getppid()


def gone(pid: int) -> bool:
    """Whether a process has ended; who has to reap it is not our business."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_drained_pool_is_replaced(home):
    with engine(home, max_workers_per_node=1, drain_period=0.2) as harness:
        first = harness.value(who_runs_this)
        until(lambda: gone(first), "the end of the pool")
        assert harness.value(who_runs_this) != first
        assert {result.outcome for result in harness.results} == {"success"}


def test_a_draining_pool_ends_what_it_runs_and_gives_back_the_rest(home, ran):
    def short(directory, name):
        import tempfile

        tempfile.mkstemp(prefix=f"{name}-", dir=directory)
        time.sleep(0.1)

    with engine(home, max_workers_per_node=1, drain_period=0.3) as harness:
        harness.submit_many(short, quick(ran, "a", 15))
        harness.wait(lambda: len(harness.results) == 15, "all results")
        assert {result.outcome for result in harness.results} == {"success"}
        assert set(executions(ran).values()) == {1}


def test_tasks_behind_a_slow_one_can_be_cancelled(home, ran):
    with engine(home, max_workers_per_node=1, prefetch_capacity=100) as harness:
        warm_up(harness, ran)
        slow, *others = harness.submit_many(work, [(str(ran), "block"), *quick(ran, "a", 20)])
        harness.running(slow)
        harness.engine.cancel(others)
        harness.wait(lambda: len(harness.results) == 220, "the ends of the cancelled tasks")
        assert Counter(r.outcome for r in harness.results) == {"success": 200, "cancelled": 20}
        harness.engine.cancel([slow])
        assert harness.result(slow).outcome == "cancelled"
        assert not [name for name in executions(ran) if name.startswith("a")]


def test_a_function_is_loaded_once_a_worker(home, tmp_path):
    loads = tmp_path / "loads"
    source = f"open({str(loads)!r}, 'a').write('x')\ndef f(n):\n    return n\n"
    function = Function("f", payload.dump_source("f", source))
    with engine(home, max_workers_per_node=1) as harness:
        calls = [payload.dump_arguments((n,), {}, payload.RAW) for n in range(30)]
        ids = harness.submit_raw([function], "f", calls)
        results = [harness.result(task_id).payload for task_id in ids]
        ids = harness.submit_raw([], "f", calls)
        results += [harness.result(task_id).payload for task_id in ids]
    assert [payload.load_result(body) for body in results] == [*range(30)] * 2
    assert loads.read_text() == "x"
