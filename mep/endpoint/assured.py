"""Events that must stand in the manager's log before the endpoint goes on: ``high_assurance``.

A report waits for the manager's answer, in the event loop's thread, because nothing may happen
before it is written down. It costs a fraction of a millisecond while all is well. The manager may
restart meanwhile, within :data:`PATIENCE_S`.
"""

import contextlib
import socket
import time
from collections.abc import Iterable
from typing import Final

from mep.endpoint.events import BATCH, AuditLost, packet
from mep.wire.events import NOT_WRITTEN, WRITTEN, Event

PATIENCE_S: Final = 10.0
AGAIN_S: Final = 0.2


class Assured:
    """A connection to ``audit.sock``; see :class:`mep.endpoint.events.Reporter`.

    Args:
        path: the socket; None where the site has none, so that nothing can be reported.
        user_endpoint_id: goes into every report, as does
        identity_id: the one that was mapped.
        patience_s: how long the manager may be away.
    """

    def __init__(
        self,
        path: str | None,
        user_endpoint_id: str,
        identity_id: str,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._who = (user_endpoint_id, identity_id)
        self._path = path
        self._patience_s = patience_s
        self._socket: socket.socket | None = None
        self._lost = False

    def report(self, events: Iterable[Event]) -> None:
        """Return once the events stand in the log. After a failure, nothing is tried again.

        Raises:
            AuditLost: they do not.
        """
        left = tuple(events)
        while left:
            if self._lost or self._path is None:
                raise AuditLost("there is no audit log to write to")
            data, size = packet(self._who, left[:BATCH])
            self._insist(data)
            left = left[size:]

    def close(self) -> None:
        """Release the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _insist(self, data: bytes) -> None:
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                self._tell(data, max(0.01, deadline - time.monotonic()))
            except OSError as error:
                self.close()
                if time.monotonic() + AGAIN_S > deadline:
                    raise self._end(str(error)) from error
                time.sleep(AGAIN_S)
            else:
                return

    def _tell(self, data: bytes, seconds: float) -> None:
        if self._socket is None:
            fresh = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with contextlib.ExitStack() as stack:
                stack.callback(fresh.close)
                fresh.settimeout(seconds)
                fresh.connect(self._path or "")
                stack.pop_all()
            self._socket = fresh
        self._socket.settimeout(seconds)
        self._socket.send(data)
        answer = self._socket.recv(len(WRITTEN))
        if answer == NOT_WRITTEN:
            raise self._end("the manager says so")
        if answer != WRITTEN:
            raise OSError("the manager has closed the connection")

    def _end(self, why: str) -> AuditLost:
        self._lost = True
        self.close()
        return AuditLost(f"the audit log cannot be written: {why}")
