"""One worker as its node pool sees it: what it has been given, in order."""

from collections import OrderedDict
from typing import Any, List, Mapping, NamedTuple, Optional, Sequence

from mep.wire.frames import FrameError, Piece, header
from mep.worker.channel import Channel
from mep.worker.execute import Call, Outcome
from mep.worker.recent import Recent
from mep.worker.tickets import Tickets

_RESULT_FIELDS = 7


class Task(NamedTuple):
    """One task as the crew gets it."""

    place: int
    """Of all tasks of the node pool, in the order in which they came."""
    call: Call


class Given(NamedTuple):
    """A task that a worker has."""

    number: int
    """Its ticket, see :mod:`mep.worker.tickets`."""
    task: Task
    at: float
    """Epoch seconds."""


class Member:
    """A worker process from its start to its end.

    Args:
        number: of the worker, on this node.
        channel: the pool's end.
        log: path of the file that it writes to.
        log_at: where in that file what it writes begins.
    """

    def __init__(self, number: int, channel: Channel, log: str, log_at: int) -> None:
        self.number = number
        self.channel = channel
        self.log = log
        self.log_at = log_at
        self.tickets = Tickets()
        self.known: Recent[bool] = Recent()
        self.numbers = 0
        self.results = 0
        self.tasks: "OrderedDict[str, Given]" = OrderedDict()
        """What it has been given and has not ended, in order; only the first may have begun."""
        self.ended_for = ""
        """Why it was ended on purpose: ``cancelled``, ``walltime`` or ``done``."""
        self.listening = True
        self.last: Optional[Outcome] = None
        """The outcome that is told when it has ended."""

    def room(self, depth: int) -> int:
        """How many tasks to give it, where `depth` is what it shall have at most.

        Few large messages instead of many small ones: nothing until half has been done.
        """
        have = len(self.tasks)
        gone = self.ended_for or not self.listening
        return 0 if gone or have > depth // 2 else depth - have

    def give(self, tasks: Sequence[Task], bodies: Mapping[str, Piece], now: float) -> bool:
        """Send it these tasks, before them the functions that it lacks; True when all has left."""
        first = self.numbers
        self.numbers += len(tasks)
        items = []
        for number, task in enumerate(tasks, first):
            call = task.call
            if not self.known.touch(call.function_id):
                self.known.put(call.function_id, True)
                body = bodies.get(call.function_id, b"")
                self.channel.send(header("function", call.function_id), body)
            self.tasks[call.task_id] = Given(number, task, now)
            items.append((call.task_id, call.function_id, call.spec, len(call.arguments)))
        arguments = [task.call.arguments for task in tasks]
        left = self.channel.send(header("tasks", first, items), *arguments)
        self.tickets.issue(first, [task.place for task in tasks])
        return left

    def take_back(self) -> List[Task]:
        """The tasks that it has not begun; it will not begin them."""
        numbers = self.tickets.take_back()
        back = [given.task for given in self.tasks.values() if given.number in numbers]
        for task in back:
            del self.tasks[task.call.task_id]
        return back

    def ends(self, fields: List[Any]) -> None:
        """Note the end of the task that it has had longest, as it says.

        Raises:
            FrameError: it does not have that task.
        """
        task_id = next(iter(self.tasks), None)
        if not fields or fields[0] != task_id or len(fields) != _RESULT_FIELDS:
            raise FrameError("a result of a task that this worker does not have")
        self.results += 1
        del self.tasks[fields[0]]

    def close(self) -> None:
        """Give its descriptors back; it has ended."""
        self.channel.close()
        self.tickets.close()
