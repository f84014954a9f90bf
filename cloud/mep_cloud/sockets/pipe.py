"""Hands a link on to the relay process where its endpoint is at home, frame by frame.

The peer's own credential goes along, and is checked there as if the peer had come by itself: this
process vouches for nothing. The other process is known by its certificate.
"""

import asyncio
import contextlib
import logging
import ssl
from typing import Final

from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from mep.wire import limits
from mep_cloud.errors import StoreError
from mep_cloud.outbox import SERVICE_RESTART
from mep_cloud.relay import Relay

log = logging.getLogger(__name__)

FORWARDED: Final = "mep-forwarded"
"""Header of a link that was handed on: it is not handed on again."""
PING_S: Final = 20.0
OPEN_S: Final = 5.0
CLOSE_S: Final = 2.0
_ABNORMAL: Final = (1005, 1006)
"""Close codes that no frame may carry."""


async def handed_on(websocket: WebSocket, relay: Relay, endpoint_id: str) -> bool:
    """Whether this link was none for this process: then it is over now.

    The peer tries again by itself after a 503, and after the close code of a restart.
    """
    if relay.draining:
        await _unavailable(websocket, "The relay restarts.")
        return True
    try:
        url = await relay.cluster.elsewhere(endpoint_id)
    except StoreError as error:
        log.warning("a link was not taken: %s", error)
        await _unavailable(websocket, "The endpoint's relay process cannot be found now.")
        return True
    if url is None:
        return False
    if FORWARDED in websocket.headers:
        await _unavailable(websocket, "The endpoint is at home in another relay process.")
        return True
    await _pipe(websocket, url, relay.peer_tls if url.startswith("https:") else None)
    return True


async def _pipe(websocket: WebSocket, url: str, tls: ssl.SSLContext | None) -> None:
    try:
        home = await connect(
            "ws" + url.removeprefix("http").rstrip("/") + websocket.url.path,
            additional_headers={
                "Authorization": websocket.headers.get("authorization", ""),
                FORWARDED: "1",
            },
            ssl=tls,
            compression=None,
            max_size=limits.LINK_FRAME,
            open_timeout=OPEN_S,
            ping_interval=PING_S,
            close_timeout=CLOSE_S,
            proxy=None,
        )
    except InvalidStatus as error:
        told = bytes(error.response.body or b"").decode("utf-8", "replace")
        refusal = PlainTextResponse(told, error.response.status_code)
        await websocket.send_denial_response(refusal)
        return
    except (OSError, TimeoutError, EOFError, InvalidHandshake) as error:
        log.warning("relay process at %s not reachable: %s", url, error)
        await _unavailable(websocket, "The endpoint's relay process cannot be reached now.")
        return
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(home.close)
        await websocket.accept()
        await _both_ways(websocket, home)


async def _both_ways(websocket: WebSocket, home: ClientConnection) -> None:
    directions = [
        asyncio.create_task(_up(websocket, home)),
        asyncio.create_task(_down(home, websocket)),
    ]
    try:
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for direction in directions:
            direction.cancel()
        await asyncio.wait(directions)
    if websocket.client_state is WebSocketState.CONNECTED:
        await websocket.close(*_ending(home))


async def _up(websocket: WebSocket, home: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            event = await websocket.receive()
            if event["type"] == "websocket.disconnect":
                return
            data = event.get("bytes")
            await home.send(event["text"] if data is None else data)


async def _down(home: ClientConnection, websocket: WebSocket) -> None:
    with contextlib.suppress(ConnectionClosed, WebSocketDisconnect):
        async for frame in home:
            await websocket.send_bytes(frame if isinstance(frame, bytes) else frame.encode())


def _ending(home: ClientConnection) -> tuple[int, str]:
    """Close code and reason for the peer: those of the home, if it gave any."""
    if home.close_code is None or home.close_code in _ABNORMAL:
        return SERVICE_RESTART, "The endpoint's relay process is gone."
    return home.close_code, home.close_reason or ""


async def _unavailable(websocket: WebSocket, why: str) -> None:
    await websocket.send_denial_response(PlainTextResponse(why, 503))
