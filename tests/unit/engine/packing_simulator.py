"""Blocks on which tasks take as long as they are said to: what a packing policy makes of a mix."""

import heapq
import random
from dataclasses import dataclass

from mep.endpoint.interchange.dispatch import Waiter
from mep.endpoint.interchange.events import PoolUp
from mep.endpoint.interchange.packing import Packing
from mep.endpoint.interchange.request import Request
from mep.wire.tasks import Task


def waiter(task_id, nodes, walltime_s=None, group="g", priority=0):
    return Waiter(
        Task(task_id, "f", group, b""),
        Request(num_nodes=nodes, walltime_s=walltime_s, priority=priority),
    )


def block(pool_id, nodes, most=None, ends_at=None):
    names = tuple(f"{pool_id}-n{number}" for number in range(nodes))
    return PoolUp(pool_id, most or nodes, most or nodes, names, ends_at)


@dataclass(frozen=True)
class Mix:
    """Tasks: (nodes, seconds) each, in the order of their submission."""

    tasks: tuple[tuple[int, float], ...]

    @classmethod
    def drawn(cls, seed, count=60, nodes=(1, 4), seconds=(0.2, 1.0)):
        draw = random.Random(seed)
        return cls(tuple((draw.randint(*nodes), draw.uniform(*seconds)) for _ in range(count)))


@dataclass(frozen=True)
class Outcome:
    utilisation: float
    """Node-seconds used, of those that there were between the first and the last start."""
    most_passes: int
    """How many tasks that came later began before one, at most."""
    makespan: float


def simulate(mix, max_passes, nodes=4, blocks=1, declared=False):
    packing = Packing(nodes, nodes, max_passes)
    for number in range(blocks):
        packing.join(block(f"p{number}", nodes))
    for number, (wanted, seconds) in enumerate(mix.tasks):
        packing.add(waiter(str(number), wanted, seconds if declared else None))
    starts, running, now = {}, [], 0.0
    while True:
        while (placing := packing.next(now)) is not None:
            item, pool_id, _ = placing
            number = int(item.task.task_id)
            starts[number] = now
            heapq.heappush(running, (now + mix.tasks[number][1], number, pool_id, item))
        if not running:
            break
        now, _, pool_id, item = heapq.heappop(running)
        packing.free(pool_id, [item])
    assert len(starts) == len(mix.tasks)
    last = max(starts.values())
    used = sum(
        wanted * (min(starts[number] + seconds, last) - starts[number])
        for number, (wanted, seconds) in enumerate(mix.tasks)
    )
    order = list(starts)
    passes = [sum(other > one for other in order[:at]) for at, one in enumerate(order)]
    return Outcome(used / (last * nodes * blocks), max(passes), now)
