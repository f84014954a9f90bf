"""What strangers and broken peers do to a socket: counted, and logged at a bounded rate."""

from collections.abc import Callable
from typing import Final

GARBAGE: Final = "a node pool sent something else than the protocol has"
"""A kind that several modules note."""

PERIOD_S: Final = 60.0
DETAIL: Final = 200
"""Characters of what a peer may put into the log."""


class Noise:
    """Events that are nobody's task and may come a thousand times a second.

    The first of a kind is logged at once, what follows once a minute with its count.

    Args:
        tell: logs one line.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._due: dict[str, float] = {}
        self._silent: dict[str, int] = {}
        self.count = 0
        """Of all kinds together."""

    def note(self, kind: str, detail: str, now: float) -> None:
        """It happened at monotonic time `now`; `kind` is one of few sentences of our own."""
        self.count += 1
        if now < self._due.get(kind, now):
            self._silent[kind] = self._silent.get(kind, 0) + 1
            return
        self._due[kind] = now + PERIOD_S
        silent = self._silent.pop(kind, 0)
        more = f" ({silent} more since this was last logged)" if silent else ""
        self._tell(f"{kind}: {detail[:DETAIL]!a}{more}")
