"""User endpoints that keep ending at their start, and how long they are left alone. Pure."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

QUICK_S: Final = 30.0
"""Seconds of life below which an end is a failure to start."""
FREE: Final = 3
"""Failures in a row without a pause."""
FIRST_S: Final = 10.0
LAST_S: Final = 600.0
KEPT: Final = 1000


@dataclass
class Failures:
    """Failed starts in a row, by user endpoint id. From the third on each pause is twice the last.

    Whoever ends with status 0, or lives long enough, begins anew.
    """

    _known: OrderedDict[str, tuple[int, float]] = field(default_factory=OrderedDict)
    """How many, and until when it is left alone."""

    def ended(self, name: str, lived_s: float, status: int | None, now: float) -> None:
        """A user endpoint ended."""
        count, _ = self._known.pop(name, (0, 0.0))
        if lived_s >= QUICK_S or not status:
            return
        over = count + 1 - FREE
        pause = min(FIRST_S * 2.0**over, LAST_S) if over >= 0 else 0.0
        self._known[name] = (count + 1, now + pause)
        if len(self._known) > KEPT:
            self._known.popitem(last=False)

    def pause(self, name: str, now: float) -> float:
        """Seconds for which it is not started; 0 when it may be."""
        _, until = self._known.get(name, (0, 0.0))
        return max(0.0, until - now)
