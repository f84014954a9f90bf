"""The node pool: a DEALER to the interchange on one side, workers on the other.

Single threaded but for zmq's own thread. Everything that a turn of the loop produced leaves in one
message a kind. Tasks are handed to workers in the order in which they came, and counted in a
file before each hand-over (:mod:`mep.worker.begun`), so that whoever survives this process knows
exactly which tasks a worker may have seen.
"""

import math
import os
import signal
import socket
import sys
import time
from collections import deque
from typing import Any, Deque, Dict, List, NamedTuple, Optional, Union

import zmq

from mep.wire.frames import FrameError, header, hello, parse
from mep.worker.begun import Begun
from mep.worker.crew import Crew, Poll, Task, cancelled
from mep.worker.execute import Call, Outcome, Terms
from mep.worker.forkserver import ForkServer
from mep.worker.threads import ThreadCrew
from mep.worker.worker import open_user_path

_COPY_BELOW = 64 * 1024
_READABLE = int(zmq.POLLIN)
_MORE = int(zmq.SNDMORE)
"""Plain numbers: arithmetic of enums takes longer than asking the socket."""
_FAREWELL_MS = 1000
_GATHER_S = 0.001
_GATHER = 64
"""Results at most that wait for others, and for how long."""
_START_S = 0.005
"""A task that ends within this time is not told of before its end."""
_ALONE = "the user endpoint is gone"


class Settings(NamedTuple):
    """What a node pool is told at its start."""

    directory: str
    """The private directory: ``interchange.sock``, ``begun/``, ``workers/``."""
    pool_id: str
    block_id: str
    mode: str
    """``process`` or ``thread``."""
    max_workers: Optional[int]
    """The node has at most so many; this and what follows: see :mod:`mep.worker.layout`."""
    cores_per_worker: Optional[float]
    mem_per_worker: Optional[float]
    """GB."""
    cpu_affinity: str
    """``none``, ``block``, ``block-reverse``, ``alternating`` or ``list:0,1:2-3``."""
    accelerators: Union[int, List[str], None]
    prefetch: int
    """Tasks that it takes beyond its workers."""
    terms: Dict[str, Any]
    """See :class:`mep.worker.execute.Terms`."""
    working_dir: str
    run_in_sandbox: bool
    """Each task in a directory of its own below `working_dir`."""
    walltime_s: float
    """What a task may take; 0: any time."""
    worker_python: str
    """Command of the workers' Python; empty: this process's, or what `path_before` tells."""
    path_before: Optional[str]
    """PATH before ``worker_init``; None where there was none."""
    lifeline: Optional[int]
    """Descriptor of a pipe that the user endpoint holds open for as long as it lives."""
    heartbeat_period: float
    heartbeat_threshold: float


