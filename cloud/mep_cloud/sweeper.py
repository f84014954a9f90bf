"""What time does, once a minute: tasks exceed their time-to-live and results their retention.

Files, task groups and user endpoints that no task needs, bodies of deleted functions, old actions,
and whatever expired by itself are removed. Streams of logins that have ended otherwise than here,
as by the command line, are noticed too.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from mep_cloud.blobs.keeper import Keeper
from mep_cloud.delivery import events
from mep_cloud.errors import StoreError
from mep_cloud.hub import Hub
from mep_cloud.settings import Limits
from mep_cloud.settings.limits import PLAUSIBLE_S
from mep_cloud.store import Store
from mep_cloud.store.expiry import LATE_S
from mep_cloud.store.parents import FRESH_S, SPARED_S
from mep_cloud.store.task_rows import REPEATABLE_S
from mep_cloud.streams import Streams

log = logging.getLogger(__name__)

SWEEP_S: Final = 60.0


class Sweeper:
    """Ends, drops and forgets what is due."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        bounds: Limits,
        blobs: Keeper,
        streams: Streams,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._blobs = blobs
        self._streams = streams
        self._store = store
        self._hub = hub
        self._bounds = bounds
        self._clock = clock
        self._kept = float("-inf")
        """When what lives was last kept."""

    async def run(self) -> None:
        """Sweep for ever. What fails is logged and tried again at the next turn."""
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self.sweep()
            except StoreError as error:
                log.warning("the sweep could not be finished: %s", error)
            except Exception:
                log.exception("the sweep could not be finished")

    async def sweep(self) -> None:
        """Do what is due now."""
        now = self._clock()
        await self._end_overdue(now - self._bounds.task_ttl_s)
        # An endpoint was deleted while a task came for it, or the relay died before they ended.
        for endpoint_id in await self._store.expiry.homeless(now - self._bounds.task_ttl_s):
            self._hub.apply(events.EndpointRemoved(endpoint_id))
        await self._drop_results(now - self._bounds.result_retention_s - PLAUSIBLE_S)
        while await self._store.expiry.forget(now - self._bounds.record_retention_s):
            pass
        while await self._store.expiry.forget_submits(now - REPEATABLE_S):
            pass
        # By then nothing is known of the tasks of an action that is so old.
        kept = self._bounds.task_ttl_s + self._bounds.record_retention_s
        while await self._store.actions.forget(now - kept):
            pass
        await self._keep_what_lives(now)
        # What was not used for longer is not named by anything that is kept.
        unused = now - kept - SPARED_S
        while await self._store.expiry.forget_groups(unused, now):
            pass
        while await self._store.expiry.forget_user_endpoints(unused, now):
            pass
        while await self._store.expiry.forget_bodies(now - LATE_S):
            pass
        await self._store.sessions.forget(now)
        if open_ := self._streams.stored:
            self._streams.again(await self._store.sessions.over(open_))
        await self._blobs.sweep()

    async def _keep_what_lives(self, now: float) -> None:
        """An executor may wait, and a user endpoint be idle, for months."""
        if abs(now - self._kept) >= FRESH_S:
            await self._store.expiry.keep(*self._hub.alive(), now)
            self._kept = now

    async def _end_overdue(self, before: float) -> None:
        after, more = 0, True
        while more:
            task_ids, visited = await self._store.expiry.overdue(before, after)
            if task_ids:
                self._hub.apply(events.TasksExpired(tuple(task_ids)))
            after, more = visited.last, visited.more

    async def _drop_results(self, before: float) -> None:
        after, more = 0, True
        while more:
            visited = await self._store.expiry.drop_results(before, after)
            after, more = visited.last, visited.more
