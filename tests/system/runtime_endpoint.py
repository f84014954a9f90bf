"""An engine of an ordinary account, over nodes that are namespaces: ``JSON arguments`` as below.

Run as that account. Prints one line of JSON: what each task returned, or how it failed.
"""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from namespace_nodes import NodesProvider

from mep import payload
from mep.endpoint.engines.base import Callbacks, Surroundings
from mep.endpoint.engines.build import transport_of
from mep.endpoint.engines.engine import PoolEngine
from mep.endpoint.engines.plan import plan
from mep.endpoint.engines.settings import read
from mep.endpoint.runtime.runtime import Runtime
from mep.wire.tasks import Function, Result, Task

LIMIT_S = 60

MEET = """
def meet(directory, expected, hidden):
    '''Returns once so many nodes have come to this.'''
    import os, sys, time
    node = os.uname().nodename
    open(os.path.join(directory, node), "w").close()
    until = time.monotonic() + 40
    while len(os.listdir(directory)) < expected:
        assert time.monotonic() < until, "alone on " + node
        time.sleep(0.005)
    return node, list(sys.version_info[:2]), os.getcwd(), [p for p in hidden if os.listdir(p)]
"""
WHERE = "def where():\n    import os\n    return os.uname().nodename\n"


def main(
    scheduler: str,
    wheels: str,
    transfer: bool,
    nodes: int,
    tasks: int,
    hidden: list[str],
    meeting: str,
) -> None:
    directory = Path.home() / ".mep" / "endpoint"
    directory.mkdir(parents=True, mode=0o700)
    settings = read({"max_workers_per_node": 1, "prefetch_capacity": 0, "transport": "tcp"})
    runtime = Runtime(settings.runtime_dir, Path(wheels))
    provider = NodesProvider(Path(scheduler), runtime, transfer)
    surroundings = Surroundings(str(directory), "endpoint", "user-endpoint", 10_000_000)
    transport = transport_of(settings, surroundings)
    planned = plan(settings, surroundings, dict(os.environ), 1, 1.0, None, transport)
    ended = Ended()
    engine = PoolEngine(planned, provider, Callbacks(ignore, ignore, ended))
    engine.start()
    arguments = payload.dump_arguments((meeting, nodes, hidden), {})
    engine.submit(
        [
            Function("meet", payload.dump_source("meet", MEET)),
            Function("where", payload.dump_source("where", WHERE)),
        ],
        [Task(f"meet-{number}", "meet", "group", arguments) for number in range(nodes)]
        + [
            Task(f"where-{number}", "where", "group", payload.dump_arguments((), {}))
            for number in range(tasks)
        ],
    )
    results = ended.wait_for(nodes + tasks)
    engine.safe([result.task_id for result in results])
    engine.close(LIMIT_S)  # in order: jobs that are killed do not clean up
    print(json.dumps({result.task_id: told(result) for result in results}))


class Ended:
    """The results, as they come."""

    def __init__(self) -> None:
        self._results: list[Result] = []
        self._changed = threading.Condition()

    def __call__(self, results: Any) -> None:
        with self._changed:
            self._results.extend(results)
            self._changed.notify_all()

    def wait_for(self, number: int) -> list[Result]:
        with self._changed:
            self._changed.wait_for(lambda: len(self._results) >= number, LIMIT_S)
            return list(self._results)


def told(result: Result) -> Any:
    if result.outcome == "success":
        return payload.load_result(result.payload)
    assert result.failure is not None
    return f"{result.failure.code}: {result.failure.message}"


def ignore(*_news: object) -> None:
    pass


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
