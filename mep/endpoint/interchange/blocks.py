"""How many blocks there should be, and when to stop asking for more. Pure: time is an argument."""

import math
from dataclasses import dataclass
from typing import Final

FAILURES: Final = 3
"""Blocks in a row that ended before their node pool came up: then the reason is not chance."""
PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 300.0
"""Between two attempts after that; the pause doubles with each that fails."""


@dataclass(frozen=True)
class Bounds:
    """Globus Compute's and Parsl's settings of a provider."""

    initial: int
    least: int
    most: int
    parallelism: float
    scales: bool = True
    """Whether blocks come and go with demand."""


class Blocks:
    """The blocks of one provider.

    After FAILURES failures in a row it asks for no more. The next task that is waiting then has one
    block asked for: at once the first time, and after a pause when that has failed too. The first
    node pool that comes up ends this.

    Args:
        bounds: how many, see :class:`Bounds`.
        workers: of one block, as far as is known before one is up.
        first: number of the first block; blocks of earlier processes have smaller ones.
    """

    def __init__(self, bounds: Bounds, workers: int, first: int = 0) -> None:
        self._bounds = bounds
        self._workers = workers
        self._count = first
        self._starting: set[str] = set()
        self._adopted: set[str] = set()
        self._up: dict[str, int] = {}
        self._leaving: set[str] = set()
        self._failures = 0
        self.try_at = 0.0
        """When the next attempt may be made, after it has given up."""

    @property
    def up(self) -> int:
        """Blocks whose node pool is up."""
        return len(self._up)

    @property
    def all(self) -> set[str]:
        """Blocks that have not ended."""
        return self._starting | self._up.keys() | self._leaving

    @property
    def given_up(self) -> bool:
        """Whether too many have failed in a row."""
        return self._failures >= FAILURES

    @property
    def over(self) -> bool:
        """Whether none is left and none will come: those that do not scale are started once."""
        return not self._bounds.scales and not self.all

    def has_been_up(self, block_id: str) -> bool:
        """Whether a node pool of it has ever said hello, or nobody waits for one any more."""
        return block_id not in self._starting

    def is_new(self, block_id: str) -> bool:
        """Whether this process has started it, and no node pool of it has been up yet."""
        return block_id in self._starting - self._adopted

    def adopt(self, block_id: str) -> None:
        """An earlier process has started it."""
        self._starting.add(block_id)
        self._adopted.add(block_id)

    def first(self) -> list[str]:
        """The blocks to start at once."""
        wanted = max(self._bounds.initial, self._bounds.least)
        return [self._new() for _ in range(wanted - len(self._starting))]

    def wanted(self, waiting: int, placed: int, now: float) -> list[str]:
        """The blocks to start now, with so many tasks waiting for a slot and at pools."""
        have = len(self._starting) + len(self._up)
        if not self._bounds.scales or have >= self._bounds.most:
            return []
        if self.given_up:
            try_one = waiting and not self._starting and now >= self.try_at
            return [self._new()] if try_one else []
        need = math.ceil((waiting + placed) * self._bounds.parallelism / self._workers)
        if waiting:
            need = max(need, 1)
        need = min(max(need, self._bounds.least), self._bounds.most)
        return [self._new() for _ in range(need - have)]

    def came_up(self, block_id: str, workers: int) -> None:
        """One of its node pools said hello, with so many workers."""
        self._starting.discard(block_id)
        if block_id not in self._leaving:
            self._up[block_id] = self._up.get(block_id, 0) + workers
            self._workers = max(self._up[block_id], 1)
        self._failures = 0

    def leaving(self, block_id: str) -> None:
        """It has been asked to end."""
        self._up.pop(block_id, None)
        self._starting.discard(block_id)
        self._leaving.add(block_id)

    def ended(self, block_id: str, now: float) -> None:
        """Its processes are gone."""
        if block_id in self._starting:
            self._fail(now)
        self._starting.discard(block_id)
        self._up.pop(block_id, None)
        self._leaving.discard(block_id)

    def may_shrink(self) -> bool:
        """Whether an idle block may be ended."""
        return self._bounds.scales and len(self._up) > self._bounds.least

    def _fail(self, now: float) -> None:
        self._failures += 1
        again = self._failures - FAILURES
        if again == 0:
            self.try_at = now
        elif again > 0:
            self.try_at = now + min(PAUSE_S * 2.0 ** (again - 1), LONGEST_PAUSE_S)

    def _new(self) -> str:
        block_id = str(self._count)
        self._count += 1
        self._starting.add(block_id)
        return block_id
