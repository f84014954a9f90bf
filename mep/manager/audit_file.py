"""A file of whole lines that only grows, and that may be moved away under it."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


class AuditFile:
    """Lines appended to `path`; nobody else writes it. Made with mode 0640.

    Once a second it is looked whether the file is still the one of that name, so that whoever
    renames it need not say so.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._look_at = clock() + LOOK_S
        self._file = os.open(path, _FLAGS, 0o640)
        self.failed = False
        """Whether the last lines could not be written."""

    def reopen(self) -> None:
        """Go on in a new file, after this one was renamed; where there can be none, in this one."""
        try:
            fresh = os.open(self._path, _FLAGS, 0o640)
        except OSError as error:
            log.error("%s cannot be opened, the old file goes on: %s", self._path, error)  # noqa: TRY400
            return
        os.close(self._file)
        self._file = fresh

    def write(self, lines: bytes) -> bool:
        """Append whole lines, all or none; whether they stand there now."""
        if self._clock() >= self._look_at:
            self._look_at = self._clock() + LOOK_S
            if self._was_moved():
                self.reopen()
        try:
            before = os.fstat(self._file).st_size
            written = os.write(self._file, lines)
            if written < len(lines):
                os.ftruncate(self._file, before)
                raise OSError(f"{written} of {len(lines)} bytes were written")  # noqa: TRY301
        except OSError as error:
            if not self.failed:
                log.error("%s cannot be written: %s", self._path, error)  # noqa: TRY400
            self.failed = True
            return False
        if self.failed:
            log.info("%s can be written again", self._path)
        self.failed = False
        return True

    def _was_moved(self) -> bool:
        mine = os.fstat(self._file)
        try:
            there = self._path.lstat()
        except FileNotFoundError:
            return True
        return (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)

    def close(self) -> None:
        """Release the file."""
        os.close(self._file)
