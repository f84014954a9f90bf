"""``audit.sock``: reports that are answered once their lines stand in the log.

One connection for each user endpoint that must not go on without an audit log. The kernel says at
its beginning who connects. Whoever reports faster than its allowance waits; nothing is dropped.
"""

import asyncio
import logging
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mep.manager.allowance import Allowances
from mep.manager.records import Sender, decode
from mep.wire.events import NOT_WRITTEN, REPORT_BYTES, WRITTEN, Report

log = logging.getLogger(__name__)

MOST: Final = 1_000
"""Connections at once, and of one uid a tenth."""
PAUSE_S: Final = 0.1
_UCRED: Final = struct.Struct("3i")

Write = Callable[[Report, Sender], bool]


class Assured:
    """The socket.

    Args:
        path: where it is.
        write: appends the lines of a report; whether they stand there.
        allowances: how many events of each uid are taken.
    """

    def __init__(self, path: Path, write: Write, allowances: Allowances) -> None:
        self._path = path
        self._write = write
        self._allowances = allowances
        self._socket: socket.socket | None = None
        self._serving: dict[asyncio.Task[None], int] = {}
        self._accepting: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to listen, in the running event loop.

        Raises:
            OSError: the socket cannot be made.
        """
        self._path.unlink(missing_ok=True)
        kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_UNIX, kind)
        self._socket.bind(str(self._path))
        self._path.chmod(0o666)
        self._socket.listen(MOST)
        self._accepting = asyncio.get_running_loop().create_task(self._accept(self._socket))

    def close(self) -> None:
        """Stop listening; who is connected loses the connection."""
        for task in (*self._serving, *([self._accepting] if self._accepting else [])):
            task.cancel()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._path.unlink(missing_ok=True)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:  # no descriptor is left; some will be closed
                log.error("audit.sock: %s", error)  # noqa: TRY400
                await asyncio.sleep(PAUSE_S)
                continue
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
            sender = Sender(*_UCRED.unpack(raw))
            mine = sum(uid == sender.uid for uid in self._serving.values())
            if len(self._serving) >= MOST or mine >= MOST // 10:
                log.warning("uid %d has too many connections to audit.sock", sender.uid)
                connection.close()
                continue
            task = loop.create_task(self._serve(connection, sender))
            self._serving[task] = sender.uid
            task.add_done_callback(self._serving.pop)

    async def _serve(self, connection: socket.socket, sender: Sender) -> None:
        loop = asyncio.get_running_loop()
        with connection:
            try:
                while data := await loop.sock_recv(connection, REPORT_BYTES + 1):
                    report = decode(data)
                    while not self._allowances.take(
                        sender.uid, len(report.events) or 1, time.monotonic()
                    ):
                        await asyncio.sleep(PAUSE_S)
                    written = self._write(report, sender)
                    await loop.sock_sendall(connection, WRITTEN if written else NOT_WRITTEN)
            except (OSError, ValueError) as error:
                log.debug("uid %d, pid %d on audit.sock: %s", sender.uid, sender.pid, error)
