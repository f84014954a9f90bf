"""The connection to the warden's socket, kept open.

The socket is root's (in a single-user endpoint the owner's) and lies in a directory that only
root can write; the peer's uid is checked all the same. The warden's first packet is ``Running``.
"""

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mep.manager.backoff import Backoff
from mep.manager.packets import Reply, Running, parse_reply
from mep.root.messages import MAX_PACKET, MessageError

log = logging.getLogger(__name__)

FIRST_RETRY_S: Final = 0.05
LAST_RETRY_S: Final = 2.0
UNANSWERED: Final = 64
"""Packets that are sent before one is heard: a fifth of what the kernel keeps of unread answers."""
ANSWER_S: Final = 1.0
"""How long an answer is waited for then; a stop of nothing has none."""
_UCRED: Final = struct.Struct("3i")


class WardenLost(Exception):
    """The connection is over; the message says why, for the log."""


class WardenConnection:
    """One connection at a time, made again when it is lost.

    Args:
        path: the warden's socket.
        up: called with the first packet of each connection and the warden's pid.
        received: called with each later packet, in order.
        down: called when a connection that was up is lost.
    """

    def __init__(
        self,
        path: Path,
        *,
        up: Callable[[Running, int], None],
        received: Callable[[Reply], None],
        down: Callable[[], None],
    ) -> None:
        self._path = path
        self._up = up
        self._received = received
        self._down = down
        self._socket: socket.socket | None = None
        self._backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        self._unanswered = 0
        self._heard = asyncio.Event()

    async def run(self) -> None:
        """Keep the connection, until cancelled."""
        said = ""
        while True:
            try:
                await self._once()
            except (OSError, WardenLost, MessageError) as error:
                why = str(error)
                if why != said:
                    log.warning("no warden at %s: %s", self._path, why)
                said = why
            await asyncio.sleep(self._backoff.wait())

    async def send(self, packet: bytes) -> bool:
        """Send one packet; False when the connection is not there.

        The warden waits for nobody, and hangs up on a manager that lets some hundred answers lie.
        So this waits for answers, however late either gets its turn on a busy machine.
        """
        if self._unanswered >= UNANSWERED:
            await self._hear()
        if self._socket is None:
            return False
        try:
            await asyncio.get_running_loop().sock_sendall(self._socket, packet)
        except OSError as error:
            log.warning("a packet could not be given to the warden: %s", error)
            return False
        self._unanswered += 1
        return True

    async def _hear(self) -> None:
        self._heard.clear()
        try:
            # Not wait_for: in Python 3.11 that may drop a cancellation that comes with an answer.
            async with asyncio.timeout(ANSWER_S):
                await self._heard.wait()
        except TimeoutError:
            self._unanswered = 0

    async def _once(self) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.setblocking(False)
            await loop.sock_connect(connection, str(self._path))
            pid = _check_peer(connection)
            first = await self._packet(connection)
            if not isinstance(first, Running):
                raise WardenLost(f"its first packet is {type(first).__name__}")
            self._backoff.reset()
            self._socket = connection
            log.info("the warden is connected")
            with contextlib.ExitStack() as stack:
                stack.callback(self._lost)
                self._up(first, pid)
                while True:
                    self._received(await self._packet(connection))
                    self._unanswered = max(0, self._unanswered - 1)
                    self._heard.set()

    async def _packet(self, connection: socket.socket) -> Reply:
        packet = await asyncio.get_running_loop().sock_recv(connection, MAX_PACKET + 1)
        if not packet:
            raise WardenLost("it closed the connection")
        return parse_reply(packet)

    def _lost(self) -> None:
        self._socket = None
        self._unanswered = 0
        self._heard.set()
        self._down()


def _check_peer(connection: socket.socket) -> int:
    """The pid of whoever listens there, who is root or ourselves.

    Raises:
        WardenLost: somebody else listens there.
    """
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _ = _UCRED.unpack(raw)
    if uid not in (0, os.geteuid()):
        raise WardenLost(f"uid {uid} listens there, who is no warden")
    return int(pid)
