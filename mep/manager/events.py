"""What users' processes report: packets to two sockets, lines in ``events.jsonl``.

Anyone on the machine may write to the sockets, and nothing that is written there is believed: see
:mod:`mep.manager.records`. Events of one uid beyond its allowance are dropped and counted; where
the sender waits for its lines to be written (:mod:`mep.manager.assured`), they are taken later.
"""

import asyncio
import logging
import pwd
import socket
import struct
import time
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from mep.manager.allowance import Allowances
from mep.manager.assured import Assured
from mep.manager.audit_file import AuditFile
from mep.manager.records import Sender, decode, noted, reported
from mep.wire.events import AUDIT, EVENTS, REPORT_BYTES, Report

log = logging.getLogger(__name__)

FILE: Final = "events.jsonl"
EVENTS_PER_S: Final = 4_000.0
EVENTS_BURST: Final = 400_000.0
AT_ONCE: Final = 64
"""Datagrams read before the other work of the process has its turn."""

_UCRED: Final = struct.Struct("3i")


class EventLog:
    """The sockets and the file.

    Args:
        run: directory of the sockets.
        logs: directory of the file.
        endpoint_id: goes into every line.
        allowances: how many events of each uid are taken.
    """

    def __init__(
        self, run: Path, logs: Path, endpoint_id: str, allowances: Allowances | None = None
    ) -> None:
        self._path = run / EVENTS
        self._file_path = logs / FILE
        self._endpoint_id = endpoint_id
        self._allowances = allowances or Allowances(EVENTS_PER_S, EVENTS_BURST)
        self._socket: socket.socket | None = None
        self._file: AuditFile | None = None
        self._assured = Assured(run / AUDIT, self._write, Allowances(EVENTS_PER_S, EVENTS_BURST))

    def open(self) -> None:
        """Begin to listen, in the running event loop.

        Raises:
            OSError: a socket or the file cannot be made.
        """
        self.reopen()
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listener.bind(str(self._path))
        self._path.chmod(0o666)
        self._socket = listener
        asyncio.get_running_loop().add_reader(listener, self._readable)
        self._assured.open()

    def reopen(self) -> None:
        """Open the file anew, after it has been moved away for rotation."""
        if self._file is None:
            self._file = AuditFile(self._file_path)
        else:
            self._file.reopen()

    def close(self) -> None:
        """Stop listening; the sockets' names go too."""
        self._assured.close()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
            self._path.unlink(missing_ok=True)
        if self._file is not None:
            self._file.close()
            self._file = None

    def note(self, event: str, **facts: Any) -> bool:
        """Write something that the manager did itself; whether it stands there now."""
        assert self._file is not None
        line = noted({"event": event, **facts}, self._endpoint_id, time.time())
        return self._file.write(line)

    def _readable(self) -> None:
        assert self._socket is not None
        for _ in range(AT_ONCE):
            try:
                # Room for the credentials and nothing else: passed descriptors are not taken in.
                data, ancillary, _, _ = self._socket.recvmsg(
                    REPORT_BYTES + 1, socket.CMSG_LEN(_UCRED.size)
                )
            except BlockingIOError:
                break
            self._take(data, _sender(ancillary))

    def _take(self, data: bytes, sender: Sender | None) -> None:
        if sender is None:
            return
        try:
            report = decode(data)
        except ValueError as error:
            log.debug("uid %d, pid %d reports %s: dropped", sender.uid, sender.pid, error)
            return
        if not self._allowances.take(sender.uid, len(report.events) or 1, time.monotonic()):
            return
        if dropped := self._allowances.dropped(sender.uid):
            self.note("dropped", count=dropped, uid=sender.uid)
        self._write(report, sender)

    def _write(self, report: Report, sender: Sender) -> bool:
        assert self._file is not None
        known = Sender(sender.pid, sender.uid, sender.gid, account_of(sender.uid))
        return self._file.write(reported(report, known, self._endpoint_id, time.time()))


@lru_cache(maxsize=1024)
def account_of(uid: int) -> str:
    """The name of an account; empty where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _sender(ancillary: list[tuple[int, int, bytes]]) -> Sender | None:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            return Sender(*_UCRED.unpack(data[: _UCRED.size]))
    return None
