"""One SDK stream: which results of which task groups it has been sent, in bounded memory.

Results are on disk, so a stream need not hold what its reader is too slow for: a group that
overflows goes back to being read from the store, from where it was left.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from mep.wire import limits
from mep.wire.tasks import Result
from mep_cloud.store.records import Delivered

WINDOW_BYTES: Final = 2 * limits.BATCH_BYTES
"""Live results that wait in memory for one stream."""
WINDOW_RESULTS: Final = 4 * limits.BATCH_TASKS


@dataclass(slots=True)
class _Group:
    cursor: int = 0
    """Everything committed up to here is sent, or queued."""
    stale: bool = True
    """The store may hold results behind the cursor: read them before taking live ones."""
    reading: bool = False
    missed: bool = False
    """A result was committed while the store was being read."""


@dataclass(slots=True)
class Stream:
    """What one connection is to be sent next."""

    groups: dict[str, _Group] = field(default_factory=dict)
    _queue: deque[tuple[str, Result]] = field(default_factory=deque)
    _bytes: int = 0

    @property
    def pending(self) -> bool:
        """Whether something is to be sent, or may be once the store is read."""
        return bool(self._queue) or any(group.stale for group in self.groups.values())

    def subscribe(self, group_id: str) -> None:
        """Stream this group: first what the store holds, then live."""
        self.groups.setdefault(group_id, _Group())

    def unsubscribe(self, group_id: str) -> None:
        """Send nothing more of this group."""
        if self.groups.pop(group_id, None) is not None:
            kept = [item for item in self._queue if item[0] != group_id]
            self._queue = deque(kept)
            self._bytes = sum(len(result.payload) for _, result in kept)

    def refresh(self, group_id: str) -> None:
        """The store may hold results that were not published here: read it again."""
        group = self.groups.get(group_id)
        if group is None:
            return
        if group.reading:
            group.missed = True
        else:
            group.stale = True

    def publish(self, group_id: str, delivered: Delivered) -> None:
        """A result was committed."""
        group = self.groups.get(group_id)
        if group is None:
            return
        if group.reading:
            group.missed = True
        elif not group.stale and delivered.seq > group.cursor:
            self._push(group_id, group, delivered)

    def _push(self, group_id: str, group: _Group, delivered: Delivered) -> None:
        size = len(delivered.result.payload)
        full = len(self._queue) >= WINDOW_RESULTS or self._bytes + size > WINDOW_BYTES
        if full and self._queue:
            group.stale = True
            return
        self._queue.append((group_id, delivered.result))
        self._bytes += size
        group.cursor = delivered.seq

    def take(self) -> tuple[Result, ...]:
        """The next frame of live results; empty when there is none."""
        batch: list[Result] = []
        size = 0
        while self._queue and len(batch) < limits.BATCH_TASKS:
            length = len(self._queue[0][1].payload)
            if batch and size + length > limits.BATCH_BYTES:
                break
            batch.append(self._queue.popleft()[1])
            size += length
        self._bytes -= size
        return tuple(batch)

    def next_read(self) -> tuple[str, int] | None:
        """A group that must be read from the store, and after which result; None: none must.

        Follow it by :meth:`read` with what the store answered.
        """
        for group_id, group in self.groups.items():
            if group.stale:
                group.reading, group.missed = True, False
                return group_id, group.cursor
        return None

    def read(self, group_id: str, batch: list[Delivered], *, more: bool) -> tuple[Result, ...]:
        """The store answered; returns what is to be sent, before anything else of this group."""
        group = self.groups.get(group_id)
        if group is None:
            return ()
        group.reading = False
        group.stale = more or group.missed
        if batch:
            group.cursor = batch[-1].seq
        return tuple(delivered.result for delivered in batch)
