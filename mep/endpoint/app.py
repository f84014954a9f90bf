"""The running user endpoint: one event loop that puts engine, custody, journal and link together.

The engine's threads speak through the mailbox; everything else happens in the loop, in order: take
tasks, spool results before they are sent, forget them when the relay has them, leave when idle.
"""

import asyncio
import logging
import signal
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from mep.endpoint.custody import Custody, failed
from mep.endpoint.engines.base import Engine, EngineError
from mep.endpoint.events import Events
from mep.endpoint.idle import IdleLimits, IdleTimer
from mep.endpoint.journal import Journal, JournalError
from mep.endpoint.mailbox import Mailbox
from mep.endpoint.outbox import Outbox
from mep.endpoint.relay import Relay
from mep.endpoint.start import Prepared
from mep.endpoint.status import StatusFile
from mep.link import LinkRefused, Peer
from mep.wire import PROTOCOL, codes, limits
from mep.wire.tasks import Failure, Result, Task
from mep.wire.to_endpoint import Cancel, Committed, Goodbye, MayLeave, Tasks, ToEndpoint, Welcome

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
        up: Callable[[], None],
    ) -> None:
        facts, config = prepared.facts, prepared.config
        heartbeat_s = config.heartbeat_s(prepared.parent)
        self._engine = engine
        self._mailbox = mailbox
        self._journal = journal
        self._up = up
        self._report_tasks = (
            config.high_assurance or prepared.parent.settings.get("high_assurance") is True
        )
        self._events = Events(facts.events_socket, facts.user_endpoint_id)
        self._status = StatusFile(prepared.directory, facts.user_endpoint_id, config.display_name)
        self._custody = Custody(prepared.permits, inherited)
        self._outbox = Outbox()
        self._relay = Relay(
            Peer(prepared.parent.relay_url, prepared.parent.ca_file),
            token,
            facts.user_endpoint_id,
            self._custody,
            self._outbox,
            self._receive,
            self._link_changed,
        )
        idle = IdleLimits.of(heartbeat_s, config.idle_heartbeats_soft, config.idle_heartbeats_hard)
        self._idle = IdleTimer(idle, heartbeat_s, self._ask_to_leave, self._give_up)
        self._asked_to_leave = False
        self._asking: asyncio.Task[bool] | None = None
        self._stopping = False
        self._reason = ""
        self._grace_s = GRACE_S
        self._stop_wanted = asyncio.Event()
        self._acknowledged = asyncio.Event()

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

    # --- from the relay

    async def _receive(self, message: ToEndpoint) -> None:
        match message:
            case Welcome(protocol, max_result):
                self._welcomed(protocol, max_result)
            case Tasks():
                self._take(message)
            case Committed(task_ids):
                self._forget(task_ids)
            case Cancel(task_ids):
                self._engine.cancel([one for one in task_ids if self._custody.task(one)])
            case MayLeave():
                if self._asked_to_leave and not self._custody.count:
                    self._stop("idle")
            case Goodbye(reason, retry_s):
                log.info("the relay closes the link: %s", reason)
                self._relay.retry_after(retry_s)
        self._settle()

    def _welcomed(self, protocol: int, max_result: int) -> None:
        if protocol != PROTOCOL:
            raise LinkRefused(426, f"the relay speaks protocol {protocol}, this is {PROTOCOL}")
        self._custody.max_result = min(max_result, limits.PAYLOAD)
        self._up()
        self._events.send("up")
        log.info("the relay has welcomed this endpoint")

    def _take(self, message: Tasks) -> None:
        if self._stopping:
            return
        self._asked_to_leave = False
        self._idle.moved()
        taken = self._custody.take(message.functions, message.tasks)
        self._report("task-received", taken.tasks)
        self._ended(taken.refused)
        if not taken.tasks:
            return
        try:
            self._engine.submit(taken.functions, taken.tasks)
        except EngineError as error:
            failure = Failure(codes.ENGINE_FAILED, str(error))
            self._ended([failed(task.task_id, failure) for task in taken.tasks])

    def _forget(self, task_ids: Sequence[str]) -> None:
        self._idle.moved()
        known = self._custody.commit(task_ids)
        try:
            self._journal.committed(known)
        except JournalError as error:
            log.warning("%s; results may be sent once more", error.strerror)
        if self._custody.all_acknowledged:
            self._acknowledged.set()

    def _link_changed(self, up: bool) -> None:
        log.info("link to the relay is %s", "open" if up else "lost")
        self._asked_to_leave = False
        self._settle()

    # --- from the engine

    def _drain(self) -> None:
        changes, results = self._mailbox.take()
        if not changes and not results:
            return
        self._idle.moved()
        moved = [change for change in changes if self._custody.task(change.task_id)]
        self._outbox.add_states(moved)
        if self._report_tasks:
            running = [change.task_id for change in moved if change.state == "running"]
            self._report("task-started", map(self._custody.task, running))
        self._ended(results)
        self._settle()

    def _ended(self, results: Sequence[Result]) -> None:
        """Spool, then send."""
        if self._stopping:
            results = self._without_unstarted(results)
        self._report("task-ended", [self._custody.task(result.task_id) for result in results])
        ended = self._custody.end(results)
        if not ended:
            return
        self._acknowledged.clear()
        try:
            self._journal.ended(ended)
        except JournalError as error:
            log.warning("%s; %d results live in memory alone", error.strerror, len(ended))
        self._outbox.add_results(ended)
        self._relay.wake()

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

    # --- idle, status

    def _settle(self) -> None:
        """After every change: wake the sender, look at the idle clock, note the status."""
        self._relay.wake()
        if not self._stopping:
            self._idle.holding(self._custody.count)
            self._status.write_soon(self._figures)

    def _ask_to_leave(self) -> None:
        """Without a link, nothing can be on its way, and nothing is held: just leave."""
        self._events.send("idle")
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

    def _report(self, event: str, tasks: Iterable[Task | None]) -> None:
        """Tell the audit log, where the site asks for every task."""
        if not self._report_tasks:
            return
        for task in tasks:
            if task is not None:
                self._events.send(event, task_id=task.task_id, function_id=task.function_id)

    # --- the end

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
        self._events.send("stopping", text=self._reason)
        await asyncio.to_thread(self._engine.close, self._grace_s)
        self._drain()
        if self._relay.up and not self._custody.all_acknowledged:
            await self._flush()
        self._status.write(state="ended", reason=self._reason, link=False)
        self._events.close()

    async def _flush(self) -> None:
        self._acknowledged.clear()
        self._relay.wake()
        try:
            await asyncio.wait_for(self._acknowledged.wait(), FLUSH_S)
        except TimeoutError:
            count = len(self._custody.unacknowledged)
            log.info("%d results are left to the next process", count)
