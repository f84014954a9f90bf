"""The node pool: a DEALER to the interchange on one side, workers on the other.

Single threaded but for zmq's own thread. Everything that a turn of the loop produced leaves in one
message a kind. Tasks are handed to workers in the order in which they came. A file
(:mod:`mep.worker.begun`) tells whoever survives this process which of them may have begun.
"""

import math
import os
import signal
import socket
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, List, Optional

from mep.wire.frames import FrameError, Piece, header, hello, parse
from mep.worker.begun import Begun
from mep.worker.beside import ALONE
from mep.worker.crew import Crew
from mep.worker.endings import cancelled
from mep.worker.execute import Call, Outcome, Terms
from mep.worker.forkserver import ForkServer
from mep.worker.lease import Lease
from mep.worker.member import Task
from mep.worker.poll import Poll
from mep.worker.settings import Settings
from mep.worker.threads import ThreadCrew
from mep.worker.upstream import Upstream
from mep.worker.worker import open_user_path

if TYPE_CHECKING:
    from mep.worker.spread import Spread

_FAREWELL_S = 1.0
_GATHER_S = 0.001
_GATHER = 64
"""Results at most that wait for others, and for how long."""
_MESSAGE_BYTES = 4 * 1024 * 1024
"""A message of results is closed once it holds so much."""


def pool_name(block_id: str) -> str:
    """The id of the node pool in this process; its block's other nodes have others."""
    return "%s.%s.%d" % (block_id, socket.gethostname(), os.getpid())


