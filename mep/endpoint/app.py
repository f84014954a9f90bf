"""The running user endpoint: one event loop that puts engine, custody, returns and link together.

The engine's threads speak through the mailbox; everything else happens in the loop, in order: take
tasks, spool results before they are sent, forget them when the relay has them, leave when idle.
"""

import asyncio
import logging
import signal
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from mep.endpoint import happenings
from mep.endpoint.audit import Audit, reporter_of
from mep.endpoint.carrier import Carrier
from mep.endpoint.custody import Custody, failed
from mep.endpoint.engines.base import Engine, EngineError
from mep.endpoint.happenings import NOWHERE, Places
from mep.endpoint.idle import IdleLimits, IdleTimer
from mep.endpoint.journal import Journal, JournalError
from mep.endpoint.mailbox import Mailbox
from mep.endpoint.outbox import Outbox
from mep.endpoint.private_file import keep_result
from mep.endpoint.relay import Relay
from mep.endpoint.returns import Returns
from mep.endpoint.start import Prepared
from mep.endpoint.status import StatusFile
from mep.link import LinkRefused, Peer
from mep.wire import PROTOCOL, codes, events
from mep.wire.tasks import Failure, Function, Result, Task
from mep.wire.to_endpoint import (
    BlobsMissing,
    Cancel,
    Committed,
    Goodbye,
    MayLeave,
    Tasks,
    ToEndpoint,
    Welcome,
)

log = logging.getLogger(__name__)

GRACE_S: Final = 4.0
"""For running tasks after SIGTERM; the warden kills after ten seconds."""
FLUSH_S: Final = 2.0
"""For the last results to be acknowledged; the spool keeps what is not."""


