"""Carries out what delivery decides: sends, commits, signs, publishes. Runs on the event loop."""

import asyncio
import itertools
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final

from mep.wire import codes, to_endpoint, to_manager
from mep.wire.tasks import Task
from mep_cloud import grants
from mep_cloud.auth import Provider, digest
from mep_cloud.bodies import Bodies
from mep_cloud.cluster.teller import Teller
from mep_cloud.delivery import events, instructions
from mep_cloud.delivery.calls import TRY_AGAIN
from mep_cloud.delivery.machine import Delivery
from mep_cloud.delivery.state import Call
from mep_cloud.errors import StoreError
from mep_cloud.hooks.sender import Sender
from mep_cloud.logs import Seldom
from mep_cloud.outbox import Outbox
from mep_cloud.publisher import Publisher
from mep_cloud.settings import Limits
from mep_cloud.store import Store
from mep_cloud.store.records import Delivered, Ending, UnfinishedTask

log = logging.getLogger(__name__)

KEEP_PAYLOAD: Final = 16 * 1024
"""Arguments of at most this many bytes stay in memory until the task has ended."""
KEEP_TASKS: Final = 20_000
"""Above so many unfinished tasks, the arguments of new ones stay on disk."""
GOODBYE_RETRY_S: Final = 1.0
STORE_RETRY_S: Final = 3.0
"""Seconds until what a failing database did not take is tried again, here and by others."""


