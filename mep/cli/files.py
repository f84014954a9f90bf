"""Files replaced as a whole, and read from places that others can write."""

import contextlib
import os
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mep.cli.errors import CliError

MOST: Final = 4 * 1024 * 1024


def replace(path: Path, data: bytes, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Write `path` whole or not at all; it never has a wider mode or another owner than asked.

    Raises:
        OSError: it cannot be written.
    """
    descriptor, fresh = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        Path(fresh).replace(path)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise


def read_foreign(path: Path) -> bytes | None:
    """A file in a directory that a less trusted account writes; None where there is none.

    Neither links nor pipes nor endless files lead anywhere.

    Raises:
        CliError: it is no plain file, or a large one.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise CliError(f"{path} is no plain file; it has been tampered with")
        data = file.read(MOST + 1)
    if len(data) > MOST:
        raise CliError(f"{path} is larger than {MOST} bytes; it has been tampered with")
    return data


def directory(path: Path, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Make a directory, or correct mode and owner of one that is there.

    All may pass the missing parents of a directory that has an owner or that all may pass.

    Raises:
        OSError: it cannot be made.
    """
    for parent in reversed(path.parents):
        if not parent.exists():
            parent.mkdir()
            parent.chmod(0o755 if owner is not None or mode & 0o005 else 0o700)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if owner is not None:
            os.fchown(descriptor, *owner)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait for the end of the block: for a few writes that belong together."""
    numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
