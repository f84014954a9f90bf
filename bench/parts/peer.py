"""One other system, measured on demand: what `bench/peers.py` alternates our engine with.

Runs in a virtual environment of its own that holds Parsl and Globus Compute's endpoint package
(`tools/peers` makes it). For each line ``throughput TASKS`` or ``latency TASKS`` on standard input
it prints one number: no-op tasks a second, all submitted at once; or the median round trip of one
task at a time in milliseconds. The first number, without a question, is the seconds from making
the engine to the first result. Ends with its standard input.

Usage: PYTHON bench/parts/peer.py htex|htex_curve|pool|gce PREFETCH
"""

import concurrent.futures
import contextlib
import functools
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PATIENCE_S = 120

Submit = Callable[[int], "concurrent.futures.Future[Any]"]


def noop(n: int) -> int:
    """The task of every bench."""
    return n


def throughput(submit: Submit, tasks: int) -> float:
    """Tasks per second, all submitted at once."""
    began = time.perf_counter()
    concurrent.futures.wait([submit(n) for n in range(tasks)], PATIENCE_S)
    return tasks / (time.perf_counter() - began)


def latency_ms(submit: Submit, tasks: int) -> float:
    """Median round trip of one task at a time."""
    times = []
    for n in range(tasks):
        began = time.perf_counter()
        submit(n).result(PATIENCE_S)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


@contextlib.contextmanager
def htex(workers: int, prefetch: int, encrypted: bool = False) -> Iterator[Submit]:
    """Parsl's HighThroughputExecutor with a local block."""
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    with tempfile.TemporaryDirectory() as run_dir:
        executor = HighThroughputExecutor(
            label="bench",
            address="127.0.0.1",
            max_workers_per_node=workers,
            prefetch_capacity=prefetch,
            encrypted=encrypted,
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
    "htex_curve": functools.partial(htex, encrypted=True),
    "pool": pool,
    "gce": gce,
}


def main(peer: str, prefetch: int) -> None:
    """Answer until there are no more questions."""
    numbers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a peer prints is no number
    began = time.perf_counter()
    with PEERS[peer](2, prefetch) as submit:
        submit(0).result(PATIENCE_S)
        print(time.perf_counter() - began, file=numbers)
        throughput(submit, 200)
        for question in sys.stdin:
            figure, tasks = question.split()
            measure = {"throughput": throughput, "latency": latency_ms}[figure]
            print(measure(submit, int(tasks)), file=numbers)


if __name__ == "__main__":
    # The peers start their own commands by name.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    main(sys.argv[1], int(sys.argv[2]))
