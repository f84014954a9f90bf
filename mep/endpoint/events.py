"""Events to the manager, see :mod:`mep.wire.events`: best effort, in batches, never waiting.

What the manager does not take at once (it restarts, or is slow) is kept for a while and told later.
"""

import asyncio
import itertools
import socket
import time
from collections import deque
from collections.abc import Iterable
from typing import Final, Protocol

import msgspec

from mep.wire.events import LOST, REPORT_BYTES, Event, Report

BATCH_S: Final = 0.05
"""How long events wait for more: a datagram for each would cost more than the task it tells of."""
FULL_S: Final = 0.01
"""When to go on where the manager has as many datagrams waiting as the kernel keeps (ten)."""
AGAIN_S: Final = 0.5
"""When to try again where it is away."""
FAREWELL_S: Final = 1.0
BATCH: Final = 150
KEPT: Final = 50_000

_encode: Final = msgspec.json.Encoder().encode


class AuditLost(Exception):
    """What must be written down cannot be; the text says why."""


class Reporter(Protocol):
    """Where a user endpoint's events go."""

    def report(self, events: Iterable[Event]) -> None:
        """Tell what happened, in order.

        Raises:
            AuditLost: it must be written down, and is not.
        """

    def close(self) -> None:
        """Tell what is left; nothing more comes."""


class Events:
    """Sends datagrams to the manager's socket, if there is one. Lives in the event loop.

    Args:
        path: the socket; None where the site has none.
        user_endpoint_id: goes into every report, as does
        identity_id: the one that was mapped.
    """

    def __init__(self, path: str | None, user_endpoint_id: str, identity_id: str) -> None:
        self._who = (user_endpoint_id, identity_id)
        self._path = path
        self._waiting: deque[Event] = deque()
        self._lost = 0
        self._timer: asyncio.TimerHandle | None = None
        self._socket: socket.socket | None = None
        if path:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def report(self, events: Iterable[Event]) -> None:
        """See :class:`Reporter`."""
        if self._socket is None:
            return
        self._waiting.extend(events)
        while len(self._waiting) > KEPT:
            self._waiting.popleft()
            self._lost += 1
        if self._waiting and self._timer is None:
            self._set_timer(BATCH_S)

    def close(self) -> None:
        """See :class:`Reporter`."""
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._socket.settimeout(FAREWELL_S)
            self._flush()
            self._socket.close()
            self._socket = None

    def _set_timer(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._due)

    def _due(self) -> None:
        self._timer = None
        if pause := self._flush():
            self._set_timer(pause)

    def _flush(self) -> float:
        """Tell what there is; seconds until there may be room for the rest, 0 if there is none."""
        assert self._socket is not None
        assert self._path is not None
        if self._lost:
            self._waiting.appendleft(Event(LOST, time.time(), text=str(self._lost)))
            self._lost = 0
        while self._waiting:
            data, size = packet(self._who, tuple(itertools.islice(self._waiting, BATCH)))
            try:
                # The manager restarts on its own; its absence is no reason to stop or to log.
                self._socket.sendto(data, self._path)
            except BlockingIOError:
                return FULL_S
            except OSError:
                return AGAIN_S
            for _ in range(size):
                self._waiting.popleft()
        return 0.0


def packet(who: tuple[str, str], events: tuple[Event, ...]) -> tuple[bytes, int]:
    """One report of the first events, as many as go into a packet; and how many these are."""
    while len(data := _encode(Report(*who, events))) > REPORT_BYTES:
        events = events[: len(events) // 2]
    return data, len(events)
