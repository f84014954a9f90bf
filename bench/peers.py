"""Other systems on this machine, in the same run: what `make bench` prints ratios against.

Runs in a virtual environment of its own that holds Parsl and Globus Compute's endpoint package
(`tools/peers` makes it); prints one JSON object ``{peer: {figure: value}}`` on standard output.
Figures: ``throughput_1w`` and ``throughput_2w`` (no-op tasks/s, prefetch 0), for HTEX also
``throughput_2w_prefetch`` (prefetch 100), ``latency_p50`` (sequential round trip, ms), ``start``
(s, from making the engine to the first result).

Usage: PYTHON bench/peers.py [htex] [pool] [gce]
"""

import concurrent.futures
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TASKS = 2000
SEQUENTIAL = 300
PATIENCE_S = 120

Submit = Callable[[int], "concurrent.futures.Future[Any]"]


def noop(n: int) -> int:
    """The task of every bench."""
    return n


def throughput(submit: Submit, tasks: int = TASKS) -> float:
    """Tasks per second, all submitted at once."""
    began = time.perf_counter()
    concurrent.futures.wait([submit(n) for n in range(tasks)], PATIENCE_S)
    return tasks / (time.perf_counter() - began)


def latency_ms(submit: Submit) -> float:
    """Median round trip of one task at a time."""
    times = []
    for n in range(SEQUENTIAL):
        began = time.perf_counter()
        submit(n).result(PATIENCE_S)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


@contextlib.contextmanager
def htex(workers: int, prefetch: int) -> Iterator[Submit]:
    """Parsl's HighThroughputExecutor with a local block."""
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    with tempfile.TemporaryDirectory() as run_dir:
        executor = HighThroughputExecutor(
            label="bench",
            address="127.0.0.1",
            max_workers_per_node=workers,
            prefetch_capacity=prefetch,
            encrypted=False,
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
        executor.run_dir = run_dir
        executor.provider.script_dir = run_dir
        executor.start()
        executor.scale_out_facade(1)
        try:
            yield lambda n: executor.submit(noop, {}, n)
        finally:
            executor.shutdown()


@contextlib.contextmanager
def pool(workers: int, _: int = 0) -> Iterator[Submit]:
    """The standard library's process pool."""
    with concurrent.futures.ProcessPoolExecutor(workers) as executor:
        yield lambda n: executor.submit(noop, n)


@contextlib.contextmanager
def gce(workers: int, prefetch: int) -> Iterator[Submit]:
    """Globus Compute's own engine, driven as its endpoint drives it."""
    from globus_compute_common import messagepack
    from globus_compute_endpoint.engines import GlobusComputeEngine
    from globus_compute_endpoint.engines.base import GCFuture
    from globus_compute_sdk.serialize import ComputeSerializer
    from parsl.providers import LocalProvider

    serializer = ComputeSerializer()
    code = serializer.serialize(noop)
    engine = GlobusComputeEngine(
        address="127.0.0.1",
        max_workers_per_node=workers,
        prefetch_capacity=prefetch,
        encrypted=False,
        provider=LocalProvider(init_blocks=1, max_blocks=1),
    )

    def submit(n: int) -> "concurrent.futures.Future[Any]":
        task_id = uuid.uuid4()
        body = serializer.pack_buffers([code, serializer.serialize([n]), serializer.serialize({})])
        message = messagepack.message_types.Task(task_id=task_id, task_buffer=body)
        future: concurrent.futures.Future[Any] = GCFuture(task_id)
        engine.submit(future, messagepack.pack(message), {})
        return future

    with tempfile.TemporaryDirectory() as run_dir:
        engine.start(endpoint_id=uuid.uuid4(), run_dir=run_dir)
        try:
            yield submit
        finally:
            engine.shutdown()


PEERS: dict[str, Callable[[int, int], contextlib.AbstractContextManager[Submit]]] = {
    "htex": htex,
    "pool": pool,
    "gce": gce,
}


def measure(peer: str) -> dict[str, float]:
    """All figures of one peer."""
    figures = {}
    began = time.perf_counter()
    with PEERS[peer](2, 0) as submit:
        submit(0).result(PATIENCE_S)
        figures["start"] = time.perf_counter() - began
        throughput(submit, 200)
        figures["throughput_2w"] = throughput(submit)
        figures["latency_p50"] = latency_ms(submit)
    if peer == "htex":
        with htex(2, 100) as submit:
            throughput(submit, 200)
            figures["throughput_2w_prefetch"] = throughput(submit, 2 * TASKS)
    return figures


if __name__ == "__main__":
    # The peers start their own commands by name.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    json.dump({peer: measure(peer) for peer in sys.argv[1:] or PEERS}, sys.stdout)
