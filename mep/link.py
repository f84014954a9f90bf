"""The outbound WebSocket to the relay, kept open: connect, hello, receive, reconnect.

Shared by the manager, the user endpoint and the SDK. The owner supplies a token, a hello and a
handler; the link supplies TLS, proxies, back-off and the decision when trying again is pointless.
Nothing is queued across connections: what must survive one is sent again by the owner after the
next hello, because only the owner knows what the peer has acknowledged.
"""

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from mep.wire import limits
from mep.wire.codec import Decoder, Message, WireError, encode

M = TypeVar("M", bound=Message)

log = logging.getLogger(__name__)

FIRST_RETRY_S: Final = 0.1
LAST_RETRY_S: Final = 30.0
PING_S: Final = 20.0
CLOSE_S: Final = 2.0
"""How long a closing handshake is waited for."""


class LinkRefused(Exception):
    """The relay will not have us, and asking again would not help.

    `status` is the HTTP status of the refusal (401, 403, 404, 426...), or 0 when the peer broke the
    protocol; `message` is the relay's sentence.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Peer:
    """Where the relay is, and how to know it."""

    url: str
    """``https://host[:port]`` or, on loopback or by explicit opt-out, ``http://``."""
    ca_file: str | None = None
    """CA certificates to trust besides the system's."""

    def websocket(self, path: str) -> str:
        """The URL of a link on this relay."""
        return "ws" + self.url.removeprefix("http").rstrip("/") + path

    def tls(self) -> ssl.SSLContext | None:
        """A verifying client context, or None for plain HTTP."""
        if not self.url.startswith("https:"):
            return None
        context = ssl.create_default_context()
        if self.ca_file:
            context.load_verify_locations(self.ca_file)
        return context


class Link(Generic[M]):
    """One link of one owner.

    Args:
        peer: the relay.
        path: for instance :data:`mep.wire.to_manager.PATH`.
        token: called at each connection; goes into the Authorization header, never into a log.
        hello: called at each connection; its message is sent first.
        decoder: what the relay may say on this link.
        receive: called with each message, in order.
        changed: called with True when the hello has been sent, with False when the link is lost.
    """

    def __init__(
        self,
        peer: Peer,
        path: str,
        *,
        token: Callable[[], str],
        hello: Callable[[], Message],
        decoder: Decoder[M],
        receive: Callable[[M], Awaitable[None]],
        changed: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._peer = peer
        self._path = path
        self._token = token
        self._hello = hello
        self._decoder = decoder
        self._receive = receive
        self._changed = changed
        self._socket: Any = None
        self._retry_s = FIRST_RETRY_S
        self._stopping = asyncio.Event()

    @property
    def up(self) -> bool:
        """Whether messages can be sent."""
        return self._socket is not None

    async def run(self) -> None:
        """Keep the link until :meth:`close`.

        Raises:
            LinkRefused: the relay refuses (bad or revoked token, unknown endpoint, other protocol).
        """
        while not self._stopping.is_set():
            try:
                await self._once()
            except (OSError, TimeoutError, EOFError) as error:
                log.info("relay not reachable: %s; next try in %.1f s", error, self._retry_s)
            await self._pause()

    async def send(self, message: Message) -> bool:
        """Send one message; False when the link is down (send again after the next hello)."""
        from websockets.exceptions import ConnectionClosed

        if self._socket is None:
            return False
        try:
            await self._socket.send(encode(message))
        except ConnectionClosed:
            return False
        return True

    def retry_after(self, seconds: float) -> None:
        """Wait this long before the next connection, as the relay's goodbye asked."""
        self._retry_s = min(max(seconds, 0.0), LAST_RETRY_S)

    async def renew(self) -> None:
        """End this connection and open the next one at once, with a hello of its own."""
        self._retry_s = 0.0
        if self._socket is not None:
            await self._socket.close()

    async def close(self) -> None:
        """End the link after what has been sent is on its way."""
        self._stopping.set()
        if self._socket is not None:
            await self._socket.close()

    async def _once(self) -> None:
        from websockets.asyncio.client import connect
        from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

        try:
            socket = await connect(
                self._peer.websocket(self._path),
                additional_headers={"Authorization": f"Bearer {self._token()}"},
                ssl=self._peer.tls(),
                compression=None,
                max_size=limits.LINK_FRAME,
                max_queue=None,
                ping_interval=PING_S,
                close_timeout=CLOSE_S,
                user_agent_header=None,
            )
        except InvalidStatus as error:
            _raise_if_final(error.response.status_code, error.response.body)
            raise OSError(f"HTTP {error.response.status_code}") from error
        except InvalidHandshake as error:
            raise OSError(str(error)) from error
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(socket.close)
            try:
                await socket.send(encode(self._hello()))
                if self._stopping.is_set():  # closed while this was connecting
                    return
                self._socket = socket
                self._changed(True)
                async for frame in socket:
                    self._retry_s = FIRST_RETRY_S
                    await self._receive(self._decode(frame))
            except ConnectionClosed:
                pass
            finally:
                if self._socket is not None:
                    self._socket = None
                    self._changed(False)
        _raise_if_final(_as_status(socket.close_code), (socket.close_reason or "").encode())

    def _decode(self, frame: str | bytes) -> M:
        if isinstance(frame, str):
            raise LinkRefused(0, "the relay sent text where the protocol has only binary frames")
        try:
            return self._decoder.decode(frame)
        except WireError as error:
            raise LinkRefused(0, f"the relay speaks another protocol: {error}") from error

    async def _pause(self) -> None:
        if self._stopping.is_set():
            return
        wait = self._retry_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads reconnections
        self._retry_s = min(max(self._retry_s, FIRST_RETRY_S) * 2, LAST_RETRY_S)
        # In Python 3.10, where the SDK runs too, asyncio's is a class of its own.
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), wait)


def _as_status(close_code: int | None) -> int:
    """The relay closes with 4000 + HTTP status when a refusal comes after the handshake."""
    return close_code - 4000 if close_code is not None and 4400 <= close_code < 4500 else 0


def _raise_if_final(status: int, body: bytes | bytearray | None) -> None:
    """Refusals that do not pass by waiting: 4xx, but for time-out (408) and throttling (429)."""
    if 400 <= status < 500 and status not in (408, 429):
        raise LinkRefused(status, bytes(body or b"").decode("utf-8", "replace")[:500])
