"""The relay's parts, joined: what every handler works with."""

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final, Self

from mep.wire import codes
from mep_cloud import access, settings
from mep_cloud.acknowledgements import Acknowledgements
from mep_cloud.attempts import Bounds
from mep_cloud.auth import Gatekeeper, Provider, provider_of
from mep_cloud.blobs.directory import Directory
from mep_cloud.blobs.keeper import Keeper
from mep_cloud.cluster import peers
from mep_cloud.cluster.alone import Alone
from mep_cloud.cluster.member import Member
from mep_cloud.cluster.teller import Teller
from mep_cloud.errors import HomeError, Refusal
from mep_cloud.home import Home
from mep_cloud.hooks.sender import Sender
from mep_cloud.hub import Hub
from mep_cloud.identity.providers import Providers
from mep_cloud.memory import Memory
from mep_cloud.metrics import Metrics
from mep_cloud.presence import Presences
from mep_cloud.queues import Queues
from mep_cloud.rates import Rates
from mep_cloud.store import Store
from mep_cloud.store.address import address
from mep_cloud.store.records import EndpointRecord, FunctionRecord, Policy, User
from mep_cloud.streams import Streams
from mep_cloud.sweeper import Sweeper

log = logging.getLogger(__name__)

MEMORY_S: Final = 60.0
MEMORY_SIZE: Final = 10_000


