"""The queue of waiting tasks: by priority; within one, in turn over the task groups. Pure."""

import math
from bisect import insort
from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")

LAST = math.inf
"""The priority of an item that has none: after all that have one, as in Parsl."""


class _Turns(Generic[T]):
    """Items of one priority, by group: in order within a group, in turn over the groups."""

    def __init__(self) -> None:
        self.groups: OrderedDict[str, deque[T]] = OrderedDict()

    def append(self, group: str, item: T) -> None:
        queue = self.groups.get(group)
        if queue is None:
            queue = self.groups[group] = deque()
        queue.append(item)

    def put_back(self, group: str, item: T) -> None:
        self.groups.setdefault(group, deque()).appendleft(item)
        self.groups.move_to_end(group, last=False)

    def peek(self) -> T:
        return next(iter(self.groups.values()))[0]

    def pop(self) -> T:
        group, queue = next(iter(self.groups.items()))
        item = queue.popleft()
        if not queue:
            del self.groups[group]
        elif len(self.groups) > 1:
            self.groups.move_to_end(group)
        return item


class Waiting(Generic[T]):
    """Items by priority, lower numbers first, and by group.

    A group with a million items holds up no other of the same priority.
    """

    def __init__(self) -> None:
        self._turns: dict[float, _Turns[T]] = {}
        self._order: list[float] = []
        """The priorities of what waits."""

    def append(self, group: str, item: T, priority: float = LAST) -> None:
        """Last of its group; a group that is new here comes last in turn."""
        self._at(priority).append(group, item)

    def put_back(self, group: str, item: T, priority: float = LAST) -> None:
        """First of its group, and its group next in turn: it has waited before."""
        self._at(priority).put_back(group, item)

    def peek(self) -> T | None:
        """What :meth:`pop` takes; None when nothing waits."""
        return self._turns[self._order[0]].peek() if self._order else None

    def pop(self) -> T:
        """The first of the group whose turn it is; then it is the next group's turn.

        Raises:
            IndexError: nothing waits.
        """
        priority = self._order[0]
        turns = self._turns[priority]
        item = turns.pop()
        if not turns.groups:
            del self._turns[priority], self._order[0]
        return item

    def clear(self) -> list[T]:
        """Take everything out, in the order of :meth:`pop` but for the turns of groups."""
        queues = [q for priority in self._order for q in self._turns[priority].groups.values()]
        self._turns.clear()
        self._order.clear()
        return [item for queue in queues for item in queue]

    def _at(self, priority: float) -> _Turns[T]:
        turns = self._turns.get(priority)
        if turns is None:
            turns = self._turns[priority] = _Turns()
            insort(self._order, priority)
        return turns
