"""Which of the staged runtimes nobody needs any more. Pure."""

from collections.abc import Mapping
from typing import Final

DAY_S: Final = 24 * 3600.0
LONG_S: Final = 30 * DAY_S
"""Longer than any job runs: a node pool uses the runtime that it was started from to its end."""
KEPT: Final = 3
"""As many are kept of those that were used within LONG_S, beside those used within a day."""


def unused(used: Mapping[str, float], now: float) -> list[str]:
    """The names of those that go.

    Args:
        used: by name, when an endpoint last started a block from it; epoch seconds.
        now: the same clock.
    """
    idle = sorted((name for name in used if now - used[name] > DAY_S), key=lambda name: -used[name])
    return [name for place, name in enumerate(idle) if place >= KEPT or now - used[name] > LONG_S]
