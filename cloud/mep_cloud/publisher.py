"""Who streams which task group right now."""

from collections.abc import Iterable
from typing import Final

from mep.wire.codec import Message
from mep.wire.tasks import StateChange
from mep.wire.to_sdk import Results, States
from mep_cloud.delivery.streams import Stream
from mep_cloud.outbox import Outbox
from mep_cloud.store.records import Delivered
from mep_cloud.store.tasks import Tasks

MAX_STATES: Final = 1000
"""State changes that wait for one slow reader; newer ones are dropped, they are only news."""


class Subscriber:
    """One SDK stream: results and state changes, a frame at a time, when the outbox has room."""

    def __init__(self, outbox: Outbox, tasks: Tasks) -> None:
        self.stream = Stream()
        self._outbox = outbox
        self._tasks = tasks
        self._states: list[StateChange] = []
        self._queued = False

    def wake(self) -> None:
        """There is something to send."""
        if not self._queued:
            self._queued = True
            self._outbox.put(self._next_frame)

    def news(self, changes: tuple[StateChange, ...]) -> None:
        """Tasks moved."""
        if len(self._states) < MAX_STATES:
            self._states.extend(changes)
            self.wake()

    async def _next_frame(self) -> Message | None:
        self._queued = False
        frame: Message | None = None
        if self._states:
            frame = States(tuple(self._states))
            self._states = []
        else:
            results = self.stream.take()
            wanted = None if results else self.stream.next_read()
            if wanted is not None:
                group_id, after = wanted
                batch, more = await self._tasks.unacknowledged(group_id, after)
                results = self.stream.read(group_id, batch, more=more)
            frame = Results(results) if results else None
        if self._states or self.stream.pending:
            self.wake()
        return frame


class Publisher:
    """Hands committed results and state changes to the streams of their group."""

    def __init__(self) -> None:
        self._groups: dict[str, set[Subscriber]] = {}
        self._last = 0
        """Place of the last result that was committed here."""
        self._passed: set[str] = set()
        """Groups that may have results before `_last` which this process has not heard of yet."""

    def subscribe(self, subscriber: Subscriber, group_id: str) -> None:
        """Stream this group, from what the store holds on."""
        subscriber.stream.subscribe(group_id)
        self._groups.setdefault(group_id, set()).add(subscriber)
        subscriber.wake()

    def groups(self) -> set[str]:
        """Groups that somebody streams here."""
        return set(self._groups)

    def unsubscribe(self, subscriber: Subscriber, group_ids: Iterable[str]) -> None:
        """Stop streaming these groups."""
        for group_id in list(group_ids):
            subscriber.stream.unsubscribe(group_id)
            subscribers = self._groups.get(group_id)
            if subscribers is not None:
                subscribers.discard(subscriber)
                if not subscribers:
                    del self._groups[group_id]
                    self._passed.discard(group_id)

    def result(self, group_id: str, delivered: Delivered) -> None:
        """A result was committed here."""
        if delivered.seq != self._last + 1:
            # Another process committed in between, perhaps to a group that is streamed here.
            self._passed.update(self._groups)
        self._last = delivered.seq
        if group_id in self._passed:
            # Its note may be on the way: this one must not pass by what is before it.
            self._passed.discard(group_id)
            self.elsewhere([group_id])
        for subscriber in self._groups.get(group_id, ()):
            subscriber.stream.publish(group_id, delivered)
            subscriber.wake()

    def elsewhere(self, group_ids: Iterable[str]) -> None:
        """Another process committed results of these groups."""
        for group_id in group_ids:
            for subscriber in self._groups.get(group_id, ()):
                subscriber.stream.refresh(group_id)
                subscriber.wake()

    def states(self, group_id: str, changes: tuple[StateChange, ...]) -> bool:
        """Tasks moved; whether somebody streams their group here."""
        subscribers = self._groups.get(group_id, ())
        for subscriber in subscribers:
            subscriber.news(changes)
        return bool(subscribers)
