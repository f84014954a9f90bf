"""When a user endpoint leaves. Pure: the time is an argument, in seconds of any steady clock."""

import math
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["stay", "soft", "hard"]


@dataclass(frozen=True)
class IdleLimits:
    """Seconds; infinity means never."""

    soft_s: float
    """Without any task here."""
    hard_s: float
    """Without any task or result moving."""

    @classmethod
    def of(cls, heartbeat_s: float, soft: int, hard: int) -> "IdleLimits":
        """From the settings. As in Globus Compute, 0 is never, and hard needs soft."""
        return cls(
            heartbeat_s * soft if soft else math.inf,
            heartbeat_s * hard if soft and hard else math.inf,
        )


class IdleWatch:
    """Follows how long nothing has happened."""

    def __init__(self, limits: IdleLimits, now: float) -> None:
        self._limits = limits
        self._moved = now
        self._empty_since: float | None = now

    def moved(self, now: float) -> None:
        """A task or result came, went or changed its state."""
        self._moved = now

    def holding(self, tasks: int, now: float) -> None:
        """How many tasks and unacknowledged results are here now."""
        if tasks:
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = now

    def verdict(self, now: float) -> Verdict:
        """Whether it is time to leave, and for which reason."""
        if now >= self._moved + self._limits.hard_s:
            return "hard"
        if self._empty_since is not None and now >= self._soft_at(self._empty_since):
            return "soft"
        return "stay"

    def next_check(self) -> float:
        """The earliest time at which the verdict can change by itself; infinity when it cannot."""
        soft = math.inf if self._empty_since is None else self._soft_at(self._empty_since)
        return min(soft, self._moved + self._limits.hard_s)

    def _soft_at(self, empty_since: float) -> float:
        return max(empty_since, self._moved) + self._limits.soft_s
