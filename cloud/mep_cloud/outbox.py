"""One WebSocket's outgoing side: a queue, and the task that empties it in order."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from mep.wire.codec import Message, encode
from mep_cloud.errors import StoreError

log = logging.getLogger(__name__)

SERVICE_RESTART: Final = 1012
INTERNAL_ERROR: Final = 1011
_REASON_BYTES: Final = 123
"""What a close frame has room for."""


@dataclass(frozen=True, slots=True)
class _Close:
    code: int
    reason: str


Item = Message | Callable[[], Awaitable[Message | None]]


class Outbox:
    """Sends in order. What is put is bounded by credits or by a stream's own window.

    An item may be a function that makes the message when its turn comes (or finds that there is
    none), so that large payloads are read from the disk one frame at a time.

    Args:
        websocket: accepted, and closed by nobody else.
        goodbye: makes this link's own goodbye from a reason and seconds to wait.
    """

    def __init__(self, websocket: WebSocket, goodbye: Callable[[str, float], Message]) -> None:
        self._websocket = websocket
        self._goodbye = goodbye
        self._items: deque[Item | _Close] = deque()
        self._filled = asyncio.Event()

    def put(self, item: Item) -> None:
        """Send after everything that was put before."""
        self._items.append(item)
        self._filled.set()

    def close(self, code: int, reason: str) -> None:
        """Close the connection after everything that was put before."""
        self._items.append(_Close(code, reason))
        self._filled.set()

    def goodbye(self, reason: str, retry_s: float) -> None:
        """Ask the peer to come back after `retry_s` seconds, and close."""
        self.put(self._goodbye(reason, retry_s))
        self.close(SERVICE_RESTART, reason)

    async def run(self) -> None:
        """Send until the connection is closed by either side."""
        try:
            while await self._send(await self._next()):
                pass
        except WebSocketDisconnect:
            return
        except StoreError as error:
            log.warning("a link is closed: its next message could not be read: %s", error)
            await self._close(_Close(SERVICE_RESTART, "The relay's database fails."))
        except Exception:
            log.exception("a link is closed: its next message could not be made")
            await self._close(_Close(INTERNAL_ERROR, "The relay had an internal error."))

    async def _next(self) -> Item | _Close:
        while not self._items:
            self._filled.clear()
            await self._filled.wait()
        return self._items.popleft()

    async def _send(self, item: Item | _Close) -> bool:
        if isinstance(item, _Close):
            await self._close(item)
            return False
        message = item if isinstance(item, Message) else await item()
        if message is not None:
            await self._websocket.send_bytes(encode(message))
        return True

    async def _close(self, close: _Close) -> None:
        reason = close.reason.encode()[:_REASON_BYTES].decode(errors="ignore")
        await self._websocket.close(close.code, reason)
