"""A mix of MPI tasks, and what can be said of how it ran. Pure.

Each task notes on its standard output when its launcher began and when it had ended, so that all
engines are measured alike, and without what they need for themselves.
"""

import random
import statistics
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass

NODES = 4
COUNT = 60


@dataclass(frozen=True)
class Job:
    """One task: a program of one rank a node that takes so long."""

    nodes: int
    seconds: float

    @property
    def command(self) -> str:
        """For bash, with the launcher in PARSL_MPI_PREFIX."""
        launch = f"$PARSL_MPI_PREFIX sleep {self.seconds}"
        return f"date +%s.%N; {launch}; code=$?; date +%s.%N; exit $code"

    @property
    def request(self) -> dict[str, int]:
        """The resource specification."""
        return {"num_nodes": self.nodes, "ranks_per_node": 1, "num_ranks": self.nodes}


@dataclass(frozen=True)
class Ran:
    """When a job's launcher began and ended; epoch seconds."""

    job: Job
    began: float
    ended: float


def mix(seed: int = 4) -> list[Job]:
    """As many jobs of 1, 2, 3 and 4 nodes, of 0.2 to 1 s, in an order that is always the same."""
    chance = random.Random(seed)
    sizes = [1 + number % NODES for number in range(COUNT)]
    chance.shuffle(sizes)
    return [Job(nodes, round(chance.uniform(0.2, 1.0), 3)) for nodes in sizes]


def read(job: Job, output: str) -> Ran:
    """What a job has printed.

    Raises:
        ValueError: it did not get that far.
    """
    began, ended = map(float, output.split())
    return Ran(job, began, ended)


def figures(ran: Sequence[Ran]) -> dict[str, float]:
    """Of one run of the mix, in the order of submission.

    ``node_utilisation`` counts from the first start to the last, while there is a choice; what runs
    on after that is left out on both sides. ``passed_over`` is the largest number of jobs that
    began before one that was submitted before them. Where no job ended in between, both were given
    nodes at once, and whose launcher was a millisecond quicker says nothing.
    """
    first, last = min(one.began for one in ran), max(one.began for one in ran)
    ends = sorted(one.ended for one in ran)
    used = sum(one.job.nodes * (min(one.ended, last) - min(one.began, last)) for one in ran)
    return {
        "node_utilisation": used / (NODES * (last - first)),
        "makespan": max(one.ended for one in ran) - first,
        "launcher_overhead": statistics.median(
            one.ended - one.began - one.job.seconds for one in ran
        ),
        "passed_over": max(
            sum(bisect(ends, later.began) < bisect(ends, one.began) for later in ran[at:])
            for at, one in enumerate(ran)
        ),
    }
