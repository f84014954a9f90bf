"""The user endpoint with the engines that it ships with."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from endpoint_house import ForgetfulRelay, Site, until

from mep import payload
from mep.wire.tasks import Function, Result, Task
from mep.wire.to_endpoint import Committed, Leaving, MayLeave, Results, Tasks

ENGINES = {
    "blocks": "{type: GlobusComputeEngine, provider: {type: LocalProvider}}",
    "threads": "{type: ThreadPoolEngine, max_workers: 1}",
    "processes": "{type: ProcessPoolEngine, max_workers: 1}",
}


@pytest.fixture(params=ENGINES)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    relay = ForgetfulRelay()
    made = Site(tmp_path, relay, command=("-m", "mep.endpoint"))
    made.template = f"engine: {ENGINES[request.param]}\n"
    try:
        yield made
    finally:
        made.close()
        relay.close()


def call(task_id: str, function: Callable[..., Any], *args: Any) -> Tasks:
    body, packed = payload.dump_function(function), payload.dump_arguments(args, {})
    return Tasks((Function(task_id, body),), (Task(task_id, task_id, "g", packed),))


def only(results: Results) -> Result:
    (result,) = results.results
    return result


def test_a_function_runs(site: Site) -> None:
    process = site.start()
    link = site.relay.accept()
    link.send(call("t1", pow, 2, 10))
    result = only(link.next(Results))
    assert result.outcome == "success", result
    assert payload.load_result(result.payload) == 1024
    link.send(Committed(("t1",)))
    process.popen.send_signal(signal.SIGTERM)
    assert process.wait() == 0


def test_idle_leaves_nothing_behind(site: Site) -> None:
    # Long enough for the link: without one an idle endpoint just leaves.
    site.template += "idle_heartbeats_soft: 1\nheartbeat_period: 4\n"
    process = site.start()
    link = site.relay.accept()
    link.send(call("t1", os.getpid))
    result = only(link.next(Results, past=Leaving))  # it may have asked just before
    worker = payload.load_result(result.payload)
    link.send(Committed(("t1",)))
    link.next(Leaving)
    link.send(MayLeave())
    assert process.wait() == 0
    until(lambda: not Path(f"/proc/{worker}").exists())
