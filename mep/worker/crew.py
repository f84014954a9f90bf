"""Worker processes as the node pool sees them: who is idle, who runs what, how one ended."""

import os
import select
import socket
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from mep.wire.frames import FrameError, Piece, header, parse
from mep.worker.channel import Channel
from mep.worker.deadlines import Deadlines, out_of_time
from mep.worker.endings import cancelled, describe, tail
from mep.worker.execute import Outcome
from mep.worker.forkserver import Exit, ForkServer
from mep.worker.member import Member, Task
from mep.worker.poll import Poll
from mep.worker.untold import Untold

Ended = Callable[[Outcome], None]

DEPTH = 16
"""Quick tasks given to a worker at once."""
_QUICK_S = 0.001
_SLOW_S = 0.005
START_S = 0.005
"""A task that ends within this time is not told of before its end."""
_STILLBORN = 3
"""Workers in a row that ended before they began a task: then the next would too."""


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
        alone: a worker runs one task and is ended with all that it started, before anybody hears of
            the end of the task; what is left to end is asked to first.
        begun_file: descriptor of what workers note in, see :mod:`mep.worker.begun`; None: they do
            not.
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
        alone: bool = False,
        begun_file: Optional[int] = None,
    ) -> None:
        self._begun_file = begun_file
        self._alone = alone
        self._forks = forks
        self._poll = poll
        self._size = size
        self._log_prefix = log_prefix
        self._node = node
        self._deadlines = Deadlines(walltime_s)
        self._ended = ended
        self._spared = spared
        self._broken = broken
        self._workers: Dict[int, Member] = {}
        self._running: Dict[str, Member] = {}
        self._idle: Dict[Member, None] = {}
        """Those that have nothing to do, the longest first."""
        self._untold: Untold[Member] = Untold(START_S)
        self._free_numbers = list(range(size - 1, -1, -1))
        self._depth = 1
        self._stillborn = 0
        poll.add(forks.fileno(), self._on_exits)

    @property
    def running(self) -> int:
        """Tasks that workers have."""
        return len(self._running)

    @property
    def tasks(self) -> List[str]:
        """Their ids."""
        return list(self._running)

    @property
    def busy(self) -> bool:
        """Whether every worker has more to do after the task that it is at."""
        full = len(self._workers) == self._size and not self._idle
        return full and all(len(worker.tasks) > 1 for worker in self._workers.values())

    def room(self, wanted: int) -> int:
        """How many of so many tasks :meth:`start` may be given."""
        if wanted <= len(self._idle):
            return wanted
        if len(self._running) >= self._size * self._depth:
            return 0
        rooms = [worker.room(self._depth) for worker in self._workers.values()]
        return min(wanted, sum(rooms) + (self._size - len(self._workers)) * self._depth)

    def prepare(self) -> None:
        """Fork one worker ahead of the first task."""
        self._fork()

    def start(self, tasks: Sequence[Task], bodies: Mapping[str, Piece], now: float) -> None:
        """Hand tasks to workers at epoch time `now`, evenly; at most as many as there is room."""
        if len(tasks) <= len(self._idle):
            for idle, task in zip(list(self._idle), tasks):  # noqa: B905 - Python 3.9
                self._give(idle, [task], bodies, now)
            return
        open_ = [(worker.room(self._depth), worker) for worker in self._workers.values()]
        rooms: List[Tuple[int, Optional[Member]]] = [one for one in open_ if one[0]]
        rooms += [(self._depth, None)] * min(len(self._free_numbers), len(tasks))
        rooms.sort(key=lambda one: one[0], reverse=True)
        at = 0
        for count, (_, worker) in zip(shares([room for room, _ in rooms], len(tasks)), rooms):  # noqa: B905
            if count:
                self._give(worker or self._fork(), tasks[at : at + count], bodies, now)
                at += count

    def begun(self, now: float) -> List[List[Any]]:
        """The tasks that last, each told once: (id, worker, epoch s) each."""
        began = []
        for worker in self._untold.take(now):
            for task_id, given in worker.tasks.items():
                began.append([task_id, worker.number, given.at])
                break
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
        return len(self._running) > 1 and bool(self._idle)

    def cancel(self, task_id: str) -> None:
        """End the worker that runs this task, if one does; its outcome follows.

        Call :meth:`take_back` before: what has not begun needs no worker to end.
        """
        self._end(task_id, "cancelled")

    def due(self) -> float:
        """When :meth:`begun` or :meth:`expire` has something to do, in monotonic seconds."""
        return min(self._untold.due, self._deadlines.next)

    def expire(self, now: float) -> None:
        """End the workers whose task has had its walltime; the outcomes follow."""
        for task_id in self._deadlines.passed(now):
            self._end(task_id, "walltime")

    def _end(self, task_id: str, why: str) -> None:
        worker = self._running.get(task_id)
        if worker is not None:
            worker.ended_for = worker.ended_for or why
            self._finish(worker)

    def _finish(self, worker: Member) -> None:
        self._idle.pop(worker, None)
        if self._alone:
            self._forks.end(worker.number)
        else:
            self._forks.kill(worker.number)

    def close(self) -> None:
        """End all workers; returns when they have ended."""
        self._forks.close()

    def _give(
        self, worker: Member, tasks: Sequence[Task], bodies: Mapping[str, Piece], now: float
    ) -> None:
        if not worker.tasks:
            self._untold.begins(worker, time.monotonic())
        self._idle.pop(worker, None)
        for task in tasks:
            self._running[task.call.task_id] = worker
            self._deadlines.begin(task.call.task_id, task.call.spec.get("walltime"))
        if not worker.give(tasks, bodies, now):
            self._poll.want_write(worker.channel.socket.fileno(), True)

    def _take_back_from(self, worker: Member) -> List[Task]:
        back = worker.take_back()
        for task in back:
            del self._running[task.call.task_id]
            self._deadlines.end(task.call.task_id)
        self._see_whether_idle(worker)
        return back

    def _see_whether_idle(self, worker: Member) -> None:
        if not worker.tasks and worker.listening and not worker.ended_for:
            self._idle[worker] = None

    def _fork(self) -> Member:
        number = self._free_numbers.pop()
        path = "%s-%d.log" % (self._log_prefix, number)
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        worker = Member(number, Channel(ours), path, os.fstat(log).st_size)
        descriptors = [worker.tickets.reader]
        if self._begun_file is not None:
            descriptors.append(self._begun_file)
        worker.channel.pass_descriptors(header("hello", number), descriptors)
        worker.tickets.handed_over()
        self._forks.spawn(number, theirs, log)
        os.close(log)
        self._workers[number] = worker
        self._idle[worker] = None
        self._poll.add(ours.fileno(), lambda events: self._on_channel(worker, events))
        return worker

    def _on_channel(self, worker: Member, events: int) -> None:
        if events & select.EPOLLOUT and worker.channel.flush():
            self._poll.want_write(worker.channel.socket.fileno(), False)
        if events & ~select.EPOLLOUT:
            self._read(worker)

    def _read(self, worker: Member) -> None:
        """Take what the worker has said; one that says nonsense, or no more, is ended."""
        try:
            alive = worker.channel.fill()
            while (taken := worker.channel.take()) is not None:
                self._on_result(worker, parse(taken[0])[1], taken[1])
        except BlockingIOError:
            return
        except FrameError:
            alive = False
        if not alive:
            self._deafen(worker)
            self._forks.drop(worker.number)

    def _deafen(self, worker: Member) -> None:
        if worker.listening:
            worker.listening = False
            self._idle.pop(worker, None)
            self._poll.remove(worker.channel.socket.fileno())

    def _on_result(self, worker: Member, fields: List[Any], payload: Piece) -> None:
        if self._alone:
            self._on_last_result(worker, fields, payload)
            return
        worker.ends(fields)
        self._stillborn = 0
        del self._running[fields[0]]
        self._deadlines.end(fields[0])
        if worker.tasks:
            self._untold.begins(worker, time.monotonic())
        else:
            self._untold.ends(worker)
            self._see_whether_idle(worker)
        self._learn(fields[6] - fields[5])
        self._ended((fields, payload))

    def _on_last_result(self, worker: Member, fields: List[Any], payload: Piece) -> None:
        """The only one of this worker; of one that is being ended nobody wants it any more."""
        if worker.ended_for:
            return
        worker.ends(fields)
        self._stillborn = 0
        self._deadlines.end(fields[0])
        worker.ended_for = "done"
        worker.last = (fields, payload)
        self._finish(worker)

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
            self._broken(self._forks.why())
            return
        for end in exits:
            self._bury(self._workers.pop(end.number), end)

    def _bury(self, worker: Member, end: Exit) -> None:
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
                while (taken := worker.channel.take()) is not None:
                    self._on_result(worker, parse(taken[0])[1], taken[1])
            except FrameError:
                pass  # its last words were cut off
        self._part(worker, end)
        worker.close()
        self._free_numbers.append(worker.number)
        self._untold.ends(worker)
        if worker.last is not None:
            del self._running[worker.last[0][0]]
            self._ended(worker.last)
            self._fork()
        for task_id, given in worker.tasks.items():
            del self._running[task_id]
            self._ended(self._loss(worker, task_id, given.at, end))
            self._deadlines.end(task_id)

    def _part(self, worker: Member, end: Exit) -> None:
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
            self._ended(self._loss(worker, task.call.task_id, 0.0, end))

    def _loss(self, worker: Member, task_id: str, began: float, end: Exit) -> Outcome:
        if worker.ended_for == "cancelled":
            return cancelled(task_id, began)
        if worker.ended_for == "walltime":
            words = self._deadlines.words(task_id)
            return out_of_time(task_id, began, words, tail(worker.log, worker.log_at))
        text = "The worker process that ran this task on node %s %s." % (
            self._node,
            describe(end.status, end.cause),
        )
        return [
            task_id,
            "failed",
            "WORKER_LOST",
            text,
            tail(worker.log, worker.log_at),
            began,
            time.time(),
        ], b""


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
