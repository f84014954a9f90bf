"""Worker processes as the node pool sees them: who is idle, who runs what, how one ended."""

import os
import select
import signal
import socket
import time
from collections import OrderedDict
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from mep.wire.frames import FrameError, header
from mep.worker.channel import Channel
from mep.worker.command import CANNOT_START
from mep.worker.deadlines import Deadlines, out_of_time
from mep.worker.execute import Call, Outcome
from mep.worker.forkserver import ForkServer
from mep.worker.recent import Recent
from mep.worker.tickets import Tickets
from mep.worker.worker import CANNOT_SPEAK

Ended = Callable[[Outcome], None]
LOG_TAIL = 4096
_RESULT_FIELDS = 7


DEPTH = 16
"""Quick tasks given to a worker at once."""
_QUICK_S = 0.001
_SLOW_S = 0.005
_STILLBORN = 3
"""Workers in a row that ended before they began a task: then the next would too."""


class Task(NamedTuple):
    """One task as the crew gets it."""

    place: int
    """Of all tasks of the node pool, in the order in which they came."""
    call: Call


class Poll:
    """An epoll whose descriptors each have a function to call."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._calls: Dict[int, Callable[[int], None]] = {}

    def add(self, descriptor: int, call: Callable[[int], None]) -> None:
        """Call with the event mask whenever it is readable."""
        self._calls[descriptor] = call
        self._epoll.register(descriptor, select.EPOLLIN)

    def want_write(self, descriptor: int, wanted: bool) -> None:
        """Also, or no longer, when it is writable."""
        self._epoll.modify(descriptor, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def remove(self, descriptor: int) -> None:
        """Forget it; before it is closed."""
        self._epoll.unregister(descriptor)
        del self._calls[descriptor]

    def wait(self, timeout_s: float) -> None:
        """Wait, then call for each descriptor that is ready."""
        for descriptor, events in self._epoll.poll(timeout_s):
            call = self._calls.get(descriptor)
            if call is not None:
                call(events)


class _Worker:
    def __init__(self, number: int, channel: Channel, log: str) -> None:
        self.number = number
        self.channel = channel
        self.log = log
        self.log_at = 0
        self.tickets = Tickets()
        self.known: Recent[bool] = Recent()
        self.numbers = 0
        self.results = 0
        self.tasks: "OrderedDict[str, _Given]" = OrderedDict()
        """What it has been given and has not ended, in order; only the first may have begun."""
        self.ended_for = ""
        self.listening = True


class _Given(NamedTuple):
    number: int
    task: Task
    at: float


class Crew:
    """Up to `size` workers, forked when there is work for them.

    Args:
        forks: the fork server.
        poll: where the workers' channels are listened to.
        size: workers at most.
        log_prefix: path of the workers' logs, without number and suffix.
        node: name of this node, for messages.
        walltime_s: what a task may take; 0: any time.
        ended: told the outcome of each task, once.
        spared: told the tasks that had not begun when their worker ended.
        broken: told when no worker can be forked any more.
    """

    def __init__(
        self,
        forks: ForkServer,
        poll: Poll,
        size: int,
        log_prefix: str,
        node: str,
        walltime_s: float,
        ended: Ended,
        spared: Callable[[List[Task]], None],
        broken: Callable[[str], None],
    ) -> None:
        self._forks = forks
        self._poll = poll
        self._size = size
        self._log_prefix = log_prefix
        self._node = node
        self._deadlines = Deadlines(walltime_s)
        self._ended = ended
        self._spared = spared
        self._broken = broken
        self._workers: Dict[int, _Worker] = {}
        self._running: Dict[str, _Worker] = {}
        self._begun: Set[_Worker] = set()
        self._free_numbers = list(range(size - 1, -1, -1))
        self._depth = 1
        self._stillborn = 0
        poll.add(forks.fileno(), self._on_exits)

    @property
    def running(self) -> int:
        """Tasks that workers have."""
        return len(self._running)

    @property
    def busy(self) -> bool:
        """Whether every worker has more to do after the task that it is at."""
        return len(self._workers) == self._size and all(
            len(worker.tasks) > 1 for worker in self._workers.values()
        )

    @property
    def has_begun(self) -> bool:
        """Whether :meth:`begun` has something to say."""
        return bool(self._begun)

    def room(self) -> int:
        """How many tasks :meth:`start` may be given."""
        if len(self._running) >= self._size * self._depth:
            return 0
        rooms = [self._room_at(worker) for worker in self._workers.values()]
        return sum(rooms) + (self._size - len(self._workers)) * self._depth

    def prepare(self) -> None:
        """Fork one worker ahead of the first task."""
        self._fork()

    def start(self, tasks: Sequence[Task], bodies: Mapping[str, bytes], now: float) -> None:
        """Hand tasks to workers at epoch time `now`, evenly; at most as many as there is room."""
        open_ = [(self._room_at(worker), worker) for worker in self._workers.values()]
        rooms: List[Tuple[int, Optional[_Worker]]] = [one for one in open_ if one[0]]
        rooms += [(self._depth, None)] * min(len(self._free_numbers), len(tasks))
        rooms.sort(key=lambda one: one[0], reverse=True)
        at = 0
        for count, (_, worker) in zip(shares([room for room, _ in rooms], len(tasks)), rooms):  # noqa: B905
            if count:
                self._give(worker or self._fork(), tasks[at : at + count], bodies, now)
                at += count

    def begun(self) -> List[List[Any]]:
        """The tasks that workers have come to since the last call: (id, worker, epoch s) each."""
        began = []
        for worker in self._begun:
            for task_id, given in worker.tasks.items():
                began.append([task_id, worker.number, given.at])
                break
        self._begun.clear()
        return began

    def take_back(self) -> List[Task]:
        """Take the tasks that have not begun away from their workers; in order."""
        back: List[Task] = []
        for worker in self._workers.values():
            if len(worker.tasks) > 1:
                back += self._take_back_from(worker)
        return sorted(back)

    def idle_beside_work(self) -> bool:
        """Whether a worker has nothing to do while tasks lie behind another's."""
        return len(self._running) > 1 and any(not w.tasks for w in self._workers.values())

    def cancel(self, task_id: str) -> None:
        """End the worker that runs this task, if one does; its outcome follows.

        Call :meth:`take_back` before: what has not begun needs no worker to end.
        """
        self._end(task_id, "cancelled")

    def due(self) -> float:
        """When :meth:`expire` has something to do, in monotonic seconds."""
        return self._deadlines.next

    def expire(self, now: float) -> None:
        """End the workers whose task has had its walltime; the outcomes follow."""
        for task_id in self._deadlines.passed(now):
            self._end(task_id, "walltime")

    def _end(self, task_id: str, why: str) -> None:
        worker = self._running.get(task_id)
        if worker is not None:
            worker.ended_for = worker.ended_for or why
            self._forks.kill(worker.number)

    def close(self) -> None:
        """End all workers; returns when they have ended."""
        self._forks.close()

    def _room_at(self, worker: _Worker) -> int:
        """Few large messages instead of many small ones: nothing until half has been done."""
        have = len(worker.tasks)
        gone = worker.ended_for or not worker.listening
        return 0 if gone or have > self._depth // 2 else self._depth - have

    def _give(
        self, worker: _Worker, tasks: Sequence[Task], bodies: Mapping[str, bytes], now: float
    ) -> None:
        if not worker.tasks:
            self._begun.add(worker)
        first = worker.numbers
        worker.numbers += len(tasks)
        items = []
        for number, task in enumerate(tasks, first):
            call = task.call
            if not worker.known.touch(call.function_id):
                worker.known.put(call.function_id, True)
                body = bodies.get(call.function_id, b"")
                worker.channel.send(header("function", call.function_id), body)
            worker.tasks[call.task_id] = _Given(number, task, now)
            self._running[call.task_id] = worker
            self._deadlines.begin(call.task_id)
            items.append((call.task_id, call.function_id, call.spec, len(call.arguments)))
        payload = tasks[0].call.arguments if len(tasks) == 1 else _joined(tasks)
        if not worker.channel.send(header("tasks", first, items), payload):
            self._poll.want_write(worker.channel.socket.fileno(), True)
        worker.tickets.issue(range(first, worker.numbers))

    def _take_back_from(self, worker: _Worker) -> List[Task]:
        numbers = worker.tickets.take_back()
        back = [given.task for given in worker.tasks.values() if given.number in numbers]
        for task in back:
            del worker.tasks[task.call.task_id]
            del self._running[task.call.task_id]
            self._deadlines.end(task.call.task_id)
        return back

    def _fork(self) -> _Worker:
        number = self._free_numbers.pop()
        path = "%s-%d.log" % (self._log_prefix, number)
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        worker = _Worker(number, Channel(ours), path)
        worker.log_at = os.fstat(log).st_size
        worker.channel.pass_descriptor(header("hello"), worker.tickets.reader)
        worker.tickets.handed_over()
        self._forks.spawn(number, theirs, log)
        os.close(log)
        self._workers[number] = worker
        self._poll.add(ours.fileno(), lambda events: self._on_channel(worker, events))
        return worker

    def _on_channel(self, worker: _Worker, events: int) -> None:
        if events & select.EPOLLOUT and worker.channel.flush():
            self._poll.want_write(worker.channel.socket.fileno(), False)
        if events & ~select.EPOLLOUT:
            self._read(worker)

    def _read(self, worker: _Worker) -> None:
        """Take what the worker has said; one that says nonsense, or no more, is ended."""
        try:
            alive = worker.channel.fill()
            for message in worker.channel.messages():
                self._on_result(worker, message.fields, message.payload)
        except BlockingIOError:
            return
        except FrameError:
            alive = False
        if not alive:
            self._deafen(worker)
            self._forks.kill(worker.number)

    def _deafen(self, worker: _Worker) -> None:
        if worker.listening:
            worker.listening = False
            self._poll.remove(worker.channel.socket.fileno())

    def _on_result(self, worker: _Worker, fields: List[Any], payload: bytes) -> None:
        task_id = next(iter(worker.tasks), None)
        if not fields or fields[0] != task_id or len(fields) != _RESULT_FIELDS:
            raise FrameError("a result of a task that this worker does not have")
        self._stillborn = 0
        worker.results += 1
        del worker.tasks[fields[0]]
        del self._running[fields[0]]
        self._deadlines.end(fields[0])
        if worker.tasks:
            self._begun.add(worker)
        self._learn(fields[6] - fields[5])
        self._ended((fields, payload))

    def _learn(self, took_s: float) -> None:
        """Many quick tasks lie at a worker at once, long ones never behind another.

        With a walltime one at a time: it is counted from when a worker is given a task.
        """
        if took_s > _SLOW_S or self._deadlines.walltime_s:
            self._depth = 1
        elif took_s < _QUICK_S and self._depth < DEPTH:
            self._depth += 1

    def _on_exits(self, _events: int) -> None:
        exits = self._forks.exits()
        if exits is None:
            self._poll.remove(self._forks.fileno())
            self._broken("the fork server of its workers ended")
            return
        for number, status in exits:
            self._bury(self._workers.pop(number), status)

    def _bury(self, worker: _Worker, status: int) -> None:
        """A worker has ended: what it said before still counts; then its task ends here."""
        while worker.listening:
            try:
                if not worker.channel.fill():
                    break
            except BlockingIOError:
                break
        if worker.listening:
            self._deafen(worker)
            try:
                for message in worker.channel.messages():
                    self._on_result(worker, message.fields, message.payload)
            except FrameError:
                pass  # its last words were cut off
        self._part(worker, status)
        worker.channel.close()
        worker.tickets.close()
        self._free_numbers.append(worker.number)
        self._begun.discard(worker)
        for task_id, given in worker.tasks.items():
            del self._running[task_id]
            self._deadlines.end(task_id)
            self._ended(self._loss(worker, task_id, given.at, status))

    def _part(self, worker: _Worker, status: int) -> None:
        """Tasks that had not begun go to other workers, unless none seems able to begin any.

        Of a worker that was ended on purpose it is the one task that this was for.
        """
        back = self._take_back_from(worker)
        if not worker.ended_for:
            alive = not back or worker.tasks or worker.results
            self._stillborn += 0 if alive else 1
            if alive or self._stillborn < _STILLBORN:
                self._spared(back)
                return
        for task in back:
            self._ended(self._loss(worker, task.call.task_id, 0.0, status))

    def _loss(self, worker: _Worker, task_id: str, began: float, status: int) -> Outcome:
        if worker.ended_for == "cancelled":
            return cancelled(task_id, began)
        if worker.ended_for == "walltime":
            return out_of_time(task_id, began, self._deadlines.walltime_s, _tail(worker))
        text = "The worker process that ran this task on node %s %s." % (
            self._node,
            describe(status),
        )
        return [task_id, "failed", "WORKER_LOST", text, _tail(worker), began, time.time()], b""


