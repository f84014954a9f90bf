"""How many blocks there should be, and when to stop asking for more. Pure."""

import math
from dataclasses import dataclass

FAILURES = 3
"""Blocks in a row that ended before their node pool came up: then the reason is not chance."""


@dataclass(frozen=True)
class Bounds:
    """Globus Compute's and Parsl's settings of a provider."""

    initial: int
    least: int
    most: int
    parallelism: float


class Blocks:
    """The blocks of one provider.

    Args:
        bounds: how many, see :class:`Bounds`.
        workers: workers of one block.
    """

    def __init__(self, bounds: Bounds, workers: int) -> None:
        self._bounds = bounds
        self._workers = workers
        self._count = 0
        self._starting: set[str] = set()
        self._up: set[str] = set()
        self._leaving: set[str] = set()
        self._failures = 0

    @property
    def up(self) -> int:
        """Blocks whose node pool is up."""
        return len(self._up)

    @property
    def all(self) -> set[str]:
        """Blocks that have not ended."""
        return self._starting | self._up | self._leaving

    @property
    def given_up(self) -> bool:
        """Whether too many have failed in a row; :meth:`try_again` is asked for then."""
        return self._failures >= FAILURES

    def first(self) -> list[str]:
        """The blocks to start at once."""
        return [self._new() for _ in range(max(self._bounds.initial, self._bounds.least))]

    def wanted(self, waiting: int, placed: int) -> list[str]:
        """The blocks to start now, with so many tasks waiting for a slot and at pools."""
        if self.given_up:
            return []
        need = math.ceil((waiting + placed) * self._bounds.parallelism / self._workers)
        if waiting:
            need = max(need, 1)
        need = min(max(need, self._bounds.least), self._bounds.most)
        have = len(self._starting) + len(self._up)
        return [self._new() for _ in range(need - have)]

    def came_up(self, block_id: str) -> None:
        """Its node pool said hello."""
        self._starting.discard(block_id)
        self._up.add(block_id)
        self._failures = 0

    def leaving(self, block_id: str) -> None:
        """It has been asked to end."""
        self._up.discard(block_id)
        self._starting.discard(block_id)
        self._leaving.add(block_id)

    def ended(self, block_id: str) -> None:
        """Its processes are gone."""
        if block_id in self._starting:
            self._failures += 1
        self._starting.discard(block_id)
        self._up.discard(block_id)
        self._leaving.discard(block_id)

    def try_again(self) -> None:
        """Someone asks anew: forget the failures."""
        self._failures = 0

    def may_shrink(self) -> bool:
        """Whether an idle block may be ended."""
        return len(self._up) > self._bounds.least

    def _new(self) -> str:
        block_id = str(self._count)
        self._count += 1
        self._starting.add(block_id)
        return block_id