class Hub:
    """Joins the pure state machine to sockets, store and clock."""

    def __init__(
        self,
        store: Store,
        master: bytes,
        provider: Provider,
        bounds: Limits,
        clock: Callable[[], float] = time.time,
        *,
        sender: Sender | None = None,
        teller: Teller | None = None,
    ) -> None:
        self.delivery = Delivery(lambda: secrets.token_hex(16), bounds.result)
        self.publisher = Publisher()
        self.bodies = Bodies(store.functions)
        self._store = store
        self._master = master
        self._provider = provider
        self._clock = clock
        self._unstored_told, self._waiting_told = Seldom(clock), Seldom(clock)
        self._sender = sender
        self._teller = teller or Teller()
        self._outboxes: dict[int, Outbox] = {}
        self._connections = itertools.count(1)
        self.submitted = 0
        """Tasks accepted by this process."""
        self.ended: Counter[str] = Counter()
        """Tasks ended by this process, by outcome."""
        self._jobs: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._closing = False

    async def recover(self, endpoint_ids: Sequence[str] | None = None) -> None:
        """Take up all tasks that had not ended, of these endpoints or of all."""
        if endpoint_ids is None:
            await self._store.tasks.begin()
        many = await self._store.tasks.count_unfinished() > KEEP_TASKS
        keep = -1 if many else KEEP_PAYLOAD
        self.take_up(await self._store.tasks.unfinished(keep, endpoint_ids=endpoint_ids))

    async def take_up_some(self, task_ids: Sequence[str]) -> None:
        """Take up those of these tasks that have not ended; none may be known here."""
        keep = KEEP_PAYLOAD if self.keeps_payload(0) else -1
        self.take_up(await self._store.tasks.unfinished(keep, task_ids=task_ids))

    def take_up(self, tasks: Iterable[UnfinishedTask]) -> None:
        """Deliver tasks that were read from the disk."""
        by_home: dict[tuple[str, str], list[Call]] = {}
        for task in tasks:
            call = Call(
                task.task_id,
                task.function_id,
                task.function_size,
                task.group_id,
                task.payload,
                task.payload_size,
                task.resource_specification,
                task.result_serializers,
                cancel_wanted=task.cancel_requested,
                owner=task.owner,
                blob=task.blob,
            )
            by_home.setdefault((task.endpoint_id, task.user_endpoint_id), []).append(call)
        for (endpoint_id, user_endpoint_id), calls in by_home.items():
            self.apply(events.TasksSubmitted(endpoint_id, user_endpoint_id, tuple(calls)))

    def attach(self, outbox: Outbox) -> int:
        """A number for a new connection."""
        connection = next(self._connections)
        self._outboxes[connection] = outbox
        return connection

    @property
    def connections(self) -> int:
        """Open WebSockets of all kinds."""
        return len(self._outboxes)

    def alive(self) -> tuple[set[str], set[str]]:
        """Task groups that are streamed from here, and user endpoints that live or are wanted."""
        return self.publisher.groups(), self.delivery.user_endpoints()

    def detach(self, connection: int) -> None:
        """The connection is closed."""
        self._outboxes.pop(connection, None)

    def keeps_payload(self, size: int) -> bool:
        """Whether the arguments of a new task may stay in memory."""
        return size <= KEEP_PAYLOAD and self.delivery.unfinished() < KEEP_TASKS

    def apply(self, event: events.Event) -> None:
        """Tell delivery what happened, and do what it wants."""
        for instruction in self.delivery.handle(event, self._clock()):
            self._perform(instruction)
        self._set_alarm()

    async def close(self) -> None:
        """Say goodbye on every link and finish what was begun.

        What the disk does not take is left to whoever takes up these tasks next.
        """
        self._closing = True
        if self._alarm is not None:
            self._alarm.cancel()
        for outbox in list(self._outboxes.values()):
            outbox.goodbye("The relay restarts.", GOODBYE_RETRY_S)
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=5)

    def _perform(self, instruction: instructions.Instruction) -> None:
        match instruction:
            case instructions.CommitResults():
                self._spawn(self._commit(instruction))
            case instructions.SignStart():
                self._spawn(self._start(instruction))
            case instructions.PublishStates(group_id, changes):
                if not self.publisher.states(group_id, changes):
                    self._teller.moved(group_id, changes)
            case _:
                self._send(instruction)

    def _send(self, instruction: instructions.LinkInstruction) -> None:
        outbox = self._outboxes.get(instruction.connection)
        if outbox is None:
            return
        match instruction:
            case instructions.SendTasks():
                outbox.put(lambda: self._tasks(instruction))
            case instructions.SendCommitted(_, task_ids):
                outbox.put(to_endpoint.Committed(task_ids))
            case instructions.SendCancel(_, task_ids):
                outbox.put(to_endpoint.Cancel(task_ids))
            case instructions.SendMayLeave():
                outbox.put(to_endpoint.MayLeave())
            case instructions.CloseLink(_, code, reason) if code == TRY_AGAIN:
                outbox.goodbye(reason, STORE_RETRY_S)
            case instructions.CloseLink(_, code, reason):
                outbox.close(code, reason)

    async def _tasks(self, instruction: instructions.SendTasks) -> to_endpoint.Tasks:
        functions = [await self.bodies.get(each) for each in instruction.function_ids]
        on_disk = [
            call.task_id for call in instruction.calls if call.payload is None and not call.blob
        ]
        payloads = await self._store.tasks.payloads(on_disk) if on_disk else {}
        tasks = []
        for call in instruction.calls:
            payload = call.payload
            if payload is None:
                payload = b"" if call.blob else payloads.get(call.task_id)
            if payload is not None:
                tasks.append(_task(call, payload))
        return to_endpoint.Tasks(tuple(functions), tuple(tasks))

    async def _commit(self, wanted: instructions.CommitResults) -> None:
        now, endings = self._clock(), wanted.endings
        rows = [
            Ending(result, call.dispatched, now, call.waited, call.blob.id if call.blob else None)
            for call, result in endings
        ]
        task_ids = tuple(call.task_id for call, _ in endings)
        news = self._sender.news(endings, now) if self._sender else ()
        notes = self._teller.ended(call.group_id for call, _ in endings)
        try:
            places = await self._store.tasks.end(rows, news, notes)
        except Exception as error:
            if not isinstance(error, StoreError):
                log.exception("%d results could not be stored", len(rows))
            elif self._unstored_told.due():
                log.warning("%d results could not be stored: %s", len(rows), error)
            if wanted.own:
                self._later(lambda: self._commit(wanted))
            else:
                self.apply(events.ResultsNotCommitted(task_ids))
            return
        self.apply(events.ResultsCommitted(task_ids))
        if self._sender and news:
            self._sender.stored(news)
        self.ended.update(result.outcome for _, result in endings)
        for (call, result), seq in zip(endings, places, strict=True):
            self.publisher.result(call.group_id, Delivered(seq, result))

    def _later(self, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        def again() -> None:
            if not self._closing:
                self._spawn(job())

        asyncio.get_running_loop().call_later(STORE_RETRY_S, again)

    async def _start(self, wanted: instructions.SignStart) -> None:
        if not self.delivery.expects_start(wanted.user_endpoint_id, wanted.nonce):
            return
        try:
            start = await self._sign(wanted)
        except StoreError as error:
            if self._waiting_told.due():
                log.warning("the start of %s waits: %s", wanted.user_endpoint_id, error)
            self.apply(events.StartPostponed(wanted.user_endpoint_id, wanted.nonce))
            self._later(lambda: self._start(wanted))
            return
        except Exception:
            log.exception("no grant for user endpoint %s", wanted.user_endpoint_id)
            message = "The relay could not sign the start; its administrator finds why in the log."
            self.apply(
                events.StartUnsigned(
                    wanted.user_endpoint_id, wanted.nonce, codes.START_FAILED, message
                )
            )
            return
        outbox = self._outboxes.get(wanted.connection)
        if outbox and self.delivery.expects_start(wanted.user_endpoint_id, wanted.nonce):
            outbox.put(start)

    async def _sign(self, wanted: instructions.SignStart) -> to_manager.Start:
        record = await self._store.starts.user_endpoint(wanted.user_endpoint_id)
        now = self._clock()
        grant = grants.Grant(
            endpoint_id=record.endpoint_id,
            user_endpoint_id=record.id,
            identities=self._provider.identity_set(record.user),
            options=record.options,
            runtime=record.runtime,
            boot_id=wanted.boot_id,
            nonce=wanted.nonce,
            issued=int(now),
            key_version=record.key_version,
        ).encode()
        key = grants.grant_key(self._master, record.endpoint_id, record.key_version)
        token = digest(grants.token(key, grant))
        await self._store.starts.expect(record.id, token, wanted.nonce, now)
        log.info("start of %s for %s signed", record.id, record.user.username)
        return to_manager.Start(
            record.id,
            wanted.nonce,
            grant,
            grants.signature(key, grant),
            record.options,
            record.runtime,
            wanted.tasks,
        )

    def _spawn(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    def _set_alarm(self) -> None:
        deadline = self.delivery.next_deadline()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if deadline is not None:
            loop = asyncio.get_running_loop()
            delay = max(0.0, deadline - self._clock())
            self._alarm = loop.call_later(delay, self.apply, events.TimePassed())


def _task(call: Call, payload: bytes) -> Task:
    return Task(
        call.task_id,
        call.function_id,
        call.group_id,
        payload,
        call.resource_specification,
        call.result_serializers,
        call.blob,
    )
