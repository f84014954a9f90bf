"""Blocks from a batch system: Parsl's provider in a thread of its own, which may wait for it.

The interchange's calls only leave orders; what comes of them is told by an eventfd. The thread
carries out orders, asks the scheduler about all jobs at once at the pace of
:mod:`mep.endpoint.providers.pace`, and keeps each job's id on disk for as long as it may run.
"""

import errno
import functools
import logging
import os
import queue
import re
import shlex
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from mep.endpoint.engines.base import EngineError
from mep.endpoint.engines.provider_settings import AnyProvider
from mep.endpoint.providers.base import BlockState, Ended
from mep.endpoint.providers.commands import Commands
from mep.endpoint.providers.delivery import Delivery, delivery
from mep.endpoint.providers.jobs import Jobs, Seen
from mep.endpoint.providers.pace import Pace
from mep.endpoint.providers.records import MARK, Record, Records
from mep.endpoint.providers.scheduler import Scheduler, SchedulerError
from mep.endpoint.providers.words import time_was_over
from mep.endpoint.runtime.errors import RuntimeUnavailable
from mep.endpoint.runtime.runtime import Runtime

log = logging.getLogger(__name__)

CANCEL_TRIES: Final = 3
"""After so many, nobody waits for a cancellation any more; it is tried again all the same."""
_CANCEL_LATEST_S: Final = 60.0
_UNQUOTED: Final = frozenset("$`\\\n")
"""Launchers pass the command through a here-document, where these would be read once more."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.@%+=:,/-]+")
"""Paths that need no quotes anywhere: Parsl's lines and scripts have none."""


class _Start(NamedTuple):
    block_id: str
    command: str
    pool_file: str


class _Cancel(NamedTuple):
    block_id: str
    tries: int = 0
    why: str = ""
    """How its end is told; empty: it was wanted."""


class _Look(NamedTuple):
    block_id: str


_Order = _Start | _Cancel | _Look | None


