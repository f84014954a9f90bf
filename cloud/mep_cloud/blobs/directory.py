"""The directory of large arguments and results: 0700, one file each, in 256 directories."""

import errno
import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mep_cloud.errors import HomeError

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class Directory:
    """Files by id."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Make it if it is not there.

        Raises:
            HomeError: it cannot be made or written, is another account's, or open to others.
        """
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
            there = self.path.stat()
        except OSError as error:
            raise HomeError(f"The blob directory {self.path} cannot be used: {error}.") from error
        if there.st_uid != os.geteuid() or stat.S_IMODE(there.st_mode) & 0o077:
            raise HomeError(
                f"The blob directory {self.path} is another account's or open to others, so the "
                f"relay does not use it. It should be the relay's own; run `chmod 700 {self.path}`."
            )
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise HomeError(f"The blob directory {self.path} cannot be written: is it read-only?")

    def file(self, blob_id: str) -> Path:
        """Where the file is. The first digits of an id are the time, the last are random."""
        return self.path / blob_id[-2:] / blob_id

    def holds(self, blob_id: str) -> bool:
        """Whether the file is there.

        Raises:
            OSError: that cannot be said, since the directory itself is not there.
        """
        self._find()
        return self.file(blob_id).is_file()

    def free_bytes(self) -> int:
        """What the file system has left for this account.

        Raises:
            OSError: that cannot be said.
        """
        self._find()
        figures = os.statvfs(self.path)
        return figures.f_bavail * figures.f_frsize

    def remove(self, blob_id: str) -> None:
        """Remove the file, if it is there. Who reads it at the moment, reads on.

        Raises:
            OSError: that cannot be said, or done.
        """
        self._find()
        self.file(blob_id).unlink(missing_ok=True)

    def _find(self) -> None:
        """Raises:
        OSError: it is away; where a file system was mounted on it, that is not there.
        """
        if self.path.stat().st_uid != os.geteuid():
            reason = "it is another account's: is a file system not mounted?"
            raise OSError(errno.EPERM, reason, str(self.path))


class NewFile:
    """A file that is being written, in one thread at a time.

    Raises:
        OSError: from everything.
    """

    def __init__(self, directory: Directory, blob_id: str) -> None:
        self._path = directory.file(blob_id)
        if not self._path.parent.is_dir():
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            _sync(directory.path)
        self._descriptor = os.open(self._path, _NEW, 0o600)
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, chunks: Sequence[bytes]) -> None:
        """Append."""
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[os.write(self._descriptor, view) :]
            self._digest.update(chunk)
            self.size += len(chunk)

    def finish(self) -> bytes:
        """Return the SHA-256 once file and name are on the disk."""
        os.fsync(self._descriptor)
        _sync(self._path.parent)
        return self._digest.digest()

    def close(self) -> None:
        """No more is written."""
        os.close(self._descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
