"""A consistent copy of a relay's database, while it serves; without the master key."""

import contextlib
import os
import sqlite3
import tempfile
from pathlib import Path
from typing import Final

from mep_cloud.errors import HomeError
from mep_cloud.home import Home

_PAGES: Final = 1024
"""Pages that are copied at once; between them it can be interrupted."""


def backup(home: Home, destination: Path) -> None:
    """Copy the database to the new file `destination`, of mode 0600.

    Raises:
        HomeError: there is no SQLite database, or no such file can be written.
    """
    if not home.database.exists():
        raise HomeError(
            f"{home.directory} holds no SQLite database. One in PostgreSQL is backed up with "
            "`pg_dump`."
        )
    if destination.exists():
        raise HomeError(f"{destination} exists; name a new file.")
    try:
        # 0700 and of a new name: what an earlier backup left when it was killed is not in the way.
        with tempfile.TemporaryDirectory(
            prefix=f".{destination.name}.", dir=destination.parent
        ) as directory:
            part = Path(directory) / destination.name
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            _copy(home.database, part)
            _sync(part)
            part.rename(destination)
        _sync(destination.parent)
    except (OSError, sqlite3.Error) as error:
        raise HomeError(f"The backup {destination} cannot be written: {error}.") from error


def _copy(source: Path, target: Path) -> None:
    with (
        contextlib.closing(
            sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)
        ) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        # One snapshot of all: else SQLite would begin again whenever the relay has committed.
        old.execute("BEGIN")
        old.execute("SELECT count(*) FROM sqlite_master")
        old.backup(new, pages=_PAGES)
        verdict = new.execute("PRAGMA quick_check").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(f"the copy is damaged: {verdict}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
