"""uvicorn's connections, HTTP and WebSocket, without the faults that would hurt a relay."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

REQUEST_S: Final = 30.0
"""Seconds in which a request's head has to come, from when its connection, or itself, began."""


class Http(HttpToolsProtocol):
    """uvicorn's, but that whoever connects and does not say what they want is not waited for.

    Such connections come of machines that are gone without a word, and of people who would use up
    the relay's open files.
    """

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody has connected."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._end_wait()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something came."""
        super().data_received(data)
        # What begins no request, as an empty line or the rest of a body that nobody wants, ended
        # uvicorn's wait for the next one.
        answered = self.cycle is not None and self.cycle.response_complete
        waits = self._head is not None or self.timeout_keep_alive_task is not None
        if answered and not waits and self in self.connections:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_message_begin(self) -> None:
        """The first byte of a request is there."""
        super().on_message_begin()
        if self._head is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """A request's head is there."""
        self._end_wait()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._head = self.loop.call_later(REQUEST_S, self.transport.abort)

    def _end_wait(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


class WebSockets(WebSocketsSansIOProtocol):
    """uvicorn's, but for three faults.

    Its shutdown fails where the other side is closing at the same moment. It takes a refused
    handshake for one that was forgotten. And it never ends the connection of a peer that neither
    answers pings nor reads, since it waits until that has read all that was sent.
    """

    def keepalive_timeout(self) -> None:
        """A ping was not answered in time."""
        blocked = not self.writable.is_set()
        super().keepalive_timeout()
        if blocked:
            self.transport.abort()

    async def send(self, message: Any) -> None:
        """Send what the application says."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True

    def shutdown(self) -> None:
        """Say that the connection ends, and end it."""
        try:
            super().shutdown()
        except InvalidState:
            self.transport.close()
