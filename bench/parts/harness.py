"""An engine, and a count of its results."""

import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mep.endpoint.engines.base import Callbacks, Engine, Surroundings
from mep.endpoint.engines.build import build
from mep.payload import RAW, dump_arguments, dump_source
from mep.wire.tasks import Function, Result, Task

ECHO = Function("echo", dump_source("echo", "def echo(value=None):\n    return value\n"))
"""The function of all tasks."""
NOTHING = dump_arguments((), {}, RAW)
"""Arguments of a no-op."""
TRANSPORTS: dict[str, dict[str, Any]] = {
    "": {},
    "_tcp": {"transport": "tcp", "address": "127.0.0.1", "encrypted": False},
    "_curve": {"transport": "tcp", "address": "127.0.0.1", "encrypted": True},
}
"""How node pools connect, by the last part of a figure's name; ipc has none."""
LIMIT_S = 120.0
MAX_RESULT = 64 * 1024 * 1024


class Harness:
    """An engine of its own, whose tasks all call the same function."""

    def __init__(self, **settings: Any) -> None:
        self.directory = tempfile.mkdtemp(prefix="mep-bench-")
        self._ended = threading.Condition()
        self._count = 0
        self._wanted = 0
        self._serial = 0
        self._closing = False
        surroundings = Surroundings(
            self.directory, "bench", "bench", MAX_RESULT, unencrypted_allowed=True
        )
        callbacks = Callbacks(lambda _: None, lambda _: None, self._count_results)
        self.began = time.perf_counter()
        self.engine: Engine = build({"heartbeat_period": 5, **settings}, surroundings, callbacks)
        self.engine.start()

    def _count_results(self, results: Sequence[Result]) -> None:
        with self._ended:
            for result in results:
                if result.outcome != "success" and not self._closing:
                    raise RuntimeError(f"a task of the benchmark failed: {result.failure}")
            self._count += len(results)
            if self._count >= self._wanted:
                self._ended.notify_all()

    def run(self, count: int, payload: bytes = NOTHING, without: int = 0) -> float:
        """Submit so many tasks at once, and wait for their results; seconds that it took.

        Args:
            count: tasks.
            payload: arguments of each.
            without: results that are not waited for.
        """
        with self._ended:
            self._wanted = self._count + count - without
        functions = [] if self._serial else [ECHO]
        numbers = range(self._serial, self._serial + count)
        self._serial += count
        tasks = [Task(f"bench-{number}", "echo", "group", payload) for number in numbers]
        began = time.perf_counter()
        self.engine.submit(functions, tasks)
        with self._ended:
            if not self._ended.wait_for(lambda: self._count >= self._wanted, LIMIT_S):
                raise TimeoutError(f"{self._count} of {self._wanted} results")
        return time.perf_counter() - began

    def throughput(self, tasks: int) -> float:
        """No-op tasks a second."""
        return tasks / self.run(tasks)

    def latency_ms(self, tasks: int) -> float:
        """From submit to result, one task at a time, at the median."""
        return statistics.median(self.run(1) for _ in range(tasks)) * 1000

    def close(self) -> None:
        """End the engine."""
        with self._ended:
            self._closing = True
        self.engine.close(5)
        shutil.rmtree(self.directory)


def family() -> list[int]:
    """This process and all that descend from it."""
    members = [os.getpid()]
    for pid in members:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            members += map(int, task.read_text().split())
    return members


def cpu_s() -> float:
    """Processor time of the family so far: schedstat of proc(5), by thread."""
    tasks = [task for pid in family() for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def pss_mib(pids: Sequence[int]) -> float:
    """Memory of these processes, with shared pages in proportion."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024
