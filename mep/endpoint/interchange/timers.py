"""What is due when. Pure: the time is an argument. A heap, so that idle peers cost nothing."""

import heapq
import math
from collections.abc import Iterator


class Timers:
    """Named points in time; a name has one, the latest that was set."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._due: dict[str, float] = {}
        self._looked_at: dict[str, float] = {}
        """When the heap brings a name up next; putting a name off leaves the heap alone."""

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, name: str, due: float) -> None:
        """Be told of `name` at `due`, and not before."""
        self._due[name] = due
        if self._looked_at.get(name, math.inf) > due:
            self._push(due, name)

    def clear(self, name: str) -> None:
        """Forget `name`."""
        self._due.pop(name, None)

    def expired(self, now: float) -> Iterator[str]:
        """The names that are due; each is forgotten by this."""
        while self._heap and self._heap[0][0] <= now:
            due, name = heapq.heappop(self._heap)
            if self._looked_at.get(name) != due:
                continue  # it was set to an earlier point after this one
            del self._looked_at[name]
            wanted = self._due.get(name)
            if wanted is not None and wanted > now:
                self._push(wanted, name)
            elif wanted is not None:
                del self._due[name]
                yield name

    def next(self) -> float | None:
        """When something is due next, at the earliest."""
        return self._heap[0][0] if self._heap else None

    def _push(self, due: float, name: str) -> None:
        self._looked_at[name] = due
        heapq.heappush(self._heap, (due, name))
