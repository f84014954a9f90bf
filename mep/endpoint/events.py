"""One-way events to the manager, see :mod:`mep.wire.events`: best effort, never waiting."""

import contextlib
import socket
import time

import msgspec

from mep.wire.events import EVENT_BYTES, Event


class Events:
    """Sends datagrams to the manager's socket, if there is one.

    Args:
        path: the socket; None where the site has none.
        user_endpoint_id: goes into every event.
    """

    def __init__(self, path: str | None, user_endpoint_id: str) -> None:
        self._user_endpoint_id = user_endpoint_id
        self._path = path
        self._socket: socket.socket | None = None
        if path:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def send(self, event: str, *, task_id: str = "", function_id: str = "", text: str = "") -> None:
        """Report one thing; dropped where the manager is away or slow."""
        if self._socket is None or self._path is None:
            return
        message = Event(
            event=event,
            user_endpoint_id=self._user_endpoint_id,
            at=time.time(),
            task_id=task_id,
            function_id=function_id,
            text=text[:500],
        )
        data = msgspec.json.encode(message)
        if len(data) <= EVENT_BYTES:
            # The manager restarts on its own; its absence is no reason to stop or to log.
            with contextlib.suppress(OSError):
                self._socket.sendto(data, self._path)

    def close(self) -> None:
        """Release the socket."""
        if self._socket is not None:
            self._socket.close()