def shares(rooms: Sequence[int], count: int) -> List[int]:
    """How many of `count` things go where there is so much room: evenly, the first first."""
    given = [0] * len(rooms)
    while count > 0:
        even = -(-count // len(rooms))
        for at, room in enumerate(rooms):
            more = min(even, room - given[at], count)
            given[at] += more
            count -= more
    return given


def _joined(tasks: Sequence[Task]) -> bytes:
    return b"".join([task.call.arguments for task in tasks])


def cancelled(task_id: str, began: float) -> Outcome:
    """The outcome of a task that was cancelled; `began` is 0 when no worker had it."""
    return [
        task_id,
        "cancelled",
        "CANCELLED",
        "The task was cancelled.",
        "",
        began,
        time.time(),
    ], b""


def describe(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        words = "was ended by signal %d (%s)" % (number, signal_name(number))
        if number == signal.SIGKILL:
            words += ", as the kernel does when memory runs out"
        return words
    code = os.WEXITSTATUS(status)
    if code == CANNOT_SPEAK:
        return "ended because the function closed the worker's own descriptors"
    if code == CANNOT_START:
        return "could not be started; the end of its output says why"
    return "exited with status %d before the function returned" % code


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return "real-time signal"


def _tail(worker: _Worker) -> str:
    """The last of what this worker wrote to its log."""
    try:
        with open(worker.log, "rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(worker.log_at, end - LOG_TAIL))
            return log.read(LOG_TAIL).decode("utf-8", "replace")
    except OSError:
        return ""
