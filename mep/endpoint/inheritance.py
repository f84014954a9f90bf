"""What becomes of the tasks that a user endpoint had when it died. Pure.

A task that had left for a node pool may have begun. Where the pool may live still, its result is
*awaited*; else it has lost its pool, as it would have with the endpoint alive: it runs *again*
while ``max_retries_on_system_failure`` allows, else it is *lost*.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mep.wire import codes
from mep.wire.tasks import Failure, Result

LOST: Final = Failure(
    codes.ENDPOINT_LOST,
    "the user endpoint ended while this task was running, and a task that has started is not run "
    "a second time; submit it again if that does no harm",
)


@dataclass(frozen=True)
class Left:
    """What the journal of an earlier process says."""

    results: tuple[Result, ...] = ()
    """Those that the relay may not have."""
    started: Mapping[str, str] = field(default_factory=dict)
    """Tasks that may have begun: the node pool of each, empty where that ended with the process."""
    losses: Mapping[str, int] = field(default_factory=dict)
    """How often tasks have lost their worker, node pool or user endpoint."""


@dataclass
class Verdict:
    """What becomes of them."""

    awaited: dict[str, str] = field(default_factory=dict)
    """Tasks, and the node pool of each."""
    again: list[str] = field(default_factory=list)
    """These are given back to the relay, which sends them once more."""
    lost: list[str] = field(default_factory=list)


def judge(left: Left, retries: int, may_live: Callable[[str], bool]) -> Verdict:
    """Judge the tasks that had started.

    Args:
        left: what the journal says.
        retries: how often a task may be lost and run again.
        may_live: whether this node pool may still run.
    """
    verdict = Verdict()
    for task_id, pool_id in left.started.items():
        if pool_id and may_live(pool_id):
            verdict.awaited[task_id] = pool_id
        elif left.losses.get(task_id, 0) < retries:
            verdict.again.append(task_id)
        else:
            verdict.lost.append(task_id)
    return verdict
