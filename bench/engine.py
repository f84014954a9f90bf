"""The engine alone: throughput, latency, start. Prints a table and writes bench/out/engine.json.

python bench/engine.py [RUNS]
"""

import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mep.endpoint.engines.base import Callbacks, Engine, Surroundings
from mep.endpoint.engines.build import build
from mep.payload import dump_arguments, dump_function
from mep.wire.tasks import Function, Result, Task

OUT = Path(__file__).parent / "out" / "engine.json"
TASKS = 10_000
SEQUENTIAL = 1_000
LIMIT_S = 120.0


def nothing() -> None:
    """The function of all tasks."""


FUNCTION = Function("nothing", dump_function(nothing))
ARGUMENTS = dump_arguments((), {})


class Harness:
    """An engine, and a count of its results."""

    def __init__(self, **settings: Any) -> None:
        self._directory = tempfile.mkdtemp(prefix="mep-bench-")
        self._ended = threading.Condition()
        self._count = 0
        self._wanted = 0
        self._serial = 0
        surroundings = Surroundings(self._directory, "bench", "bench", 10 * 1024 * 1024)
        callbacks = Callbacks(lambda _: None, lambda _: None, self._count_results)
        self.began = time.perf_counter()
        self.engine: Engine = build({"heartbeat_period": 5, **settings}, surroundings, callbacks)
        self.engine.start()

    def _count_results(self, results: Sequence[Result]) -> None:
        with self._ended:
            for result in results:
                if result.outcome != "success":
                    raise RuntimeError(f"a task of the benchmark failed: {result}")
            self._count += len(results)
            if self._count >= self._wanted:
                self._ended.notify_all()

    def run(self, count: int) -> None:
        """Submit so many tasks at once, and wait for their results."""
        with self._ended:
            self._wanted = self._count + count
        functions = [] if self._serial else [FUNCTION]
        first, self._serial = self._serial, self._serial + count
        ids = (f"bench-{number}" for number in range(first, first + count))
        self.engine.submit(functions, [Task(i, "nothing", "group", ARGUMENTS) for i in ids])
        with self._ended:
            if not self._ended.wait_for(lambda: self._count >= self._wanted, LIMIT_S):
                raise TimeoutError(f"{self._count} of {self._wanted} results")

    def close(self) -> None:
        self.engine.close(5)
        shutil.rmtree(self._directory)


def throughput(workers: int, **settings: Any) -> float:
    """No-op tasks a second."""
    harness = Harness(max_workers_per_node=workers, **settings)
    harness.run(200)
    began = time.perf_counter()
    harness.run(TASKS)
    took = time.perf_counter() - began
    harness.close()
    return TASKS / took


def latency() -> float:
    """Milliseconds from submit to result, one at a time, at the median."""
    harness = Harness(max_workers_per_node=1)
    harness.run(50)
    times = []
    for _ in range(SEQUENTIAL):
        began = time.perf_counter()
        harness.run(1)
        times.append(time.perf_counter() - began)
    harness.close()
    return statistics.median(times) * 1000


def first_result() -> float:
    """Seconds from the engine's start to the first result."""
    harness = Harness(max_workers_per_node=1)
    harness.run(1)
    took = time.perf_counter() - harness.began
    harness.close()
    return took


FIGURES: dict[str, tuple[str, Callable[[], float]]] = {
    "throughput_1w": ("tasks/s", lambda: throughput(1)),
    "throughput_2w": ("tasks/s", lambda: throughput(2)),
    "throughput_2w_prefetch_0": ("tasks/s", lambda: throughput(2, prefetch_capacity=0)),
    "throughput_2w_prefetch_100": ("tasks/s", lambda: throughput(2, prefetch_capacity=100)),
    "latency_p50": ("ms", latency),
    "start_to_first_result": ("s", first_result),
}


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    figures = {}
    print(f"{'':28}{'median':>12}{'min':>12}{'max':>12}")
    for name, (unit, measure) in FIGURES.items():
        values = [measure() for _ in range(runs)]
        middle, low, high = statistics.median(values), min(values), max(values)
        print(f"{name:28}{middle:12,.3f}{low:12,.3f}{high:12,.3f}  {unit}")
        figures[name] = {"median": middle, "min": low, "max": high, "unit": unit, "n": runs}
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
