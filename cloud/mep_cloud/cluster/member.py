"""One of several relay processes: what is at home here, and what others are told and asked."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from mep_cloud.cluster import notes, seal
from mep_cloud.cluster.census import Census, Findings
from mep_cloud.cluster.homes import Homes
from mep_cloud.cluster.keeper import Adopt, Apply, Bury, Keeper, Load
from mep_cloud.cluster.questions import Questions
from mep_cloud.cluster.teller import Teller
from mep_cloud.cluster.watch import Watch
from mep_cloud.delivery import events
from mep_cloud.delivery.state import Call
from mep_cloud.errors import StoreError
from mep_cloud.hub import Hub
from mep_cloud.store import Store

log = logging.getLogger(__name__)

LEAVE_S: Final = 5.0
CLAIMS: Final = 3
"""Attempts to find out whose an endpoint is; a process that had it may have ended just then."""


class Member:
    """One process among the others.

    Args:
        store: open, shared with the other processes.
        hub: delivers what is at home here.
        teller: begins to tell as soon as this process is a member.
        master: the credential that all of them have, and nobody else.
        url: how the others reach this process.
        lease_s: seconds without a sign of life after which a process is fenced off.
        heard: called with notes that concern what this process remembers or streams.
        lost: called with the reason when this process can no longer be one of them.
    """

    def __init__(
        self,
        store: Store,
        hub: Hub,
        teller: Teller,
        *,
        master: bytes,
        url: str,
        lease_s: float,
        heard: Callable[[notes.AnyNote], None],
        lost: Callable[[str], None],
    ) -> None:
        self._store = store
        self._hub = hub
        self._teller = teller
        self._master = master
        self._url = url
        self._lease_s = lease_s
        self._heard = heard
        self._lost = lost
        self._over = False
        self._told: dict[str, tuple[bool, bool]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self.homes = Homes(0)
        self._keeper = Keeper(store, hub, self.homes, teller, master)
        self._questions = Questions(hub.delivery, self.homes, teller)

    async def start(self) -> None:
        """Join the others, and deliver what nobody delivers.

        Raises:
            StoreError: the database cannot be used.
        """
        await self._check_others()
        listening = await self._store.notifications()
        self.homes.number = await self._store.processes.join(
            self._url, seal.of(self._master, self._url)
        )
        self._teller.begin(self.homes.number, self._store.processes)
        census = Census(self.homes.number, self._lease_s)
        watch = Watch(listening, census, self._hear, self._look)
        await watch.turn()
        self._spawn(watch.run())
        self._spawn(self._keeper.run())
        adopted = asyncio.get_running_loop().create_future()
        self._keeper.put(Adopt(adopted))
        await asyncio.wait([adopted, *self._running], return_when=asyncio.FIRST_COMPLETED)
        log.info("this is relay process %d, at %s", self.homes.number, self._url)

    async def _check_others(self) -> None:
        for url, mark in await self._store.processes.addresses():
            if not seal.genuine(self._master, url, mark):
                raise StoreError(
                    f"The relay process at {url} has another master.key than this one. All of them "
                    "have the same: copy one data directory for the others."
                )

    async def close(self) -> None:
        """Give up all homes, for the others to take over."""
        running = list(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        await self._teller.close()
        number = self.homes.number
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._store.processes.leave(number, self._teller.gone(number))
        except (StoreError, SQLAlchemyError, TimeoutError) as error:
            log.warning("the other processes find out by themselves that this one ended: %s", error)

    def here(self, endpoint_id: str) -> bool:
        """Whether this process delivers the endpoint's tasks, and knows all earlier ones."""
        return self.homes.here(endpoint_id)

    async def elsewhere(self, endpoint_id: str) -> str | None:
        """URL of the process that delivers the endpoint's tasks; None: this one does.

        Raises:
            StoreError: it cannot be said now.
        """
        for _ in range(CLAIMS):
            if self.homes.here(endpoint_id):
                return None
            url = self.homes.elsewhere(endpoint_id)
            if url is not None:
                return url
            # Others wait for the same claim: one that is cancelled leaves it alone.
            await asyncio.shield(self._keeper.claim(endpoint_id))
        raise StoreError(f"the home of endpoint {endpoint_id} changes too often")

    def stored(self, endpoint_id: str, task_ids: Sequence[str]) -> None:
        """Tasks of an endpoint that was not at home here are on disk, and were announced."""
        if self.homes.mine(endpoint_id):
            self._keeper.put(Load(tuple(task_ids)))
        elif self.homes.elsewhere(endpoint_id) is None:
            self._keeper.claim(endpoint_id)

    async def unended(self, task_ids: Sequence[str]) -> tuple[str, ...]:
        """Which of these tasks have not ended."""
        here = {each for each in task_ids if self._hub.delivery.task_state(each) is not None}
        others = [each for each in task_ids if each not in here]
        there = await self._store.tasks.unended(others) if others else set()
        return tuple(each for each in task_ids if each in here or each in there)

    async def calls(self, task_ids: Sequence[str]) -> dict[str, Call]:
        """What is known of these tasks while they have not ended; only as far as one can say."""
        own = {each: self._hub.delivery.task_call(each) for each in task_ids}
        asked = await self._questions.ask([each for each, call in own.items() if call is None])
        return asked | {each: call for each, call in own.items() if call is not None}

    async def unfinished_at(self, endpoint_id: str) -> int:
        """Tasks of one endpoint that have not ended."""
        if self.homes.here(endpoint_id):
            return self._hub.delivery.unfinished_at(endpoint_id)
        return await self._store.tasks.count_unfinished(endpoint_id)

    async def site_online(self, endpoint_id: str) -> tuple[bool, bool]:
        """Whether the endpoint's manager is connected, and whether its warden is."""
        if self.homes.here(endpoint_id):
            return self._hub.delivery.site_online(endpoint_id)
        return await self._store.processes.online(endpoint_id)

    def cancelled(self, task_ids: tuple[str, ...]) -> None:
        """The owner no longer wants these tasks; the wish is on disk."""
        self._keeper.put(Apply(events.CancelRequested(task_ids)))
        self._teller.cancelled(task_ids)

    def removed(self, endpoint_id: str) -> None:
        """An endpoint was deleted."""
        self._keeper.put(Apply(events.EndpointRemoved(endpoint_id)))
        self._teller.removed(endpoint_id)

    def site_changed(self, endpoint_id: str) -> None:
        """A manager or warden came or went."""
        online = self._hub.delivery.site_online(endpoint_id)
        if self._told.get(endpoint_id, (False, False)) != online:
            self._told[endpoint_id] = online
            self._spawn(self._tell_online(endpoint_id, *online))

    async def _tell_online(self, endpoint_id: str, manager: bool, warden: bool) -> None:
        await self._store.processes.connected(endpoint_id, manager=manager, warden=warden)

    def _hear(self, note: notes.AnyNote) -> None:
        match note:
            case notes.Gone(_, number):
                if self.homes.gone(number):
                    log.info("relay process %d has ended", number)
                self._keeper.put(Adopt())
            case notes.Submitted(_, endpoint_id, task_ids):
                if self.homes.mine(endpoint_id):
                    self._keeper.put(Load(task_ids))
            case notes.Cancelled(_, task_ids):
                self._keeper.put(Apply(events.CancelRequested(task_ids)))
            case notes.Removed(_, endpoint_id):
                self._keeper.put(Apply(events.EndpointRemoved(endpoint_id)))
            case notes.Asked():
                self._questions.asked(note)
            case notes.Told():
                self._questions.told(note)
            case _:
                self._heard(note)

    def _look(self, findings: Findings) -> None:
        for row in findings.alive:
            if seal.genuine(self._master, row.url, row.seal):
                self.homes.joined(row.number, row.url)
        for number in findings.dead:
            self._keeper.put(Bury(number))
        listed = {*findings.dead, *(row.number for row in findings.alive)}
        for number in set(self.homes.peers) - listed:
            self.homes.gone(number)
            self._keeper.put(Adopt())

    def _spawn(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(job)
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not self._over:
            self._over = True
            surprise = None if isinstance(error, StoreError) else error
            log.error("this relay process must end: %s", error, exc_info=surprise)
            self._lost(str(error))
