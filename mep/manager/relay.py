"""The link to the relay, kept open even after a refusal.

:class:`mep.link.Link` gives up when the relay refuses, for most owners have nothing else to do. A
manager stays: users' endpoints run beside it, and an administrator can repair a revoked
credential with ``mep register``. So it asks again, rarely, with the credential of that moment.
"""

import asyncio
import contextlib
import logging
import platform
import socket
from collections.abc import Callable, Coroutine
from typing import Final

from mep import __version__
from mep.link import Link, LinkRefused
from mep.manager.records import harmless
from mep.manager.site import SiteConfiguration
from mep.wire import PROTOCOL
from mep.wire.codec import Message
from mep.wire.to_manager import (
    PATH,
    Goodbye,
    ManagerHello,
    Start,
    Stop,
    ToManager,
    Welcome,
    to_manager,
)

log = logging.getLogger(__name__)

REFUSED_RETRY_S: Final = 60.0


class RelayLink:
    """The link, through all configurations.

    Args:
        configuration: called for each new link: relay, endpoint id and credential of that moment.
        received: called with each request of the relay.
        heartbeat: called with the period in seconds that the relay asks for.
        up: called when the hello has been sent.
        down: called when the link is lost.
        refused: called with the relay's words when it will not have us.
    """

    def __init__(
        self,
        configuration: Callable[[], SiteConfiguration],
        *,
        received: Callable[[Start | Stop], None],
        heartbeat: Callable[[float], None],
        up: Callable[[], None],
        down: Callable[[], None],
        refused: Callable[[str], None],
    ) -> None:
        self._configuration = configuration
        self._received = received
        self._heartbeat = heartbeat
        self._up = up
        self._down = down
        self._refused = refused
        self._link: Link[ToManager] | None = None
        self._again = asyncio.Event()
        self._closing = False

    async def run(self) -> None:
        """Keep the link until :meth:`close`."""
        while not self._closing:
            self._again.clear()
            self._link = self._make(self._configuration())
            await self._until_renewed(self._keep(self._link))

    async def _until_renewed(self, keeping: Coroutine[None, None, None]) -> None:
        tasks = (asyncio.create_task(keeping), asyncio.create_task(self._again.wait()))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not tasks[0].cancelled():
            tasks[0].result()

    def renew(self) -> None:
        """Connect anew, with the configuration of this moment."""
        self._again.set()

    async def send(self, message: Message) -> bool:
        """Send one message; False when the link is down."""
        return self._link is not None and await self._link.send(message)

    async def close(self) -> None:
        """Send what is on its way, then close."""
        self._closing = True
        if self._link is not None:
            await self._link.close()

    def _make(self, site: SiteConfiguration) -> Link[ToManager]:
        return Link(
            site.peer,
            PATH,
            token=lambda: site.token,
            hello=lambda: _hello(site.parent.endpoint_id),
            decoder=to_manager,
            receive=self._receive,
            changed=lambda up: self._up() if up else self._down(),
        )

    async def _keep(self, link: Link[ToManager]) -> None:
        try:
            await link.run()
        except LinkRefused as refusal:
            words = str(harmless(refusal.message or f"HTTP {refusal.status}"))
            log.error("the relay refuses this endpoint: %s", words)  # noqa: TRY400 - no traceback
            self._refused(words)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFUSED_RETRY_S):
                    await self._again.wait()

    async def _receive(self, message: ToManager) -> None:
        match message:
            case Welcome(protocol, heartbeat_s):
                log.info("the relay is connected (protocol %d)", protocol)
                self._heartbeat(heartbeat_s)
            case Start() | Stop():
                self._received(message)
            case Goodbye(reason, retry_s):
                log.info("the relay closes: %s", harmless(reason))
                if self._link is not None:
                    self._link.retry_after(retry_s)


def _hello(endpoint_id: str) -> ManagerHello:
    return ManagerHello(
        PROTOCOL, endpoint_id, __version__, platform.python_version(), socket.gethostname()
    )
