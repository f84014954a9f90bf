"""When each endpoint's manager was last heard: in memory, and now and then on disk."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from mep_cloud.errors import StoreError
from mep_cloud.store.endpoints import Endpoints
from mep_cloud.store.records import Presence

log = logging.getLogger(__name__)

WRITE_S: Final = 300.0
"""A living manager's heartbeat is written this often: thousands of them cost no disk."""


class Presences:
    """Heartbeats of the managers that are connected here."""

    def __init__(self, endpoints: Endpoints, clock: Callable[[], float]) -> None:
        self._endpoints = endpoints
        self._clock = clock
        self._live: dict[str, tuple[Presence, float]] = {}
        """Endpoint id -> what is known, and when that was last written."""
        self._writes: set[asyncio.Task[None]] = set()

    def arrived(self, endpoint_id: str, version: str, python: str, hostname: str) -> None:
        """A manager said hello."""
        presence = Presence(self._clock(), version[:64], python[:64], hostname[:255])
        self._write(endpoint_id, presence)

    def heard(self, endpoint_id: str) -> None:
        """A manager said something."""
        known = self._live.get(endpoint_id)
        if known is None:
            return
        presence, written = known
        presence = replace(presence, last_heartbeat=self._clock())
        if presence.last_heartbeat - written >= WRITE_S:
            self._write(endpoint_id, presence)
        else:
            self._live[endpoint_id] = presence, written

    def left(self, endpoint_id: str) -> None:
        """A manager's link ended: what was heard last is written."""
        known = self._live.pop(endpoint_id, None)
        if known is not None:
            self._spawn(endpoint_id, known[0])

    async def of(self, endpoint_id: str) -> Presence | None:
        """What is known of an endpoint's manager; None: it never connected."""
        known = self._live.get(endpoint_id)
        return known[0] if known else await self._endpoints.presence(endpoint_id)

    async def close(self) -> None:
        """Finish what is being written."""
        for endpoint_id in list(self._live):
            self.left(endpoint_id)
        if self._writes:
            await asyncio.wait(self._writes)

    def _write(self, endpoint_id: str, presence: Presence) -> None:
        self._live[endpoint_id] = presence, presence.last_heartbeat
        self._spawn(endpoint_id, presence)

    def _spawn(self, endpoint_id: str, presence: Presence) -> None:
        task = asyncio.get_running_loop().create_task(self._store(endpoint_id, presence))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def _store(self, endpoint_id: str, presence: Presence) -> None:
        try:
            await self._endpoints.heard(endpoint_id, presence)
        except StoreError as error:
            log.info("the heartbeat of endpoint %s was not stored: %s", endpoint_id, error)
