"""News of ended tasks to their receivers: at least once, in order, with back-off."""

import asyncio
import contextlib
import logging
import random
import ssl
import uuid
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from mep.wire.tasks import Result
from mep_cloud.delivery.state import Call
from mep_cloud.errors import HomeError, StoreError
from mep_cloud.hooks.addresses import AddressRefused, Networks, target
from mep_cloud.hooks.post import NotDelivered, post
from mep_cloud.hooks.signature import headers, key_of
from mep_cloud.settings import Hooks
from mep_cloud.store.records import News, Webhook
from mep_cloud.store.webhooks import Batch, Webhooks

log = logging.getLogger(__name__)

FIRST_RETRY_S: Final = 2.0
LONGEST_RETRY_S: Final = 900.0
REFRESH_S: Final = 30.0
"""How soon a webhook counts that another process on the same database registered."""
_CLAIM_S: Final = 30.0
"""Beyond a request's time: after it, the request of a process that died is made again."""


def retry_s(attempts: int) -> float:
    """Seconds after so many failures in a row, before chance spreads them."""
    return min(FIRST_RETRY_S * 2.0 ** min(attempts, 20), LONGEST_RETRY_S)


class Sender:
    """Knows who is to be told of a task's end, and tells them.

    Raises:
        HomeError: the CAs of the settings cannot be used.
    """

    def __init__(
        self,
        store: Webhooks,
        settings: Hooks,
        master: bytes,
        clock: Callable[[], float],
        *,
        told: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._master = master
        self._clock = clock
        self._told = told
        self._by_owner: dict[str, dict[str, Webhook]] = {}
        self._changes = 0
        """Webhooks that came or went in this process."""
        self._networks = Networks(settings.allowed_networks, loopback=settings.http_to_loopback)
        self._context = ssl.create_default_context()
        if settings.ca_file:
            try:
                self._context.load_verify_locations(settings.ca_file)
            except OSError as error:
                message = f"ca_file of [hooks], {settings.ca_file}, cannot be used: {error}."
                raise HomeError(message) from error
        self._slots = asyncio.Semaphore(settings.concurrent)
        self._draining: dict[str, asyncio.Task[None]] = {}
        self._more: set[str] = set()
        """Webhooks whose news came after their queue was last looked at."""
        self._look = asyncio.Event()
        self._refreshing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up what waits since the relay last stopped."""
        await self._store.sweep()
        await self._refresh()
        self._refreshing = asyncio.create_task(self._refresh_for_ever())

    async def close(self) -> None:
        """Stop; what was not delivered waits in the store."""
        running = [*self._draining.values()]
        if self._refreshing is not None:
            running.append(self._refreshing)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    def added(self, webhook: Webhook) -> None:
        """It is to be told from now on."""
        self._by_owner.setdefault(webhook.owner, {})[webhook.id] = webhook
        self._changes += 1
        self._told()

    def removed(self, webhook_id: str, owner: str) -> None:
        """It is not to be told any more."""
        self._by_owner.get(owner, {}).pop(webhook_id, None)
        self._changes += 1
        self._told()

    def changed(self) -> None:
        """Another process added or removed webhooks."""
        self._look.set()

    def news(self, endings: Iterable[tuple[Call, Result]], now: float) -> list[News]:
        """What is to be stored together with these results."""
        if not self._by_owner:
            return []
        return [
            News(each.id, call.task_id, call.group_id, result.outcome, result.ended or now, now)
            for call, result in endings
            for each in self._by_owner.get(call.owner, {}).values()
            if each.task_group_id in (None, call.group_id)
        ]

    def stored(self, news: Iterable[News]) -> None:
        """These news are on disk."""
        for webhook_id in {each.webhook_id for each in news}:
            self._drain_soon(webhook_id)

    async def _refresh_for_ever(self) -> None:
        while True:
            # Not wait_for: in Python 3.11 that may drop a cancellation, and close() wait for ever.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S):
                    await self._look.wait()
            self._look.clear()
            try:
                await self._refresh()
            except StoreError as error:
                log.warning("webhooks could not be read: %s", error)
            except Exception:
                log.exception("webhooks could not be read")

    async def _refresh(self) -> None:
        # One that came while all were read may be missing among them: its news would be lost.
        changes, webhooks = -1, list[Webhook]()
        while changes != self._changes:
            changes = self._changes
            webhooks = await self._store.all()
        by_owner: dict[str, dict[str, Webhook]] = {}
        for webhook in webhooks:
            by_owner.setdefault(webhook.owner, {})[webhook.id] = webhook
            self._drain_soon(webhook.id)
        self._by_owner = by_owner

    def _drain_soon(self, webhook_id: str) -> None:
        self._more.add(webhook_id)
        if webhook_id not in self._draining:
            draining = self._drain(webhook_id)
            self._draining[webhook_id] = asyncio.get_running_loop().create_task(draining)

    async def _drain(self, webhook_id: str) -> None:
        """Send until nothing waits."""
        try:
            while webhook_id in self._more:
                self._more.discard(webhook_id)
                await self._send_all(webhook_id)
        except StoreError as error:  # it is closed; or fails, and the next refresh goes on
            log.info("webhook %s waits: %s", webhook_id, error)
        finally:
            del self._draining[webhook_id]

    async def _send_all(self, webhook_id: str) -> None:
        while True:
            now = self._clock()
            until = now + self._settings.timeout_s + _CLAIM_S
            async with self._slots:
                claimed = await self._store.claim(webhook_id, now, until)
                if isinstance(claimed, Batch):
                    await self._send(claimed)
                    continue
            if claimed is None:
                return
            await asyncio.sleep(max(0.05, claimed - now))

    async def _send(self, batch: Batch) -> None:
        webhook = batch.webhook
        now = self._clock()
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                await self._post(batch, now)
        except TimeoutError:
            await self._failed(batch, "The receiver did not answer in time.")
        except (NotDelivered, AddressRefused) as error:
            await self._failed(batch, str(error))
        else:
            await self._store.taken(batch)
            log.debug("webhook %s: %d news delivered", webhook.id, len(batch.news))

    async def _post(self, batch: Batch, now: float) -> None:
        webhook = batch.webhook
        where = target(webhook.url, http_to_loopback=self._settings.http_to_loopback)
        message_id = str(uuid.uuid5(uuid.UUID(webhook.id), str(batch.through)))
        body = body_of(webhook.id, message_id, batch.news)
        signed = headers(key_of(self._master, webhook.id), message_id, now, body)
        await post(where, self._networks, self._context, signed, body)

    async def _failed(self, batch: Batch, why: str) -> None:
        now = self._clock()
        wait = retry_s(batch.webhook.attempts) * random.uniform(0.8, 1.2)  # noqa: S311
        log.info("webhook %s: %s Again in %.0f s", batch.webhook.id, why, wait)
        give_up_before = now - self._settings.give_up_s
        await self._store.not_taken(batch, why, now + wait, give_up_before=give_up_before)


def body_of(webhook_id: str, message_id: str, news: Iterable[News]) -> bytes:
    """What a receiver gets."""
    tasks = [
        {
            "task_id": each.task_id,
            "task_group_id": each.task_group_id,
            "state": each.state,
            "ended": each.ended,
        }
        for each in news
    ]
    return msgspec.json.encode(
        {"type": "tasks.ended", "id": message_id, "webhook_id": webhook_id, "tasks": tasks}
    )
