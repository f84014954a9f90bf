"""How long to wait before trying again. Pure."""

from dataclasses import dataclass


@dataclass
class Backoff:
    """Doubles from `first` to `last` seconds, until :meth:`reset`."""

    first: float
    last: float
    _next: float = 0.0

    def wait(self) -> float:
        """Seconds to wait this time."""
        seconds = max(self._next, self.first)
        self._next = min(seconds * 2, self.last)
        return seconds

    def reset(self) -> None:
        """It worked: begin at the first again."""
        self._next = 0.0