class NodePool:
    """One node's workers, until the interchange says stop, or is gone."""

    def __init__(self, settings: Settings, workers: int, forks: Optional[ForkServer]) -> None:
        self._settings = settings
        self._workers = workers
        self._node = socket.gethostname()
        self._begun = Begun(os.path.join(settings.directory, "begun", settings.pool_id))
        self._given = 0
        self._queue: Deque[Task] = deque()
        self._bodies: Dict[str, bytes] = {}
        self._results: List[Outcome] = []
        self._results_due = math.inf
        self._started_due = math.inf
        self._draining = False
        self._end = ""
        self._poll = Poll()
        self._crew = self._hire(forks)
        self._context = zmq.Context()
        self._socket = self._connect()
        self._heard = time.monotonic()
        self._beat_due = self._heard + settings.heartbeat_period

    def run(self) -> int:
        """The loop; returns the exit status."""
        self._say_hello()
        self._crew.prepare()
        while not self._end:
            self._wait()
            self._drain_socket()
            self._hand_out()
            self._watch_time(time.monotonic())
            self._flush()
        self._leave()
        return 0

    def _hire(self, forks: Optional[ForkServer]) -> "Crew | ThreadCrew":
        if forks is None:
            open_user_path()
            os.chdir(self._settings.working_dir)
            settings = self._settings
            return ThreadCrew(
                self._poll,
                self._workers,
                Terms(**settings.terms),
                settings.walltime_s,
                self._results.append,
            )
        log_prefix = os.path.join(self._settings.directory, "workers", self._settings.pool_id)
        return Crew(
            forks,
            self._poll,
            self._workers,
            log_prefix,
            self._node,
            self._settings.walltime_s,
            self._results.append,
            self._spared,
            self._finish,
        )

    def _connect(self) -> "zmq.Socket[bytes]":
        sock = self._context.socket(zmq.DEALER)
        sock.setsockopt(zmq.IDENTITY, self._settings.pool_id.encode())
        sock.setsockopt(zmq.RECONNECT_IVL, 10)
        sock.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        sock.setsockopt(zmq.SNDHWM, 0)
        sock.setsockopt(zmq.RCVHWM, 0)
        directory = os.open(self._settings.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        # A path by descriptor: socket paths are limited to 107 bytes, home directories are not.
        sock.connect("ipc:///proc/self/fd/%d/interchange.sock" % directory)
        self._poll.add(sock.FD, lambda _events: None)
        woken, wake = socket.socketpair()
        for end in (woken, wake):
            end.setblocking(False)
        signal.signal(signal.SIGTERM, lambda *_: self._finish("it was told to end"))
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        self._poll.add(woken.fileno(), lambda _events: self._drop(woken))
        self._wake = wake
        if self._settings.lifeline is not None:
            self._poll.add(self._settings.lifeline, lambda _events: self._finish(_ALONE))
        return sock

    @staticmethod
    def _drop(woken: socket.socket) -> None:
        woken.recv(4096)

    def _say_hello(self) -> None:
        settings = self._settings
        self._socket.send(
            hello(
                settings.pool_id,
                settings.block_id,
                self._node,
                os.getpid(),
                "%d.%d.%d" % sys.version_info[:3],
                self._workers,
                self._workers + settings.prefetch,
            )
        )

    def _wait(self) -> None:
        """Until something happens or a heartbeat is due.

        The descriptor of a zmq socket tells of changes only: what is at hand already must be asked.
        """
        if self._has_message():
            self._poll.wait(0)
            return
        silent = self._heard + self._settings.heartbeat_threshold
        due = min(self._beat_due, silent, self._results_due, self._started_due, self._crew.due())
        self._poll.wait(max(due - time.monotonic(), 0))

    def _drain_socket(self) -> None:
        while not self._end and self._has_message():
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
            self._heard = time.monotonic()
            self._obey(frames)

    def _has_message(self) -> bool:
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & _READABLE)

    def _hand_out(self) -> None:
        if not self._queue and self._crew.idle_beside_work():
            self._spared(self._crew.take_back())
        if not self._queue:
            return
        count = min(self._crew.room(), len(self._queue))
        if count:
            tasks = [self._queue.popleft() for _ in range(count)]
            self._begun.set(max(self._begun.count, tasks[-1].place + 1))
            self._crew.start(tasks, self._bodies, time.time())

    def _spared(self, tasks: List[Task]) -> None:
        """Workers have given these up before they began."""
        self._queue.extendleft(reversed(tasks))

    def _watch_time(self, now: float) -> None:
        if now - self._heard > self._settings.heartbeat_threshold:
            self._finish("the interchange has been silent for too long")
        if now >= self._beat_due:
            self._beat_due = now + self._settings.heartbeat_period
            self._socket.send(header("beat", time.time()))
        if now >= self._crew.due():
            self._crew.expire(now)
        if self._draining and not self._crew.running:
            self._finish("drained")

    def _flush(self) -> None:
        """Tell what has started and ended since the last turn.

        An end implies its start, so that of quick tasks no start is told. Results wait a moment for
        more while no worker waits for tasks.
        """
        now = time.monotonic()
        if self._crew.has_begun:
            self._started_due = min(self._started_due, now + _START_S)
        if now >= self._started_due:
            self._tell_started()
        if self._results and self._crew.busy:
            self._results_due = min(self._results_due, now + _GATHER_S)
            if now < self._results_due and len(self._results) < _GATHER:
                return
        self._results_due = math.inf
        if self._results:
            self._tell_results()

    def _tell_started(self) -> None:
        self._started_due = math.inf
        started = self._crew.begun()
        if started:
            self._socket.send(header("started", started))

    def _tell_results(self) -> None:
        items = [fields for fields, _ in self._results]
        payloads = [payload for _, payload in self._results]
        self._results.clear()
        copy = sum(map(len, payloads)) < _COPY_BELOW
        self._socket.send(header("results", items), _MORE)
        for payload in payloads[:-1]:
            self._socket.send(payload, _MORE, copy=copy)
        self._socket.send(payloads[-1], 0, copy=copy)

    def _finish(self, reason: str) -> None:
        self._end = self._end or reason

    def _leave(self) -> None:
        self._flush()
        self._give_back_all()
        self._socket.send(header("gone", self._end))
        self._crew.close()
        self._socket.close(linger=0 if self._end == _ALONE else _FAREWELL_MS)
        self._context.term()

    def _obey(self, frames: List[bytes]) -> None:
        kind, fields = parse(frames[0])
        if kind == "tasks":
            self._take(fields[0], frames[1:])
        elif kind == "functions":
            self._bodies.update(zip(fields[0], frames[1:]))  # noqa: B905 - Python 3.9
        elif kind == "cancel":
            self._cancel(set(fields[0]))
        elif kind == "recall":
            self._give_back(fields[0])
        elif kind == "drain":
            self._draining = True
            self._give_back_all()
        elif kind == "stop":
            self._finish("it was told to end")
        elif kind != "beat":
            raise FrameError("the interchange sent %r, which this node pool does not know" % kind)

    def _take(self, items: List[List[Any]], payloads: List[bytes]) -> None:
        for (task_id, function_id, _priority, spec), payload in zip(items, payloads):  # noqa: B905
            call = Call(task_id, function_id, spec, payload)
            self._queue.append(Task(self._given, call))
            self._given += 1
        if self._draining:
            self._give_back_all()

    def _cancel(self, task_ids: "set[str]") -> None:
        self._spared(self._crew.take_back())
        kept: Deque[Task] = deque()
        for queued in self._queue:
            if queued.call.task_id in task_ids:
                self._results.append(cancelled(queued.call.task_id, 0.0))
            else:
                kept.append(queued)
        self._queue = kept
        for task_id in task_ids:
            self._crew.cancel(task_id)

    def _give_back(self, task_ids: List[str]) -> None:
        self._spared(self._crew.take_back())
        wanted = set(task_ids)
        back = [queued.call.task_id for queued in self._queue if queued.call.task_id in wanted]
        self._queue = deque(queued for queued in self._queue if queued.call.task_id not in wanted)
        self._socket.send(header("returned", back))

    def _give_back_all(self) -> None:
        self._spared(self._crew.take_back())
        self._give_back([queued.call.task_id for queued in self._queue])
