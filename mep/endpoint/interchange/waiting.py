"""The queue of waiting tasks: in order within a task group, in turn over the groups. Pure."""

from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Waiting(Generic[T]):
    """Items by group; a group with a million of them holds up no other."""

    def __init__(self) -> None:
        self._groups: OrderedDict[str, deque[T]] = OrderedDict()

    def append(self, group: str, item: T) -> None:
        """Last of its group; a group that is new here comes last in turn."""
        queue = self._groups.get(group)
        if queue is None:
            queue = self._groups[group] = deque()
        queue.append(item)

    def put_back(self, group: str, item: T) -> None:
        """First of its group, and its group next in turn: it has waited before."""
        self._groups.setdefault(group, deque()).appendleft(item)
        self._groups.move_to_end(group, last=False)

    def peek(self) -> T | None:
        """What :meth:`pop` takes; None when nothing waits."""
        for queue in self._groups.values():
            return queue[0]
        return None

    def pop(self) -> T:
        """The first of the group whose turn it is; then it is the next group's turn.

        Raises:
            StopIteration: nothing waits.
        """
        group, queue = next(iter(self._groups.items()))
        item = queue.popleft()
        if not queue:
            del self._groups[group]
        elif len(self._groups) > 1:
            self._groups.move_to_end(group)
        return item

    def clear(self) -> list[T]:
        """Take everything out."""
        items = [item for queue in self._groups.values() for item in queue]
        self._groups.clear()
        return items
