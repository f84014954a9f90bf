"""Worker processes as the node pool sees them: who is idle, who runs what, how one ended."""

import os
import select
import signal
import socket
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, List

from mep.wire.frames import FrameError, header
from mep.worker.channel import Channel
from mep.worker.command import CANNOT_START
from mep.worker.deadlines import Deadlines, out_of_time
from mep.worker.execute import Call, Outcome
from mep.worker.forkserver import ForkServer
from mep.worker.recent import Recent
from mep.worker.worker import CANNOT_SPEAK

Ended = Callable[[Outcome], None]
LOG_TAIL = 4096


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
        self.known: Recent[bool] = Recent()
        self.task_id = ""
        self.began = 0.0
        self.ended_for = ""
        self.listening = True


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
        broken: Callable[[str], None],
    ) -> None:
        self._forks = forks
        self._poll = poll
        self._size = size
        self._log_prefix = log_prefix
        self._node = node
        self._deadlines = Deadlines(walltime_s)
        self._ended = ended
        self._broken = broken
        self._workers: Dict[int, _Worker] = {}
        self._running: Dict[str, _Worker] = {}
        self._idle: Deque[_Worker] = deque()
        self._free_numbers = list(range(size - 1, -1, -1))
        poll.add(forks.fileno(), self._on_exits)

    @property
    def running(self) -> int:
        """Tasks that workers have."""
        return len(self._running)

    def ready(self) -> bool:
        """Whether :meth:`start` may be called."""
        return bool(self._idle) or len(self._workers) < self._size

    def prepare(self) -> None:
        """Fork one worker ahead of the first task."""
        self._idle.append(self._fork())

    def start(self, call: Call, body: bytes, now: float) -> int:
        """Hand a task to an idle worker at epoch time `now`, and return the worker's number."""
        worker = self._idle.pop() if self._idle else self._fork()
        worker.task_id = call.task_id
        worker.began = now
        worker.ended_for = ""
        self._running[call.task_id] = worker
        self._deadlines.begin(call.task_id)
        if not worker.known.touch(call.function_id):
            worker.known.put(call.function_id, True)
            worker.channel.send(header("function", call.function_id), body)
        head = header("task", call.task_id, call.function_id, call.spec)
        if not worker.channel.send(head, call.arguments):
            self._poll.want_write(worker.channel.socket.fileno(), True)
        return worker.number

    def cancel(self, task_id: str) -> None:
        """End the worker that runs this task, if one does; its outcome follows."""
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

    def _fork(self) -> _Worker:
        number = self._free_numbers.pop()
        path = "%s-%d.log" % (self._log_prefix, number)
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        worker = _Worker(number, Channel(ours), path)
        worker.log_at = os.fstat(log).st_size
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
        if not fields or fields[0] != worker.task_id:
            raise FrameError("a result of a task that this worker does not have")
        del self._running[worker.task_id]
        self._deadlines.end(worker.task_id)
        worker.task_id = ""
        if not worker.ended_for:
            self._idle.append(worker)
        self._ended((fields, payload))

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
        worker.channel.close()
        self._free_numbers.append(worker.number)
        if worker in self._idle:
            self._idle.remove(worker)
        if worker.task_id:
            del self._running[worker.task_id]
            self._deadlines.end(worker.task_id)
            self._ended(self._loss(worker, status))

    def _loss(self, worker: _Worker, status: int) -> Outcome:
        if worker.ended_for == "cancelled":
            return cancelled(worker.task_id, worker.began)
        if worker.ended_for == "walltime":
            tail = _tail(worker)
            return out_of_time(worker.task_id, worker.began, self._deadlines.walltime_s, tail)
        text = "The worker process that ran this task on node %s %s." % (
            self._node,
            describe(status),
        )
        head = [worker.task_id, "failed", "WORKER_LOST", text, _tail(worker)]
        return [*head, worker.began, time.time()], b""


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
