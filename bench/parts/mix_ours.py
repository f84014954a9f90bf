"""The mix of MPI tasks on our GlobusMPIEngine: python mix_ours.py DIRECTORY WORKERS

Runs where Slurm's commands work. Job N of the mix leaves its output in DIRECTORY/N.
"""

import json
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from mix import NODES, mix

from mep.endpoint.engines.base import Callbacks, Surroundings
from mep.endpoint.engines.build import build
from mep.payload import dump_arguments, dump_source
from mep.wire.tasks import Function, Result, Task

LIMIT_S = 300.0
RUN = Function(
    "run",
    dump_source(
        "run",
        "def run(command, path):\n"
        "    import subprocess\n"
        "    with open(path, 'wb') as output:\n"
        "        subprocess.run(['bash', '-c', command], stdout=output, check=True)\n",
    ),
)
SETTINGS = {
    "type": "GlobusMPIEngine",
    "mpi_launcher": "srun",
    "address": "127.0.0.1",
    "provider": {
        "type": "SlurmProvider",
        "partition": "debug",
        "nodes_per_block": NODES,
        "init_blocks": 1,
        "min_blocks": 1,
        "max_blocks": 1,
        "walltime": "00:10:00",
        "exclusive": True,
        "launcher": {"type": "SimpleLauncher"},
    },
}


class Results:
    """Counts what has come back."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._results: list[Result] = []

    def take(self, results: Sequence[Result]) -> None:
        with self._changed:
            self._results.extend(results)
            self._changed.notify_all()

    def wait(self, count: int) -> None:
        """Until so many tasks have succeeded.

        Raises:
            RuntimeError: a task failed, or they do not come.
        """
        with self._changed:
            in_time = self._changed.wait_for(lambda: len(self._results) >= count, LIMIT_S)
            bad = [result.failure for result in self._results if result.outcome != "success"]
        if bad or not in_time:
            raise RuntimeError(f"{len(self._results)} of {count} results; failed: {bad}")


def main(directory: Path, workers: int) -> None:
    results = Results()
    engine = build(
        {**SETTINGS, "max_workers_per_block": workers},
        Surroundings(str(directory / "engine"), "bench", "bench", 1_000_000),
        Callbacks(lambda *_: None, lambda _: None, results.take),
    )
    (directory / "engine").mkdir(mode=0o700)
    engine.start()
    try:
        engine.submit([RUN], [task("first", "true", "/dev/null", {"num_nodes": 1})])
        results.wait(1)
        jobs = list(enumerate(mix()))
        tasks = [
            task(str(number), job.command, str(directory / str(number)), job.request)
            for number, job in jobs
        ]
        engine.submit([], tasks)
        results.wait(1 + len(tasks))
    finally:
        engine.close(10)


def task(name: str, command: str, path: str, request: dict[str, int]) -> Task:
    arguments = dump_arguments((command, path), {})
    return Task(name, "run", "group", arguments, json.dumps(request).encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