class Endpoint:
    """One user endpoint from its first connection to its end.

    Args:
        prepared: what to serve.
        token: the relay token.
        engine: started.
        mailbox: where the engine's callbacks go.
        journal: where results are spooled.
        inherited: results of an earlier process, sent first.
        awaited: tasks of an earlier process that may still end.
        up: called once, when the relay has welcomed this endpoint.
    """

    def __init__(
        self,
        prepared: Prepared,
        token: str,
        engine: Engine,
        mailbox: Mailbox,
        journal: Journal,
        inherited: Sequence[Result],
        awaited: Iterable[str],
        up: Callable[[], None],
    ) -> None:
        facts, config = prepared.facts, prepared.config
        heartbeat_s = config.heartbeat_s(prepared.parent)
        self._engine = engine
        self._mailbox = mailbox
        self._journal = journal
        self._up = up
        self._status = StatusFile(prepared.directory, facts.user_endpoint_id, config.display_name)
        peer = Peer(prepared.parent.relay_url, prepared.parent.ca_file)
        self._carrier = Carrier(
            peer,
            token,
            prepared.directory,
            [result.task_id for result in inherited],
            self._arrived,
            lambda result: self._returns.settled(result),
        )
        self._custody = Custody(
            prepared.permits,
            inherited,
            awaited,
            partial(keep_result, prepared.directory),
            self._carrier.spool,
        )
        self._audit = Audit(reporter_of(prepared), self._custody.task, self._stop)
        self._outbox = Outbox()
        self._returns = Returns(
            self._custody,
            self._carrier,
            self._outbox,
            journal,
            engine.safe,
            lambda: self._relay.wake(),
        )
        self._relay = Relay(
            peer,
            token,
            facts.user_endpoint_id,
            self._custody,
            self._outbox,
            self._returns.sendable,
            self._receive,
            self._link_changed,
        )
        idle = IdleLimits.of(heartbeat_s, config.idle_heartbeats_soft, config.idle_heartbeats_hard)
        self._idle = IdleTimer(idle, heartbeat_s, self._ask_to_leave, self._give_up)
        self._asked_to_leave = False
        self._asking: asyncio.Task[bool] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._stopping = False
        self._reason = ""
        self._grace_s = GRACE_S
        self._stop_wanted = asyncio.Event()

    async def run(self) -> str:
        """Serve until idle, stopped or refused; the engine is closed afterwards.

        Returns:
            why it ended.

        Raises:
            LinkRefused: the relay will not have this endpoint (any more).
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, signal.Signals(number).name)
        self._mailbox.attach(loop, self._drain)
        self._settle()
        link = asyncio.create_task(self._relay.run())
        stop = asyncio.create_task(self._stop_wanted.wait())
        try:
            await asyncio.wait({link, stop}, return_when=asyncio.FIRST_COMPLETED)
            await self._shut_down()
        finally:
            stop.cancel()
            await self._relay.close()
        await link
        return self._reason

    async def _receive(self, message: ToEndpoint) -> None:
        match message:
            case Welcome():
                self._welcomed(message)
            case Tasks():
                self._take(message)
            case Committed(task_ids):
                self._idle.moved()
                self._returns.committed(task_ids)
            case Cancel(task_ids):
                self._cancel(task_ids)
            case BlobsMissing(task_ids):
                self._returns.missing(task_ids)
            case MayLeave():
                if self._asked_to_leave and not self._custody.count:
                    self._stop("idle")
            case Goodbye(reason, retry_s):
                log.info("the relay closes the link: %s", reason)
                self._relay.retry_after(retry_s)
        self._settle()

    def _welcomed(self, welcome: Welcome) -> None:
        if welcome.protocol != PROTOCOL:
            text = f"the relay speaks protocol {welcome.protocol}, this is {PROTOCOL}"
            raise LinkRefused(426, text)
        self._custody.max_result = welcome.max_result
        self._custody.inline = welcome.inline
        self._up()
        self._audit.note(events.UP)
        log.info("the relay has welcomed this endpoint")

    def _take(self, message: Tasks) -> None:
        if self._stopping:
            return
        self._asked_to_leave = False
        self._idle.moved()
        taken = self._custody.take(message.functions, message.tasks)
        if not self._audit.taken(taken):
            self._custody.release(one.task_id for one in taken.tasks)
            self._custody.release(one.task_id for one in taken.refused)
            return
        self._returns.end(taken.refused)
        for task in taken.tasks:
            if task.blob is not None:
                self._carrier.fetch(task)
        self._submit(taken.functions, [task for task in taken.tasks if task.blob is None])

    def _submit(self, functions: Sequence[Function], tasks: Sequence[Task]) -> None:
        if not functions and not tasks:
            return
        try:
            self._engine.submit(functions, tasks)
        except EngineError as error:
            failure = Failure(codes.ENGINE_FAILED, str(error))
            self._ended([failed(task.task_id, failure) for task in tasks])

    def _arrived(self, came: Task | Result) -> None:
        """Large arguments are here, or will not come."""
        if self._stopping or not self._custody.is_active(came.task_id):
            return
        if isinstance(came, Task):
            self._submit((), [came])
        else:
            self._ended([came])
        self._settle()

    def _cancel(self, task_ids: Sequence[str]) -> None:
        failure = Failure(codes.CANCELLED, "The task was cancelled before it began.")
        self._ended(
            [
                Result(task_id, "cancelled", b"", failure)
                for task_id in self._carrier.drop(task_ids)
                if self._custody.is_active(task_id)
            ]
        )
        self._engine.cancel([one for one in task_ids if self._custody.is_active(one)])

    def _link_changed(self, up: bool) -> None:
        log.info("link to the relay is %s", "open" if up else "lost")
        self._asked_to_leave = False
        self._settle()

    def _drain(self) -> None:
        changes, results, released, pools = self._mailbox.take()
        if not changes and not results and not released:
            self._settle()  # blocks have changed, which moves no task
            return
        self._idle.moved()
        moved = [change for change in changes if self._custody.task(change.task_id)]
        self._outbox.add_states(moved)
        places = happenings.places_of(pools, self._engine.status().detail)
        self._audit.running(moved, places)
        self._ended(results, places)
        if released:
            self._release(released)
        self._settle()

    def _release(self, task_ids: Sequence[str]) -> None:
        """A new connection says that these are not held; then the relay sends them again."""
        self._custody.release(task_ids)
        try:
            self._journal.returned(task_ids)
        except JournalError as error:
            log.warning("%s; a next process would call tasks lost", error.strerror)
        self._renewing = asyncio.create_task(self._relay.renew())

    def _ended(self, results: Sequence[Result], places: Places = NOWHERE) -> None:
        if self._stopping:
            results = self._without_unstarted(results)
        active = [result for result in results if self._custody.is_active(result.task_id)]
        self._audit.ended(active, places)
        self._returns.end(results)

    def _without_unstarted(self, results: Sequence[Result]) -> list[Result]:
        """A closing engine ends all it has; what had not started goes back to the relay."""
        kept = [
            result
            for result in results
            if result.outcome != "failed" or self._journal.has_started(result.task_id)
        ]
        known = {result.task_id for result in kept}
        self._custody.release(one.task_id for one in results if one.task_id not in known)
        return kept

    def _settle(self) -> None:
        """After every change: wake the sender, look at the idle clock, note the status."""
        self._relay.wake()
        if not self._stopping:
            self._idle.holding(self._custody.count)
            self._status.write_soon(self._figures)

    def _ask_to_leave(self) -> None:
        """Without a link, nothing can be on its way, and nothing is held: just leave."""
        self._audit.note(events.IDLE)
        if not self._relay.up:
            self._stop("idle")
            return
        self._asked_to_leave = True
        self._asking = asyncio.create_task(self._relay.ask_to_leave("idle"))

    def _give_up(self) -> None:
        message = (
            "nothing moved on this endpoint for longer than its idle_heartbeats_hard; it ended"
        )
        failure = Failure(codes.ENDPOINT_LOST, message)
        self._ended([failed(task_id, failure) for task_id in self._custody.active])
        self._stop("nothing moved for too long", grace_s=0)

    def _figures(self) -> dict[str, Any]:
        engine = self._engine.status()
        return {
            "state": "running",
            "link": self._relay.up,
            "waiting": engine.waiting,
            "running": engine.running,
            "workers": engine.workers,
            "active": len(self._custody.active),
            "unacknowledged": len(self._custody.unacknowledged),
            "detail": engine.detail,
        }

    def _stop(self, reason: str, grace_s: float = GRACE_S) -> None:
        if not self._stopping:
            log.info("stopping: %s", reason)
            self._stopping = True
            self._reason = reason
            self._grace_s = grace_s
            self._stop_wanted.set()

    async def _shut_down(self) -> None:
        """Close the engine, spool and send what comes of it."""
        self._stopping = True
        self._idle.cancel()
        self._audit.note(events.STOPPING, self._reason)
        await asyncio.to_thread(self._engine.close, self._grace_s)
        self._drain()
        if self._relay.up and not self._custody.all_acknowledged:
            await self._returns.flush(FLUSH_S)
        self._carrier.close()
        self._status.write(state="ended", reason=self._reason, link=False)
        self._audit.close()
