"""The engine: throughput, latency, payloads, many pools, memory; and the ratios to its peers.

Prints a table and writes bench/out/engine.json. Each run measures the peers too, so that a ratio
is of figures of the same minute; where tools/peers cannot make their environment (no network),
the ratios are left out.

python bench/engine.py [RUNS]
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parts.harness import Harness, cpu_s, pss_mib

from mep.payload import dump_arguments

TOP = Path(__file__).resolve().parent.parent
OUT = TOP / "bench" / "out" / "engine.json"
TASKS = 20_000
SEQUENTIAL = 1_000
MIB = 1024 * 1024

Figures = dict[str, float]


def throughput(workers: int, tasks: int = TASKS, **settings: Any) -> float:
    """No-op tasks a second."""
    harness = Harness(max_workers_per_node=workers, **settings)
    harness.run(500)
    took = harness.run(tasks)
    harness.close()
    return tasks / took


def latency() -> float:
    """Milliseconds from submit to result, one at a time, at the median."""
    harness = Harness(max_workers_per_node=1)
    harness.run(50)
    times = [harness.run(1) for _ in range(SEQUENTIAL)]
    harness.close()
    return statistics.median(times) * 1000


def payload(size: int, rounds: int) -> float:
    """Tasks a second, one at a time, that take and return so many bytes."""
    arguments = dump_arguments((bytes(size),), {})
    harness = Harness(max_workers_per_node=1)
    harness.run(1, arguments)
    took = sum(harness.run(1, arguments) for _ in range(rounds))
    harness.close()
    return rounds / took


def first_result() -> float:
    """Seconds from the engine's start to the first result."""
    harness = Harness(max_workers_per_node=1)
    harness.run(1)
    took = time.perf_counter() - harness.began
    harness.close()
    return took


def crowded(count: int) -> float:
    """Throughput of two workers while so many other pools are connected and silent."""
    harness = Harness(max_workers_per_node=2, prefetch_capacity=100)
    harness.run(500)
    crowd = subprocess.Popen(
        [sys.executable, TOP / "bench" / "parts" / "crowd.py", harness.directory, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    crowd.stdout.readline()
    while harness.engine.status().detail["node_pools"] <= count:
        time.sleep(0.05)
    # One task for each slot: the crowd keeps its own for good.
    harness.run(count + 2, without=count)
    took = harness.run(TASKS)
    harness.close()
    crowd.communicate()
    return TASKS / took


def cpu_per_task() -> float:
    """Microseconds of processor time, in all processes together."""
    harness = Harness(max_workers_per_node=2, prefetch_capacity=100)
    harness.run(500)
    before = cpu_s()
    harness.run(TASKS)
    used = cpu_s() - before
    harness.close()
    return used / TASKS * 1e6


def idle_memory() -> float:
    """MiB of an idle endpoint with its node pool and one worker, in a process of its own."""
    command = [sys.executable, __file__, "--idle"]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def be_idle() -> None:
    """What a user endpoint imports, an engine, and one worker; prints their memory."""
    import mep.endpoint.__main__  # noqa: F401

    harness = Harness(max_workers_per_node=1)
    harness.run(1)
    print(pss_mib())
    harness.close()


MEASURES: dict[str, tuple[str, Callable[[], float]]] = {
    "throughput_1w": ("tasks/s", lambda: throughput(1, 5000, prefetch_capacity=0)),
    "throughput_2w": ("tasks/s", lambda: throughput(2, 5000, prefetch_capacity=0)),
    "throughput_1w_prefetch": ("tasks/s", lambda: throughput(1, prefetch_capacity=100)),
    "throughput_2w_prefetch": ("tasks/s", lambda: throughput(2, prefetch_capacity=100)),
    "throughput_2w_adaptive": ("tasks/s", lambda: throughput(2)),
    "latency_p50": ("ms", latency),
    "pools_200": ("tasks/s", lambda: crowded(200)),
    "pools_1000": ("tasks/s", lambda: crowded(1000)),
    "payload_1kb_per_s": ("tasks/s", lambda: payload(1024, 500)),
    "payload_1mb_per_s": ("tasks/s", lambda: payload(MIB, 50)),
    "payload_8mb_per_s": ("tasks/s", lambda: payload(8 * MIB, 20)),
    "cpu_per_task": ("us", cpu_per_task),
    "start_to_first_result": ("s", first_result),
    "pss_idle": ("MiB", idle_memory),
}


def peers() -> Path | None:
    """The Python of the environment that holds the peers; None: it cannot be had."""
    if "MEP_PEERS" in os.environ:
        return Path(os.environ["MEP_PEERS"]) / "bin" / "python"
    made = subprocess.run(["sh", TOP / "tools" / "peers"], stdout=subprocess.PIPE, text=True)
    return Path(made.stdout.strip()) / "bin" / "python" if made.returncode == 0 else None


def measure(python: Path | None) -> Figures:
    """One run of everything."""
    figures = {name: call() for name, (_, call) in MEASURES.items()}
    figures["pools_1000_vs_1"] = figures["pools_1000"] / figures["throughput_2w_prefetch"]
    if python is not None:
        command = [python, TOP / "bench" / "peers.py"]
        output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        figures |= compared(figures, json.loads(output))
    return figures


def compared(ours: Figures, theirs: dict[str, Figures]) -> Figures:
    """The peers' figures, and how many times better ours are."""
    figures = {f"{peer}_{name}": x for peer, all_ in theirs.items() for name, x in all_.items()}
    for peer, its in theirs.items():
        for name in ("throughput_2w", "throughput_2w_prefetch"):
            if name in its:
                figures[f"{name}_vs_{peer}"] = ours[name] / its[name]
        figures[f"latency_p50_vs_{peer}"] = its["latency_p50"] / ours["latency_p50"]
    return figures


def unit(name: str) -> str:
    """Of a figure, also of a peer's."""
    if "_vs_" in name:
        return "x"
    if name in MEASURES:
        return MEASURES[name][0]
    return {"p50": "ms", "start": "s"}.get(name.rpartition("_")[2], "tasks/s")


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    python = peers()
    if python is None:
        print("the peers cannot be installed here: no ratios", file=sys.stderr)
    measured = [measure(python) for _ in range(runs)]
    print(f"{'':32}{'median':>12}{'min':>12}{'max':>12}")
    figures = {}
    for name in measured[0]:
        values = [run[name] for run in measured]
        middle, low, high = statistics.median(values), min(values), max(values)
        print(f"{name:32}{middle:12,.3f}{low:12,.3f}{high:12,.3f}  {unit(name)}")
        figures[name] = {"median": middle, "min": low, "max": high, "unit": unit(name), "n": runs}
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    be_idle() if sys.argv[1:] == ["--idle"] else main()
