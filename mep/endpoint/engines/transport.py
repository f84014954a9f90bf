"""How node pools reach the interchange."""

import os
import socket
from typing import TYPE_CHECKING, Any, Protocol

from mep.endpoint.interchange.router import Router, listen

if TYPE_CHECKING:
    from mep.endpoint.interchange.lines import Lines


class Transport(Protocol):
    """Made before the first block, used by the interchange's thread from then on."""

    def prepare(self) -> None:
        """Get what the first block must be told.

        Raises:
            mep.endpoint.engines.base.EngineError: an address or a port cannot be had.
        """

    def admit(self, block_id: str) -> dict[str, Any]:
        """Let the node pools of a block in; ``connect`` of their settings."""

    def admit_again(self, block_id: str, connect: dict[str, Any]) -> None:
        """Let those in that an earlier process has admitted; `connect` is what it told them."""

    def forget(self, block_id: str) -> None:
        """The block has ended; nobody gets in with its key any more."""

    def open(self) -> "Router | Lines":
        """The socket; once, by the thread that uses it."""

    def close(self) -> None:
        """Give back what :meth:`open` has not taken over."""


class Beside:
    """Node pools on this machine, by a socket in the user endpoint's private directory."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._listening: tuple[socket.socket, int] | None = None

    def prepare(self) -> None:
        """Listen: the first node pool may be faster than the interchange's thread."""
        self._listening = listen(self._directory)

    def admit(self, block_id: str) -> dict[str, Any]:
        """Who can open the directory is the user."""
        return {"ipc": self._directory}

    def admit_again(self, block_id: str, connect: dict[str, Any]) -> None:
        """As :meth:`admit`."""

    def forget(self, block_id: str) -> None:
        """There are no keys."""

    def open(self) -> Router:
        """Hand over what listens."""
        assert self._listening is not None, "prepare() comes first"
        listener, folder = self._listening
        self._listening = None
        return Router(listener, folder)

    def close(self) -> None:
        """Stop listening."""
        if self._listening is not None:
            listener, folder = self._listening
            self._listening = None
            listener.close()
            os.close(folder)
