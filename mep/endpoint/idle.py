"""When a user endpoint leaves: a pure clock (the time is an argument), and a timer around it."""

import asyncio
import math
import time
from collections.abc import Callable
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


class IdleTimer:
    """An :class:`IdleWatch` on the running event loop, woken when its verdict can change.

    Args:
        limits: when.
        again_s: how often `soft` is repeated while the endpoint stays idle.
        soft: called when nothing is here.
        hard: called once when nothing moves any more.
    """

    def __init__(
        self,
        limits: IdleLimits,
        again_s: float,
        soft: Callable[[], None],
        hard: Callable[[], None],
    ) -> None:
        self._watch = IdleWatch(limits, time.monotonic())
        self._again_s = again_s
        self._soft = soft
        self._hard = hard
        self._timer: asyncio.TimerHandle | None = None

    def moved(self) -> None:
        """A task or result came, went or changed its state."""
        self._watch.moved(time.monotonic())

    def holding(self, tasks: int) -> None:
        """How many tasks and unacknowledged results are here now."""
        self._watch.holding(tasks, time.monotonic())
        self._wake_at(self._watch.next_check())

    def cancel(self) -> None:
        """No more calls."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake_at(self, at: float) -> None:
        """Be woken at `at`, or earlier: an early look does no harm."""
        if self._timer is not None and self._timer.when() <= at:
            return
        self.cancel()
        if not math.isinf(at):
            # loop.time() and time.monotonic() are one clock (asyncio.BaseEventLoop.time).
            self._timer = asyncio.get_running_loop().call_at(at, self._look)

    def _look(self) -> None:
        self._timer = None
        now = time.monotonic()
        match self._watch.verdict(now):
            case "stay":
                self._wake_at(self._watch.next_check())
            case "soft":
                self._soft()
                self._wake_at(now + self._again_s)
            case "hard":
                self._hard()