class Relay:
    """One relay process over one data directory. Use it as an asynchronous context manager.

    Args:
        directory: the data directory.
        url: where this process listens: how the others reach it, unless the settings say.
    """

    def __init__(self, directory: Path, url: str = "") -> None:
        self._home = Home(directory)
        self._home.check()
        self.settings = settings.load(self._home.settings)
        self.master = self._home.master()
        self.store = Store(address(self._home, self.settings.database))
        if self.settings.cluster.enabled and not self.settings.database.url:
            raise HomeError(
                "[cluster] is enabled, and SQLite serves one process. Name a PostgreSQL database "
                "in [database] url, or leave [cluster] out."
            )
        self.metrics_token = self._home.metrics_token()
        self.draining = False
        """The relay is about to end: it should get no new clients."""
        self.teller = Teller()
        forgotten = self.teller.forget
        self.attempts = Bounds()
        self.streams = Streams(self.teller.revoked)
        bounds = self.settings.limits
        self.rates = Rates(bounds.rate_requests, bounds.rate_period_s)
        self.queues = Queues(bounds.queue_depth)
        self.acknowledgements = Acknowledgements(self.store.tasks)
        self.functions: Memory[str, FunctionRecord] = Memory(
            self.store.functions.get,
            seconds=MEMORY_S,
            size=MEMORY_SIZE,
            told=partial(forgotten, "functions"),
        )
        self.endpoints: Memory[str, EndpointRecord] = Memory(
            self.store.endpoints.get,
            seconds=MEMORY_S,
            size=MEMORY_SIZE,
            told=partial(forgotten, "endpoints"),
        )
        self.policies: Memory[str, Policy] = Memory(
            self.store.policies.get,
            seconds=MEMORY_S,
            size=MEMORY_SIZE,
            told=partial(forgotten, "policies"),
        )
        self.group_owners: Memory[str, str] = Memory(
            self.store.tasks.group_owner, seconds=MEMORY_S, size=MEMORY_SIZE
        )
        self.presences = Presences(self.store.endpoints, time.time)
        self.sender = Sender(
            self.store.webhooks,
            self.settings.hooks,
            self.master,
            time.time,
            told=partial(forgotten, "webhooks", None),
        )
        self.peer_url = self.settings.cluster.url or url
        """How other relay processes reach this one."""
        several = self.settings.cluster.enabled
        self.peer_tls = peers.context(self.settings.cluster) if several else None
        """How other relay processes are known."""
        self.cluster: Alone | Member
        self.provider: Provider
        self.others: Providers
        self.gatekeeper: Gatekeeper
        self.hub: Hub
        self.lost: asyncio.Future[str]
        """Done, with the reason, when the database is gone: the process is to end then."""
        self.metrics: Metrics
        self.blobs = Keeper(self.store.blobs, self._blob_directory(), self.settings.blobs)
        self._sweeping: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._home.claim()
        self._blob_directory().prepare()
        await self.store.reachable()
        if made := self.store.migrate():
            log.warning("the database was brought up to date: %s", ", ".join(made))
        self.lost = self.store.serve(shared=self.settings.cluster.enabled)
        self.provider = await provider_of(self.store)
        self.others = Providers(self.provider, self.settings, self._home, self.store)
        self.gatekeeper = Gatekeeper(
            self.store, self.others, told=partial(self.teller.forget, "tokens", None)
        )
        self.hub = Hub(
            self.store,
            self.master,
            self.provider,
            self.settings.limits,
            sender=self.sender,
            teller=self.teller,
        )
        self.cluster = self._member() if self.settings.cluster.enabled else Alone(self.hub)
        self.metrics = Metrics(self.hub, self.cluster.homes)
        await self.sender.start()
        await self.cluster.start()
        bounds = self.settings.limits
        sweeper = Sweeper(self.store, self.hub, bounds, self.blobs, self.streams)
        self._sweeping = asyncio.create_task(sweeper.run())
        log.info("%d unfinished tasks taken up", self.hub.delivery.unfinished())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sweeping.cancel()
        await asyncio.wait([self._sweeping])
        await self.hub.close()
        await self.sender.close()
        await self.others.close()
        await self.presences.close()
        await self.acknowledgements.close()
        await self.cluster.close()
        await self.store.close()
        self._home.release()

    def _blob_directory(self) -> Directory:
        named = self.settings.blobs.directory
        return Directory(Path(named) if named else self._home.blobs)

    def _member(self) -> Member:
        heard = peers.Hearing(
            publisher=self.hub.publisher,
            gatekeeper=self.gatekeeper,
            streams=self.streams,
            sender=self.sender,
            memories={
                "functions": self.functions,
                "endpoints": self.endpoints,
                "policies": self.policies,
            },
        )
        return Member(
            self.store,
            self.hub,
            self.teller,
            master=self.master,
            url=self.peer_url,
            lease_s=self.settings.cluster.lease_s,
            heard=heard.heard,
            lost=self._lose,
        )

    def _lose(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)

    async def cancel(self, task_ids: Sequence[str]) -> tuple[str, ...]:
        """Cancel those of these tasks that have not ended; which these are."""
        running = await self.cluster.unended(task_ids)
        await self.store.tasks.request_cancel(running, time.time())
        if running:
            self.cluster.cancelled(running)
        return running

    async def endpoint(self, endpoint_id: str) -> EndpointRecord:
        """A registered endpoint.

        Raises:
            Refusal: 404.
        """
        record = await self.endpoints.get(endpoint_id)
        if record is None:
            message = f"There is no endpoint {endpoint_id} at this relay. Check the id."
            raise Refusal(404, codes.ENDPOINT_NOT_FOUND, message)
        return record

    async def check_policy(self, endpoint: EndpointRecord, user: User) -> None:
        """Whether `user` is what the endpoint's authentication policy demands.

        Raises:
            Refusal: 403.
        """
        policy_id = endpoint.registration.authentication_policy
        if policy_id is not None:
            policy = await self.policies.get(policy_id)
            access.check_policy(policy, user, self.provider.identity_set(user), time.time())

    async def function(self, function_id: str) -> FunctionRecord:
        """A registered function.

        Raises:
            Refusal: 404.
        """
        record = await self.functions.get(function_id)
        if record is None:
            message = f"There is no function {function_id} at this relay. Register it first."
            raise Refusal(404, codes.FUNCTION_NOT_FOUND, message)
        return record
