"""kill -9 of a user endpoint whose node pools live on: the next process takes their work over."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from endpoint_house import ForgetfulRelay, Process, Site, until
from engine_harness import as_in_a_script
from storm import DutifulRelay, calls, executions

from mep import payload
from mep.wire.tasks import Function, Task
from mep.wire.to_endpoint import Cancel, Committed, Results, Tasks

SCRIPT = Path(__file__).with_name("endpoint_with_jobs.py")


def hold(directory: str, name: str) -> str:
    """Leaves a line in ``ran``, then waits for a file ``go-NAME``."""
    with open(f"{directory}/ran", "a") as file:
        file.write(f"{name}\n")
    while not os.path.exists(f"{directory}/go-{name}"):
        time.sleep(0.01)
    return name


HOLD = Function("hold", payload.dump_function(as_in_a_script(hold)))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    relay = ForgetfulRelay()
    made = Site(tmp_path, relay, command=(str(SCRIPT),))
    engine(made)
    try:
        yield made
    finally:
        made.close()
        end_jobs(made)
        relay.close()


def engine(site: Site, **settings: object) -> None:
    settings = {
        "type": "GlobusComputeEngine",
        "max_workers_per_node": 1,
        "heartbeat_period": 0.3,
        "heartbeat_threshold": 60,  # a new process takes as long as it takes
        **settings,
    }
    site.template = f"engine: {json.dumps(settings)}\n"


def jobs(site: Site) -> list[psutil.Process]:
    file = site.directory / "jobs.json"
    pids = json.loads(file.read_text()).values() if file.exists() else ()
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(pid))
    return found


def end_jobs(site: Site) -> None:
    living = jobs(site)
    for job in living:
        with contextlib.suppress(psutil.NoSuchProcess):  # it may be ending by itself
            job.suspend()  # so that it forks nobody any more
            for process in [*job.children(recursive=True), job]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
    psutil.wait_procs(living, timeout=20)


def die(process: Process) -> None:
    process.popen.kill()
    process.wait()


def holds(site: Site, *names: str) -> Tasks:
    arguments = {name: payload.dump_arguments((str(site.home), name), {}) for name in names}
    return Tasks((HOLD,), tuple(Task(n, "hold", "g", packed) for n, packed in arguments.items()))


def ran(site: Site) -> list[str]:
    path = site.home / "ran"
    return path.read_text().split() if path.exists() else []


def collect(link: object, count: int) -> dict[str, object]:
    """So many ends, each once."""
    ends: dict[str, object] = {}
    while len(ends) < count:
        for result in link.next(Results).results:  # type: ignore[attr-defined]
            assert result.task_id not in ends
            ends[result.task_id] = result
        link.send(Committed(tuple(ends)))  # type: ignore[attr-defined]
    return ends


def test_what_runs_and_what_is_queued_goes_on(site: Site) -> None:
    engine(site, prefetch_capacity=2)
    process = site.start()
    link = site.relay.accept()
    link.send(holds(site, "a", "b", "c"))
    until(lambda: ran(site) == ["a"])
    until(lambda: journalled(site) >= 3)
    (job,) = jobs(site)
    die(process)

    (site.home / "go-a").touch()  # it ends while nobody is there
    until(lambda: ran(site) == ["a", "b"])
    site.start()
    link = site.relay.accept()
    assert sorted(link.hello.held) == ["a", "b", "c"]
    for name in "bc":
        (site.home / f"go-{name}").touch()
    ends = collect(link, 3)
    assert {payload.load_result(result.payload) for result in ends.values()} == set("abc")  # type: ignore[attr-defined]
    assert ran(site) == ["a", "b", "c"]
    assert jobs(site) == [job]
    # The pool serves on, with the functions that the new process sends.
    (site.home / "go-d").touch()
    link.send(holds(site, "d"))
    assert collect(link, 1).keys() == {"d"}
    assert jobs(site) == [job]


def journalled(site: Site) -> int:
    """How many tasks the journal says have been given to node pools."""
    from mep.endpoint.journal import Started, _records

    data = (site.directory / "journal").read_bytes()
    records = [record for record, _ in _records(data)]
    return sum(len(one.task_ids) for one in records if isinstance(one, Started))


def test_kill_9_again_and_again_under_load(site: Site, tmp_path: Path) -> None:
    """No pool dies, so no task does: 600 tasks, four processes, 600 results, 600 executions."""
    engine(site, max_workers_per_node=2)
    log = tmp_path / "executions"
    names = [f"t{number}" for number in range(600)]
    relay = DutifulRelay(site.relay, calls(log, names, 0.004))
    process = site.start()
    for enough in (100, 220, 400):
        relay.wait_for_ends(enough)
        die(process)
        process = site.start()
    relay.wait_for_ends(600)
    relay.close()
    assert relay.tally.verify(log, set()) == {"success": 600}
    assert set(executions(log).values()) == {1}
    assert len(jobs(site)) == 1


def test_tasks_of_a_pool_that_died_too_are_lost(site: Site) -> None:
    process = site.start()
    link = site.relay.accept()
    link.send(holds(site, "a"))
    until(lambda: ran(site) == ["a"])
    die(process)
    end_jobs(site)
    site.start()
    link = site.relay.accept()
    (lost,) = collect(link, 1).values()
    assert lost.failure.code == "ENDPOINT_LOST"  # type: ignore[attr-defined]
    (site.home / "go-b").touch()
    link.send(holds(site, "b"))
    assert collect(link, 1).keys() == {"b"}
    assert ran(site) == ["a", "b"]


def test_a_pool_that_dies_before_it_is_heard_again(site: Site) -> None:
    """Its job is found, its tasks are awaited, and it ends: the batch system says so."""
    process = site.start()
    link = site.relay.accept()
    link.send(holds(site, "a"))
    until(lambda: ran(site) == ["a"])
    (job,) = jobs(site)
    job.suspend()
    die(process)
    site.start()
    link = site.relay.accept()
    assert link.hello.held == ("a",)
    job.kill()
    (lost,) = collect(link, 1).values()
    assert lost.failure.code == "ENDPOINT_LOST"  # type: ignore[attr-defined]


def test_a_pool_that_stays_silent_is_not_awaited_for_ever(site: Site) -> None:
    engine(site, heartbeat_threshold=1)
    process = site.start()
    link = site.relay.accept()
    link.send(holds(site, "a"))
    until(lambda: ran(site) == ["a"])
    (job,) = jobs(site)
    job.suspend()
    die(process)
    site.start()
    link = site.relay.accept()
    (lost,) = collect(link, 1).values()
    assert lost.failure.code == "ENDPOINT_LOST"  # type: ignore[attr-defined]
    # It comes back, ends what nobody waits for any more, and serves or is replaced.
    job.resume()
    (site.home / "go-b").touch()
    link.send(holds(site, "b"))
    assert collect(link, 1).keys() == {"b"}
    assert ran(site) == ["a", "b"]


def test_with_a_retry_left_a_lost_task_runs_again(site: Site) -> None:
    engine(site, max_retries_on_system_failure=1)
    process = site.start()
    link = site.relay.accept()
    link.send(holds(site, "a"))
    until(lambda: ran(site) == ["a"])
    for expected in (["a", "a"], ["a", "a"]):
        die(process)
        end_jobs(site)
        process = site.start()
        link = site.relay.accept()
        if link.hello.held:
            break
        link.send(holds(site, "a"))
        until(lambda expected=expected: ran(site) == expected)
    (lost,) = collect(link, 1).values()  # the second death was one too many
    assert lost.failure.code == "ENDPOINT_LOST"  # type: ignore[attr-defined]
    assert ran(site) == ["a", "a"]


def test_an_awaited_task_can_be_cancelled(site: Site) -> None:
    process = site.start()
    link = site.relay.accept()
    link.send(holds(site, "a"))
    until(lambda: ran(site) == ["a"])
    die(process)
    site.start()
    link = site.relay.accept()
    link.send(Cancel(("a",)))
    (cancelled,) = collect(link, 1).values()
    assert cancelled.outcome == "cancelled"  # type: ignore[attr-defined]
    (site.home / "go-b").touch()
    link.send(holds(site, "b"))
    assert collect(link, 1).keys() == {"b"}


def test_without_an_endpoint_pools_end(site: Site) -> None:
    engine(site, heartbeat_threshold=1)
    process = site.start()
    link = site.relay.accept()
    link.send(holds(site, "a"))
    until(lambda: ran(site) == ["a"])
    (job,) = jobs(site)
    family = [job, *job.children(recursive=True)]
    die(process)
    until(lambda: all(map(ended, family)))


def ended(process: psutil.Process) -> bool:
    """Whether it has; who has to reap it is not our business."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
