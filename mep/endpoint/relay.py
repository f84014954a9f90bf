"""The user endpoint's link to the relay: sends what is ready, as soon as it is."""

import asyncio
import platform
from collections.abc import Awaitable, Callable, Iterable

from mep import __version__
from mep.endpoint.custody import Custody
from mep.endpoint.outbox import Outbox
from mep.link import Link, Peer
from mep.wire import PROTOCOL
from mep.wire.tasks import Result
from mep.wire.to_endpoint import PATH, Credit, EndpointHello, Leaving, ToEndpoint, to_endpoint


class Relay:
    """One user endpoint's connection, over all reconnections.

    Args:
        peer: where the relay is.
        token: the derived token; goes nowhere but into the Authorization header.
        user_endpoint_id: names this endpoint in the hello.
        custody: asked at each connection for what is held.
        outbox: emptied as fast as the link takes it.
        sendable: of results that are to be sent again, those that can be sent now.
        receive: called with each message of the relay.
        changed: called when the link comes and goes.
    """

    def __init__(
        self,
        peer: Peer,
        token: str,
        user_endpoint_id: str,
        custody: Custody,
        outbox: Outbox,
        sendable: Callable[[Iterable[Result]], Iterable[Result]],
        receive: Callable[[ToEndpoint], Awaitable[None]],
        changed: Callable[[bool], None],
    ) -> None:
        self._user_endpoint_id = user_endpoint_id
        self._custody = custody
        self._outbox = outbox
        self._sendable = sendable
        self._changed = changed
        self._ready = asyncio.Event()
        self._link: Link[ToEndpoint] = Link(
            peer,
            PATH,
            token=lambda: token,
            hello=self._hello,
            decoder=to_endpoint,
            receive=receive,
            changed=self._link_changed,
        )

    @property
    def up(self) -> bool:
        """Whether the link is open."""
        return self._link.up

    async def run(self) -> None:
        """Keep the link and send until closed.

        Raises:
            LinkRefused: the relay will not have this endpoint.
        """
        tasks = {asyncio.create_task(self._link.run()), asyncio.create_task(self._send_all())}
        ended, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        for task in ended:
            task.result()

    def wake(self) -> None:
        """There is something to send."""
        self._ready.set()

    async def ask_to_leave(self, reason: str) -> bool:
        """Ask the relay; False when the link is down."""
        return await self._link.send(Leaving(reason))

    async def renew(self) -> None:
        """Say anew what is held."""
        await self._link.renew()

    def retry_after(self, seconds: float) -> None:
        """The relay closes; come back then."""
        self._link.retry_after(seconds)

    async def close(self) -> None:
        """End the link."""
        await self._link.close()

    def _hello(self) -> EndpointHello:
        self._outbox.reconnect(self._sendable(self._custody.unacknowledged))
        return EndpointHello(
            PROTOCOL,
            self._user_endpoint_id,
            __version__,
            platform.python_version(),
            self._custody.opening_credit(),
            self._custody.held,
        )

    def _link_changed(self, up: bool) -> None:
        if up:
            self.wake()
        self._changed(up)

    async def _send_all(self) -> None:
        while True:
            await self._ready.wait()
            self._ready.clear()
            while self._link.up and await self._send_next():
                pass

    async def _send_next(self) -> bool:
        """Send one message; False when there is none. What a lost link swallows is sent again by
        the next connection.
        """
        batch = self._outbox.next_batch()
        if batch is not None:
            await self._link.send(batch)
            return True
        due = self._custody.credit_due()
        return due > 0 and await self._link.send(Credit(due))
