"""What users' processes report: datagrams to ``events.sock``, lines in ``events.jsonl``.

Anyone on the machine may write to the socket, and nothing that is written there is believed: uid,
gid and pid are the kernel's (SO_PASSCRED), size and rate are limited for each uid, characters that
a terminal would obey are replaced, and each line says that a user's process reported it.
"""

import asyncio
import json
import logging
import os
import socket
import struct
import time
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from mep.manager.allowance import Allowances
from mep.wire.events import EVENT_BYTES, Event

log = logging.getLogger(__name__)

SOCKET: Final = "events.sock"
FILE: Final = "events.jsonl"
EVENTS_PER_S: Final = 500.0
EVENTS_BURST: Final = 5_000.0
AT_ONCE: Final = 64
"""Datagrams read before the other work of the process has its turn."""

_UCRED: Final = struct.Struct("3i")
_decoder: Final = msgspec.json.Decoder(Event)


@dataclass(frozen=True)
class Sender:
    """Who sent a datagram, by the kernel's word."""

    pid: int
    uid: int
    gid: int


def record(data: bytes, sender: Sender, received: float) -> str:
    """The line for one datagram; `received` is in epoch seconds.

    Raises:
        ValueError: too large, or no event.
    """
    if len(data) > EVENT_BYTES:
        raise ValueError(f"an event of more than {EVENT_BYTES} bytes")
    event = msgspec.to_builtins(_decoder.decode(data))
    plain = {key: harmless(value) for key, value in event.items()}
    return _line(received, sender, "the user's process", plain)


def harmless(value: str | float) -> str | float:
    """`value` without characters that move cursors, change colours or reverse text."""
    if not isinstance(value, str):
        return value
    return "".join("\N{REPLACEMENT CHARACTER}" if _obeyed(c) else c for c in value)


def _obeyed(character: str) -> bool:
    # Control, format (among them those that reverse text), surrogate, line and paragraph separator.
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _line(received: float, sender: Sender, reporter: str, event: dict[str, str | float]) -> str:
    return json.dumps(
        {
            "received": round(received, 3),
            "uid": sender.uid,
            "gid": sender.gid,
            "pid": sender.pid,
            "reported_by": reporter,
            "event": event,
        },
        separators=(",", ":"),
    )


class EventLog:
    """The socket and the file.

    Args:
        run: directory of the socket.
        logs: directory of the file.
        allowances: how many events of each uid are taken.
    """

    def __init__(self, run: Path, logs: Path, allowances: Allowances | None = None) -> None:
        self._path = run / SOCKET
        self._file_path = logs / FILE
        self._allowances = allowances or Allowances(EVENTS_PER_S, EVENTS_BURST)
        self._socket: socket.socket | None = None
        self._file: int | None = None

    def open(self) -> None:
        """Begin to listen, in the running event loop.

        Raises:
            OSError: socket or file cannot be made.
        """
        self.reopen()
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listener.bind(str(self._path))
        self._path.chmod(0o666)
        self._socket = listener
        asyncio.get_running_loop().add_reader(listener, self._readable)

    def reopen(self) -> None:
        """Open the file anew, after it has been moved away for rotation."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        fresh = os.open(self._file_path, flags, 0o640)
        if self._file is not None:
            os.close(self._file)
        self._file = fresh

    def close(self) -> None:
        """Stop listening; the socket's name goes too."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
            self._path.unlink(missing_ok=True)
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _readable(self) -> None:
        assert self._socket is not None
        for _ in range(AT_ONCE):
            try:
                # Room for the credentials and nothing else: passed descriptors are not taken in.
                data, ancillary, _, _ = self._socket.recvmsg(
                    EVENT_BYTES + 1, socket.CMSG_LEN(_UCRED.size)
                )
            except BlockingIOError:
                break
            self._take(data, _sender(ancillary))

    def _take(self, data: bytes, sender: Sender | None) -> None:
        if sender is None:
            return
        now = time.time()
        if not self._allowances.take(sender.uid, 1, time.monotonic()):
            return
        self._confess(sender, now)
        try:
            self._write(record(data, sender, now))
        except ValueError as error:
            log.debug("uid %d, pid %d reports %s: dropped", sender.uid, sender.pid, error)

    def _confess(self, sender: Sender, now: float) -> None:
        """Where events of this uid were dropped, say how many."""
        if dropped := self._allowances.dropped(sender.uid):
            self._write(_line(now, sender, "the manager", {"event": "dropped", "count": dropped}))

    def _write(self, line: str) -> None:
        assert self._file is not None
        try:
            os.write(self._file, line.encode("ascii") + b"\n")
        except OSError as error:
            log.error("%s cannot be written: %s", self._file_path, error)  # noqa: TRY400


def _sender(ancillary: list[tuple[int, int, bytes]]) -> Sender | None:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            return Sender(*_UCRED.unpack(data[: _UCRED.size]))
    return None
