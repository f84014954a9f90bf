"""What the three WebSockets share: refusals, the first message, the conversation."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket

from mep.wire import PROTOCOL, codes
from mep.wire.codec import Decoder, Message, WireError
from mep_cloud.errors import Refusal, StoreError
from mep_cloud.hub import STORE_RETRY_S
from mep_cloud.outbox import Outbox
from mep_cloud.relay import Relay

M = TypeVar("M", bound=Message)

HELLO_S: Final = 30.0
"""Seconds that a peer has for its first message."""
CLOSE_S: Final = 10.0
_NO_DATABASE: Final = "The relay's database takes nothing at the moment."
_CLOSE_BASE: Final = 4000
"""A refusal after the handshake closes with this plus the HTTP status."""
_JUNK: Final = 400
_OTHER_PROTOCOL: Final = 426


def relay_of(websocket: WebSocket) -> Relay:
    """The relay that serves this connection."""
    relay = websocket.app.state.relay
    assert isinstance(relay, Relay)
    return relay


async def deny(websocket: WebSocket, error: Refusal | StoreError) -> None:
    """Refuse the handshake; the body is the sentence. Peers try again by themselves after a 503."""
    if isinstance(error, Refusal):
        response = PlainTextResponse(error.message, error.status)
    else:
        response = PlainTextResponse(_NO_DATABASE, 503)
    await websocket.send_denial_response(response)


def check_protocol(number: int) -> None:
    """Refuse a peer of another protocol.

    Raises:
        Refusal: 426.
    """
    if number != PROTOCOL:
        message = (
            f"This relay speaks protocol {PROTOCOL}, the peer {number}. "
            "Install versions that fit each other."
        )
        raise Refusal(_OTHER_PROTOCOL, codes.INVALID_REQUEST, message)


async def messages(websocket: WebSocket, decoder: Decoder[M]) -> AsyncIterator[M]:
    """What the peer says, until it closes.

    Raises:
        WireError: not a message of this link.
    """
    while True:
        event = await websocket.receive()
        if event["type"] == "websocket.disconnect":
            return
        data = event.get("bytes")
        if data is None:
            raise WireError("text where the protocol has only binary frames")
        yield decoder.decode(data)


async def converse(
    outbox: Outbox,
    peer: AsyncIterator[M],
    hello: Callable[[M], Awaitable[None]],
    receive: Callable[[M], Awaitable[None]],
) -> None:
    """Hear the peer until the connection ends, while its outbox is being sent.

    `hello` gets the first message, `receive` the others. A :class:`Refusal` or a message that is
    none of this protocol closes the connection with its reason. A :class:`StoreError` closes it
    with the seconds after which to come back.
    """
    sender = asyncio.create_task(outbox.run())
    try:
        async with asyncio.timeout(HELLO_S):
            first = await anext(peer, None)
        if first is not None:
            await hello(first)
            async for message in peer:
                await receive(message)
    except TimeoutError:
        await _refuse(outbox, sender, _JUNK, "No hello came in time.")
    except WireError as error:
        await _refuse(outbox, sender, _JUNK, str(error))
    except Refusal as refusal:
        await _refuse(outbox, sender, refusal.status, refusal.message)
    except StoreError:
        outbox.goodbye(_NO_DATABASE, STORE_RETRY_S)
        await asyncio.wait([sender], timeout=CLOSE_S)
    finally:
        sender.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sender


async def _refuse(outbox: Outbox, sender: asyncio.Task[None], status: int, reason: str) -> None:
    outbox.close(_CLOSE_BASE + status, reason)
    await asyncio.wait([sender], timeout=CLOSE_S)
