"""Our engine and its peers, in turn: throughput, latency, and how many times better ours are.

The peers are Parsl's HighThroughputExecutor (htex; as it is by default, with CURVE: htex_curve),
the process pool of the standard library (pool)
and Globus Compute's own engine (gce). Both sides are up at the same time, and samples of half a
second alternate, so that both see the same machine; a figure is the median of its samples. Prints a
table and writes bench/out/peers.json; bench/engine.py has the ratios too.

python bench/peers.py [RUNS]
"""

import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from parts.harness import TRANSPORTS, Harness
from parts.table import Figures, report

TOP = Path(__file__).resolve().parent.parent
ROUNDS = 5
OURS = {0: 3_000, 100: 20_000}
"""Tasks of a sample, by prefetch."""
SEQUENTIAL = 200


class Meeting(NamedTuple):
    """Two engines that are measured in turn."""

    peer: str
    prefetch: int
    tasks: int
    """Of a sample of the peer's."""
    latency: bool
    transports: tuple[str, ...] = ("",)


MEETINGS = (
    Meeting("htex", 0, 600, latency=True, transports=("", "_curve")),
    Meeting("htex", 100, 800, latency=False, transports=("", "_curve")),
    Meeting("htex_curve", 0, 600, latency=True, transports=("_curve",)),
    Meeting("htex_curve", 100, 800, latency=False, transports=("_curve",)),
    Meeting("pool", 0, 4_000, latency=True),
    Meeting("gce", 0, 400, latency=True),
)


class Peer:
    """One of the other systems, in a process of its own."""

    def __init__(self, python: Path, name: str, prefetch: int) -> None:
        script = TOP / "bench" / "parts" / "peer.py"
        self._process = subprocess.Popen(
            [python, script, name, str(prefetch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.start_s = self._number()

    def ask(self, figure: str, tasks: int) -> float:
        """One sample."""
        assert self._process.stdin
        self._process.stdin.write(f"{figure} {tasks}\n")
        return self._number()

    def _number(self) -> float:
        assert self._process.stdout
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End it; returns when it has ended."""
        self._process.communicate()


def python_of_peers() -> Path | None:
    """The Python of the environment that holds the peers; None: it cannot be had."""
    if "MEP_PEERS" in os.environ:
        return Path(os.environ["MEP_PEERS"]) / "bin" / "python"
    made = subprocess.run(["sh", TOP / "tools" / "peers"], stdout=subprocess.PIPE, text=True)
    return Path(made.stdout.strip()) / "bin" / "python" if made.returncode == 0 else None


def compare(python: Path) -> Figures:
    """One run: our figures beside each peer's, and the ratios."""
    figures: Figures = {}
    for meeting in MEETINGS:
        with contextlib.closing(Peer(python, meeting.peer, meeting.prefetch)) as peer:
            if not meeting.prefetch:
                figures[f"{meeting.peer}_start"] = peer.start_s
            for transport in meeting.transports:
                figures |= meet(meeting, peer, transport)
    return figures


def meet(meeting: Meeting, peer: Peer, transport: str) -> Figures:
    """Samples of both in turn, our node pool connected by this transport."""
    name = "throughput_2w" + ("_prefetch" if meeting.prefetch else "")
    figures: Figures = {}
    with ours(meeting.prefetch, transport) as harness:
        tasks = OURS[meeting.prefetch]
        mine, theirs = in_turn(
            lambda: harness.throughput(tasks), lambda: peer.ask("throughput", meeting.tasks)
        )
        figures[f"{meeting.peer}_{name}"] = theirs
        figures[f"{name}{transport}_vs_{meeting.peer}"] = mine / theirs
        if meeting.latency:
            mine, theirs = in_turn(
                lambda: harness.latency_ms(SEQUENTIAL), lambda: peer.ask("latency", SEQUENTIAL)
            )
            figures[f"{meeting.peer}_latency_p50"] = theirs
            figures[f"latency_p50{transport}_vs_{meeting.peer}"] = theirs / mine
    return figures


@contextlib.contextmanager
def ours(prefetch: int, transport: str) -> Iterator[Harness]:
    """Our engine with two workers that have run already."""
    settings = {"max_workers_per_node": 2, "prefetch_capacity": prefetch}
    with contextlib.closing(Harness(**settings, **TRANSPORTS[transport])) as harness:
        harness.run(500)
        yield harness


def in_turn(mine: Callable[[], float], theirs: Callable[[], float]) -> tuple[float, float]:
    """The medians of samples that alternate."""
    pairs = [(mine(), theirs()) for _ in range(ROUNDS)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    python = python_of_peers()
    if python is None:
        sys.exit("the peers cannot be installed here")
    measured = [compare(python) for _ in range(runs)]
    report("peers", measured)


if __name__ == "__main__":
    main()
