"""The engine: throughput, latency, payloads, many pools, memory; and the ratios to its peers.

Prints a table (median of several runs, and their spread) and writes bench/out/engine.json. Figures
end in ``_tcp`` or ``_curve`` where node pools connect by TCP, bare or encrypted; others are of node
pools beside the interchange. Where tools/peers cannot make the peers' environment (no network), the
ratios are left out; how they are measured: bench/peers.py.

python bench/engine.py [RUNS]
"""

import contextlib
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peers
from parts.harness import NOTHING, TRANSPORTS, Harness, cpu_s, family, pss_mib
from parts.table import Figures, report

from mep.endpoint.interchange.slow_curve import seconds_per_mib
from mep.payload import RAW, dump_arguments

TOP = Path(__file__).resolve().parent.parent
TASKS = {0: 4_000, 100: 20_000}
"""Of a sample, by prefetch."""
SEQUENTIAL = 300
MIB = 1024 * 1024
PAYLOADS = {"1kb": (1024, 300), "1mb": (MIB, 40), "8mb": (8 * MIB, 20)}
"""Bytes, and round trips of a sample."""
CROWDS = (1, 200, 1000)
ROUNDS = 9
"""Samples beside each crowd."""


@contextlib.contextmanager
def warm(workers: int, **settings: Any) -> Iterator[Harness]:
    """An engine whose workers have run already."""
    with contextlib.closing(Harness(max_workers_per_node=workers, **settings)) as harness:
        harness.run(500)
        yield harness


def throughputs() -> Figures:
    """No-op tasks a second; latency of one at a time."""
    figures: Figures = {}
    for (name, transport), workers in itertools.product(TRANSPORTS.items(), (1, 2)):
        with warm(workers, prefetch_capacity=0, **transport) as harness:
            figures[f"throughput_{workers}w{name}"] = harness.throughput(TASKS[0])
            latency = "latency_p50" if workers == 1 else "latency_p50_2w"
            figures[latency + name] = harness.latency_ms(SEQUENTIAL)
        with warm(workers, prefetch_capacity=100, **transport) as harness:
            figures[f"throughput_{workers}w_prefetch{name}"] = harness.throughput(TASKS[100])
            latency = "latency_p50" if workers == 1 else "latency_p50_2w"
            figures[f"{latency}_prefetch{name}"] = harness.latency_ms(SEQUENTIAL)
    with warm(2) as harness:
        figures["throughput_2w_adaptive"] = harness.throughput(TASKS[100])
    return figures


def payloads() -> Figures:
    """Tasks a second, one at a time, that take and return so many bytes; and CURVE's own speed."""
    figures: Figures = {}
    for (name, transport), (size, (count, rounds)) in itertools.product(
        TRANSPORTS.items(), PAYLOADS.items()
    ):
        arguments = dump_arguments((bytes(count),), {}, RAW)
        with warm(1, **transport) as harness:
            harness.run(1, arguments)
            took = sum(harness.run(1, arguments) for _ in range(rounds))
        figures[f"payload_{size}{name}_per_s"] = rounds / took
    figures["curve_s_per_mib"] = seconds_per_mib()
    return figures


def crowds() -> Figures:
    """Throughput of two workers while other pools are connected and silent.

    An engine for each crowd; samples alternate, so that all see the same machine.
    """
    with contextlib.ExitStack() as stack:
        beside = {count: stack.enter_context(crowded(count)) for count in CROWDS}
        rounds = [[one.throughput(TASKS[100]) for one in beside.values()] for _ in range(ROUNDS)]
    medians = map(statistics.median, zip(*rounds, strict=True))
    figures = {f"pools_{count}": figure for count, figure in zip(CROWDS, medians, strict=True)}
    figures["pools_1000_vs_1"] = figures["pools_1000"] / figures["pools_1"]
    return figures


@contextlib.contextmanager
def crowded(count: int) -> Iterator[Harness]:
    """An engine with `count` node pools beside its own."""
    script = TOP / "bench" / "parts" / "crowd.py"
    with (
        warm(2, prefetch_capacity=100) as harness,
        subprocess.Popen(
            [sys.executable, script, harness.directory, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as crowd,
    ):
        assert crowd.stdout
        crowd.stdout.readline()
        while harness.engine.status().detail["node_pools"] <= count:
            time.sleep(0.05)
        # One task for each slot: the crowd keeps its own for good.
        harness.run(count + 2, without=count)
        yield harness


def cpu() -> Figures:
    """Microseconds of processor time for a task, in all processes together."""
    figures: Figures = {}
    for name, prefetch in (("cpu_per_task", 0), ("cpu_per_task_prefetch", 100)):
        with warm(2, prefetch_capacity=prefetch) as harness:
            before = cpu_s()
            harness.run(TASKS[prefetch])
            figures[name] = (cpu_s() - before) / TASKS[prefetch] * 1e6
    return figures


def starts() -> Figures:
    """Seconds from the engine's start to the first result."""
    with contextlib.closing(Harness(max_workers_per_node=1)) as harness:
        harness.run(1)
        return {"start_to_first_result": time.perf_counter() - harness.began}


def memory() -> Figures:
    """MiB of an idle endpoint with its node pool and one worker, in processes of their own."""
    command = [sys.executable, __file__, "--idle"]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    figures: Figures = json.loads(output)
    return figures


def be_idle() -> None:
    """What a user endpoint imports, an engine, and one worker; prints their memory."""
    import mep.endpoint.__main__  # noqa: F401

    with contextlib.closing(Harness(max_workers_per_node=1)) as harness:
        harness.run(1, NOTHING)
        endpoint, pool, forks, worker = family()
        figures = {
            "pss_user_endpoint": pss_mib([endpoint]),
            "pss_pool": pss_mib([pool, forks]),
            "pss_worker": pss_mib([worker]),
        }
    print(json.dumps({**figures, "pss_idle": sum(figures.values())}))


def measure(python: Path | None) -> Figures:
    """One run of everything."""
    figures: Figures = {}
    for part in (throughputs, payloads, crowds, cpu, starts, memory):
        figures |= part()
    return figures if python is None else figures | peers.compare(python)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    python = peers.python_of_peers()
    if python is None:
        print("the peers cannot be installed here: no ratios", file=sys.stderr)
    measured = [measure(python) for _ in range(runs)]
    report("engine", measured)


if __name__ == "__main__":
    be_idle() if sys.argv[1:] == ["--idle"] else main()