class BatchProvider:
    """A :class:`mep.endpoint.providers.base.Provider` over a batch system.

    Args:
        settings: of the provider.
        nodes: of a block.
        directory: the user endpoint's own; scripts, outputs and records go below ``blocks/``.
        environment: of the scheduler's commands.
        fingerprint: of the configuration; blocks that were started by another one do not serve.
        runtime: brings a node pool to nodes that may not have this installation, nor the
            directory; None: they have both.

    Raises:
        EngineError: the directory has a name that scripts cannot bear.
    """

    apart = True

    def __init__(
        self,
        settings: AnyProvider,
        nodes: int,
        directory: str,
        environment: Mapping[str, str],
        fingerprint: str,
        runtime: Runtime | None = None,
    ) -> None:
        if not _PLAIN.fullmatch(directory):
            raise EngineError(
                f"{settings.name()} cannot use the directory {directory!r}: its name has a blank "
                "or another character that job scripts cannot bear"
            )
        self._settings = settings
        self._nodes = nodes
        self._fingerprint = fingerprint
        self._runtime = runtime
        self._records = Records(directory)
        self._commands = Commands(environment)
        self._jobs = Jobs(nodes)
        self._pace = Pace()
        self._scheduler: Scheduler | None = None
        self._adopted: dict[str, Record] = {}
        self._orders: queue.Queue[_Order] = queue.Queue()
        self._unwanted: set[str] = set()
        self._strangers: set[str] = set()
        """Blocks that the interchange does not know."""
        self._later: list[tuple[float, _Cancel]] = []
        self._news: deque[Ended] = deque()
        self._states: Sequence[BlockState] = ()
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="batch provider", daemon=True)

    # --- called by the interchange's thread (and, before it starts, by the engine)

    def adopt(self) -> list[str]:
        """Blocks of an earlier process that have the same configuration; others are cancelled."""
        for record in self._records.all():
            if not record.job_id:
                self._records.drop(record.block_id)
                continue
            self._adopted[record.block_id] = record
            self._jobs.found(record.block_id, record.job_id, record.submitted, time.time())
            if not self._serves(record):
                log.info("job %s is of another configuration; cancelling it", record.job_id)
                self._strangers.add(record.block_id)
        self._states = tuple(self._jobs.states())
        for block_id in self._adopted:
            stranger = block_id in self._strangers
            self._order(_Cancel(block_id) if stranger else _Look(block_id))
        return [block_id for block_id in self._adopted if block_id not in self._strangers]

    def _serves(self, record: Record) -> bool:
        ours = (self._settings.name(), self._fingerprint)
        return (record.provider, record.fingerprint) == ours

    def start(self, block_id: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Order a block.

        Raises:
            OSError: the command could not pass a launcher unharmed.
        """
        line = shlex.join(command)
        if not _UNQUOTED.isdisjoint(line):
            raise OSError(
                errno.EINVAL, f"a launcher cannot pass on a command that has $, ` or \\: {line}"
            )
        self._order(_Start(block_id, line, command[-1]))

    def descriptors(self) -> Sequence[int]:
        """The eventfd."""
        return (self._eventfd,)

    def ended(self) -> list[Ended]:
        """The blocks that have ended since the last call."""
        try:
            os.eventfd_read(self._eventfd)
        except BlockingIOError:
            return []
        return [self._news.popleft() for _ in range(len(self._news))]

    def states(self) -> Sequence[BlockState]:
        """Every block that lives, and the last few that have ended."""
        return self._states

    def lifeline(self) -> None:
        """Node pools elsewhere inherit nothing; they know by the interchange's silence."""
        return

    def look(self, block_id: str) -> None:
        """Ask the scheduler soon."""
        self._order(_Look(block_id))

    def stop(self, block_id: str) -> None:
        """Cancel its job; batch systems send SIGTERM first."""
        self._cancel(block_id)

    def kill(self, block_id: str) -> None:
        """Cancel its job, and do not wait for a submission that hangs."""
        self._commands.hurry()
        self._cancel(block_id)

    def close(self) -> None:
        """End the thread."""
        self._commands.hurry(closing=True)
        if self._thread.ident is not None:
            self._orders.put(None)
            self._thread.join()
        os.close(self._eventfd)

    def _cancel(self, block_id: str) -> None:
        if block_id not in self._unwanted:
            self._unwanted.add(block_id)
            self._order(_Cancel(block_id))

    def _order(self, order: _Order) -> None:
        self._orders.put(order)
        if self._thread.ident is None:
            self._thread.start()

    # --- the provider's thread

    def _run(self) -> None:
        try:
            while (orders := self._wait()) is not None:
                self._carry_out(orders + self._due_again())
                if time.monotonic() >= self._pace.due:
                    self._ask()
                self._publish()
        except Exception as error:
            log.exception("the batch provider failed")
            self._lose_all(f"was lost with the endpoint's batch provider: {error!r}")

    def _wait(self) -> list[_Order] | None:
        """The orders at hand, once there are some or it is time to ask; None: to end."""
        left = min([self._pace.due, *(due for due, _ in self._later)]) - time.monotonic()
        orders: list[_Order] = []
        try:
            orders.append(self._orders.get(timeout=min(max(left, 0), threading.TIMEOUT_MAX)))
            while True:
                orders.append(self._orders.get_nowait())
        except queue.Empty:
            pass
        return None if None in orders else orders

    def _carry_out(self, orders: Sequence[_Order]) -> None:
        cancels = []
        for order in orders:
            match order:
                case _Start():
                    self._submit(order)
                case _Cancel():
                    cancels.append(order)
                case _Look(block_id):
                    if block_id in self._jobs:
                        self._pace.hasten(time.monotonic())
        if cancels:
            self._end(cancels)

    def _submit(self, start: _Start) -> None:
        block_id = start.block_id
        self._jobs.submitting(block_id, time.time())
        self._publish()
        if block_id in self._unwanted:
            self._over(block_id, "was given up before it was submitted")
            return
        try:
            self._record(block_id)
            job_id = self._ready().submit(
                self._delivered(start),
                f"mep-{block_id}",
                self._records.directory(block_id),
                preface(self._records.directory(block_id)),
                functools.partial(self._record, block_id),
            )
            self._jobs.submitted(block_id, job_id, time.time())
            self._record(block_id, job_id, self._ready().resource(job_id))
        except (SchedulerError, RuntimeUnavailable, OSError) as error:
            self._over(block_id, f"could not be submitted: {error}")
            return
        log.info("block %s is job %s", block_id, job_id)
        self._pace.hasten(time.monotonic())

    def _delivered(self, start: _Start) -> Delivery:
        if self._runtime is None:
            return Delivery(start.command)
        return delivery(self._settings, self._runtime, Path(start.pool_file))

    def _record(
        self, block_id: str, job_id: str = "", resource: dict[str, str] | None = None
    ) -> None:
        self._records.write(
            Record(
                block_id,
                self._settings.name(),
                self._fingerprint,
                time.time(),
                job_id,
                resource or {},
            )
        )

    def _end(self, cancels: Sequence[_Cancel]) -> None:
        wanted = {one.block_id: one for one in cancels if self._jobs.job_id(one.block_id)}
        if not wanted:
            return
        now = time.time()
        for block_id in wanted:
            self._jobs.ending(block_id, now)
        try:
            self._ready().cancel([self._jobs.job_id(block_id) for block_id in wanted])
        except SchedulerError as error:
            for one in wanted.values():
                self._cancel_again(one, str(error))
            return
        for block_id, one in wanted.items():
            cancelled = f"was ended: its job {self._jobs.job_id(block_id)} was cancelled"
            self._over(block_id, one.why or cancelled)

    def _cancel_again(self, cancel: _Cancel, words: str) -> None:
        log.warning("job %s cannot be cancelled: %s", self._jobs.job_id(cancel.block_id), words)
        tries = cancel.tries + 1
        if tries == CANCEL_TRIES and cancel.block_id not in self._strangers:
            # Its record stays too: if not this process, then the next one sees to its end.
            self._strangers.add(cancel.block_id)
            self._tell(cancel.block_id, f"could not be cancelled: {words}")
        wait_s = min(2.0**cancel.tries, _CANCEL_LATEST_S)
        self._later.append((time.monotonic() + wait_s, cancel._replace(tries=tries)))

    def _due_again(self) -> list[_Order]:
        now = time.monotonic()
        due: list[_Order] = [order for at, order in self._later if at <= now]
        self._later = [(at, order) for at, order in self._later if at > now]
        return due

    def _ask(self) -> None:
        job_ids = self._jobs.to_ask()
        now = time.time()
        ended: list[tuple[str, str]] = []
        if job_ids:
            try:
                seen = self._ready().query(job_ids)
                ended = self._jobs.answered(self._marked(seen), now)
            except SchedulerError as error:
                log.warning("the scheduler does not answer: %s", error)
                self._jobs.unanswered(now)
        for block_id, word in ended:
            self._found_ended(block_id, word)
        self._end_stuck()
        self._pace.asked(time.monotonic(), len(self._jobs))

    def _end_stuck(self) -> None:
        """End the blocks whose jobs the scheduler has taken and will never start."""
        waiting = self._jobs.waiting()
        if not waiting:
            return
        stuck = self._jobs.explained(self._ready().reasons(waiting))
        self._unwanted.update(block_id for block_id, _ in stuck)
        self._end(
            [
                _Cancel(block_id, why=f"was ended: Slurm keeps it pending: {reason}")
                for block_id, reason in stuck
            ]
        )

    def _marked(self, seen: Mapping[str, Seen]) -> dict[str, Seen]:
        """With what the scripts of jobs that are not listed have left of their end."""
        found = dict(seen)
        for state in self._jobs.states():
            one = seen.get(state.job_id)
            if one is None or one.state != "missing":
                continue
            status = self._records.mark(state.block_id)
            if status is not None:
                found[state.job_id] = Seen(
                    "missing", f"its script ended with {status}", marked=True
                )
        return found

    def _found_ended(self, block_id: str, word: str) -> None:
        job_id = self._jobs.job_id(block_id)
        scheduler = self._ready()
        if scheduler.lingers:
            try:
                scheduler.cancel([job_id])
            except SchedulerError as error:
                log.info("job %s has ended and stays in the queue: %s", job_id, error)
        self._over(block_id, f"ended with its job {job_id} ({word})", word)

    def _over(self, block_id: str, how: str, word: str = "") -> None:
        """It has ended, with the scheduler's word for it: tell, and forget."""
        job_id = self._jobs.job_id(block_id)
        if job_id:
            self._ready().forget(job_id)
        self._records.drop(block_id)
        self._jobs.ended(block_id, how, time.time())
        self._unwanted.discard(block_id)
        if block_id in self._strangers:
            self._strangers.discard(block_id)
        else:
            self._tell(block_id, how, word)

    def _tell(self, block_id: str, how: str, word: str = "") -> None:
        stderr = self._records.tail(block_id)
        self._states = tuple(self._jobs.states())  # whoever hears of the end sees it too
        self._news.append(
            Ended(block_id, how, stderr, exact=False, by_walltime=time_was_over(word, stderr))
        )

    def _lose_all(self, how: str) -> None:
        for state in list(self._jobs.states()):
            if state.state != "ended":
                self._news.append(Ended(state.block_id, how, "", exact=False))
        self._publish()

    def _publish(self) -> None:
        states = tuple(self._jobs.states())
        if states != self._states or self._news:
            self._states = states
            os.eventfd_write(self._eventfd, 1)

    def _ready(self) -> Scheduler:
        """The scheduler, made when it is first needed: making it may take a command's time."""
        if self._scheduler is None:
            self._scheduler = Scheduler(self._settings, self._nodes, self._commands)
            for record in self._adopted.values():
                self._scheduler.adopt(record.job_id, record.resource)
        return self._scheduler


def preface(directory: Path) -> str:
    """Shell lines at the head of a job's script: when it began, what PATH was, how it ends."""
    return (
        f"trap 'ended=$?; test ! -d {directory} || echo status $ended > {directory / MARK}' EXIT\n"
        "export MEP_BLOCK_BEGAN=$(date +%s)\n"
        'export MEP_PATH_BEFORE="$PATH"\n'
    )