class NodePool:
    """One node's workers, until the interchange says stop, or is gone."""

    def __init__(
        self,
        settings: Settings,
        workers: int,
        forks: Optional[ForkServer],
        upstream: Upstream,
        spread: "Optional[Spread]" = None,
    ) -> None:
        self._settings = settings
        self._spread = spread
        self._workers = workers
        self._node = socket.gethostname()
        self._pool_id = pool_name(settings.block_id)
        # Elsewhere nobody can tell when the last worker is dead; in containers they die later.
        exact = forks and settings.lifeline is not None and settings.container is None
        self._begun = Begun(
            os.path.join(settings.directory, "begun", self._pool_id),
            workers if exact else 0,
            workers + settings.prefetch,
        )
        self._given = 0
        self._queue: Deque[Task] = deque()
        self._bodies: Dict[str, Piece] = {}
        self._results: List[Outcome] = []
        self._results_due = math.inf
        self._draining = False
        self._end = ""
        self._poll = Poll()
        self._ended: Callable[[Outcome], None] = self._results.append
        if spread is not None:
            spread.attach(self._poll, self._results.append)
            self._ended = spread.end
        self._changed = False
        self._crew = self._hire(forks)
        self._upstream = upstream
        self._listen()
        self._unreceived: Dict[str, Outcome] = {}
        """Results that have been told, until they are received; of a pool with a lifeline none:
        it ends with the interchange."""
        now = time.monotonic()
        self._lease = Lease(settings.heartbeat_threshold, now)
        self._beat_due = now + settings.heartbeat_period

    def run(self) -> int:
        """The loop; returns the exit status."""
        self._say_hello([])
        self._crew.prepare()
        while not self._end:
            due = self._wait()
            self._drain_socket()
            self._hand_out()
            now = time.monotonic()
            if now >= due or self._draining:
                self._watch_time(now)
            if self._results:
                self._flush(now)
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
        log_prefix = os.path.join(self._settings.directory, "workers", self._pool_id)
        return Crew(
            forks,
            self._poll,
            self._workers,
            log_prefix,
            self._node,
            self._settings.walltime_s,
            self._ended,
            self._spared,
            self._finish,
            alone=self._spread is not None,
            begun_file=self._begun.descriptor if self._begun.by_workers else None,
        )

    def _listen(self) -> None:
        for descriptor in self._upstream.descriptors:
            self._poll.add(descriptor, self._on_change)
        woken, wake = socket.socketpair()
        for end in (woken, wake):
            end.setblocking(False)
        signal.signal(signal.SIGTERM, lambda *_: self._finish("it was told to end"))
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        self._poll.add(woken.fileno(), lambda _events: self._drop(woken))
        self._wake = wake
        if self._settings.lifeline is not None:
            self._poll.add(self._settings.lifeline, lambda _events: self._finish(ALONE))

    @staticmethod
    def _drop(woken: socket.socket) -> None:
        woken.recv(4096)

    def _say_hello(self, holds: List[str]) -> None:
        settings = self._settings
        self._upstream.send(
            [
                hello(
                    self._pool_id,
                    settings.block_id,
                    self._node,
                    os.getpid(),
                    "%d.%d.%d" % sys.version_info[:3],
                    self._workers,
                    self._workers + settings.prefetch,
                    holds,
                    settings.ends_at,
                    self._spread.nodes if self._spread else [],
                    self._spread.placed if self._spread else {},
                )
            ]
        )

    def _say_hello_again(self) -> None:
        """An interchange that does not know this pool: it is told all that the pool has."""
        queued = [task.call.task_id for task in self._queue]
        ended = [fields[0] for fields, _ in self._results]
        sweeping = self._spread.sweeping if self._spread else []
        self._say_hello([*queued, *self._crew.tasks, *sweeping, *ended, *self._unreceived])
        self._results[:0] = self._unreceived.values()
        self._beat(time.monotonic())

    def _wait(self) -> float:
        """Until something happens or is due; when that is.

        Descriptors of the upstream tell of changes only: what is at hand already must be asked.
        """
        due = min(self._beat_due, self._lease.ends, self._results_due, self._crew.due())
        if self._upstream.pending():
            self._changed = True
            self._poll.wait(0)
        else:
            self._poll.wait(max(due - time.monotonic(), 0))
        return due

    def _on_change(self, _events: int) -> None:
        self._changed = True

    def _drain_socket(self) -> None:
        if not self._changed:
            return
        self._changed = False
        while not self._end:
            frames = self._upstream.receive()
            if frames is None:
                break
            self._obey(bytes(frames[0]), frames[1:])
        if self._upstream.ended:
            self._finish(self._upstream.ended)

    def _hand_out(self) -> None:
        if not self._queue and self._crew.idle_beside_work():
            self._spared(self._crew.take_back())
        if not self._queue or not self._lease.may_begin(time.monotonic()):
            return
        count = self._crew.room(len(self._queue))
        if count:
            tasks = [self._queue.popleft() for _ in range(count)]
            self._begun.hand_over(max(task.place for task in tasks))
            self._crew.start(tasks, self._bodies, time.time())

    def _spared(self, tasks: List[Task]) -> None:
        """Workers have given these up before they began."""
        self._queue.extendleft(reversed(tasks))

    def _watch_time(self, now: float) -> None:
        if now >= self._lease.ends:
            self._finish("the interchange has been silent for too long")
        if now >= self._beat_due:
            self._beat(now)
        began = self._crew.begun(now)
        if began:
            self._upstream.send([header("started", began)])
        self._crew.expire(now)
        if self._draining and not self._unreceived and self._at_rest():
            self._finish("drained")

    def _at_rest(self) -> bool:
        swept = self._spread is None or not self._spread.sweeping
        return swept and not self._crew.running

    def _beat(self, now: float) -> None:
        self._beat_due = now + self._settings.heartbeat_period
        self._upstream.send([header("beat", now)])

    def _flush(self, now: float) -> None:
        """Tell what has ended; but results wait a moment for more while no worker waits for tasks.

        An end implies its start, so that of quick tasks no start is told.
        """
        if self._crew.busy:
            self._results_due = min(self._results_due, now + _GATHER_S)
            if now < self._results_due and len(self._results) < _GATHER:
                return
        self._results_due = math.inf
        self._tell_results()

    def _tell_results(self) -> None:
        if self._settings.lifeline is None:
            self._unreceived.update((outcome[0][0], outcome) for outcome in self._results)
        while self._results:
            count = that_fit(self._results)
            batch = self._results[:count]
            del self._results[:count]
            items = [fields for fields, _ in batch]
            self._upstream.send([header("results", items), *(payload for _, payload in batch)])

    def _finish(self, reason: str) -> None:
        self._end = self._end or reason

    def _leave(self) -> None:
        self._poll.wait(0)  # workers may have ended tasks that nobody would run again
        if self._results:
            self._tell_results()
        self._give_back_all()
        self._upstream.send([header("gone", self._end)])
        self._crew.close()
        self._upstream.close(0 if self._end == ALONE else _FAREWELL_S)

    def _obey(self, head: bytes, payloads: List[Piece]) -> None:
        kind, fields = parse(head)
        if kind == "tasks":
            self._take(fields[0], payloads)
        elif kind == "functions":
            self._bodies.update(zip(fields[0], payloads))  # noqa: B905 - Python 3.9
        elif kind == "cancel":
            self._cancel(set(fields[0]))
        elif kind == "recall":
            self._give_back(fields[0])
        elif kind == "drain":
            self._draining = True
            self._give_back_all()
        elif kind == "stop":
            self._finish("it was told to end")
        else:
            self._converse(kind, fields)

    def _converse(self, kind: str, fields: List[Any]) -> None:
        if kind == "received":
            for task_id in fields[0]:
                self._unreceived.pop(task_id, None)
        elif kind == "who":
            self._say_hello_again()
        elif kind == "beat":
            self._lease.answered(fields[0], time.monotonic())
        else:
            raise FrameError("the interchange sent %r, which this node pool does not know" % kind)

    def _take(self, items: List[List[Any]], payloads: List[Piece]) -> None:
        for (task_id, function_id, _priority, spec), payload in zip(items, payloads):  # noqa: B905
            if self._spread is not None:
                self._spread.begin(task_id, spec)
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
                self._ended(cancelled(queued.call.task_id, 0.0))
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
        if self._spread is not None:
            self._spread.forget(back)
        self._upstream.send([header("returned", back)])

    def _give_back_all(self) -> None:
        self._spared(self._crew.take_back())
        self._give_back([queued.call.task_id for queued in self._queue])


def that_fit(results: List[Outcome]) -> int:
    """How many of the first make a message of bounded size; a single one may exceed it."""
    size = 0
    for count, (_, payload) in enumerate(results):
        if count and size > _MESSAGE_BYTES:
            return count
        size += len(payload)
    return len(results)
