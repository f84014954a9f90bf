"""What the manager says of its state on the socket that ``NOTIFY_SOCKET`` names."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Final

_UCRED: Final = struct.Struct("3i")
_MOST: Final = 4096


class Readiness:
    """An abstract socket that listens to one process alone, by the kernel's word for its pid.

    Args:
        speaker: the pid to listen to, at this moment.
        changed: called with the fields known so far, whenever there is news.
    """

    def __init__(
        self, speaker: Callable[[], int | None], changed: Callable[[dict[str, str]], None]
    ) -> None:
        self._speaker = speaker
        self._changed = changed
        self._fields: dict[str, str] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind("")  # the kernel chooses an abstract address, see unix(7)

    @property
    def address(self) -> str:
        """For ``NOTIFY_SOCKET``."""
        return "@" + bytes(self._socket.getsockname())[1:].decode("ascii")

    def listen(self) -> None:
        """Begin, in the running event loop."""
        asyncio.get_running_loop().add_reader(self._socket, self._readable)

    def forget(self) -> None:
        """The speaker is another process from now on."""
        self._fields.clear()

    def close(self) -> None:
        """Stop listening."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _readable(self) -> None:
        data, ancillary, _, _ = self._socket.recvmsg(_MOST, socket.CMSG_LEN(_UCRED.size))
        for level, kind, raw in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                pid, _, _ = _UCRED.unpack(raw[: _UCRED.size])
                if pid == self._speaker():
                    self._take(data.decode("utf-8", "replace"))

    def _take(self, text: str) -> None:
        for line in text.splitlines():
            key, _, value = line.partition("=")
            self._fields[key] = value
        self._changed(dict(self._fields))
