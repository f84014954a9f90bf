"""What other threads tell the interchange's: commands."""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mep.endpoint.interchange.events import (
    CancelAsked,
    Submitted,
)


@dataclass(frozen=True, slots=True)
class Close:
    """Let running tasks go on for `grace_s` seconds, then end everything."""

    grace_s: float


@dataclass(frozen=True, slots=True)
class Safe:
    """The results of these tasks are on disk; whoever keeps them may forget them."""

    task_ids: Sequence[str]


Command = Submitted | CancelAsked | Safe | Close


class Inbox:
    """Commands for a thread that waits on a descriptor.

    `refused` is called with each command that comes after :meth:`shut`.
    """

    def __init__(self, refused: Callable[[Command], None]) -> None:
        self._refused = refused
        self._lock = threading.Lock()
        self._commands: list[Command] = []
        self._open = True
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """Readable when :meth:`take` has something."""
        return self._wake

    def put(self, command: Command) -> None:
        """Leave a command; from any thread."""
        with self._lock:
            if self._open:
                self._commands.append(command)
                if len(self._commands) == 1:
                    os.eventfd_write(self._wake, 1)
                return
        self._refused(command)

    def take(self) -> list[Command]:
        """The commands since the last call."""
        with self._lock:
            commands, self._commands = self._commands, []
            if commands:
                os.eventfd_read(self._wake)
        return commands

    def shut(self) -> list[Command]:
        """Take no more; the commands that nobody has taken."""
        with self._lock:
            self._open = False
            commands, self._commands = self._commands, []
        return commands
