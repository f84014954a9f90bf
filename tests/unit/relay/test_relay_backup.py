"""A backup while others write."""

import contextlib
import sqlite3
import threading
from pathlib import Path

from mep_cloud.backup import backup
from mep_cloud.home import Home

BOUND_S = 20
MIB = 1 << 20


def test_a_busy_relay_does_not_keep_a_backup_from_its_end(tmp_path: Path) -> None:
    """It is of one moment, however many transactions there are meanwhile."""
    home = Home(tmp_path)
    with contextlib.closing(sqlite3.connect(home.database)) as source, source:
        source.execute("PRAGMA journal_mode=WAL")
        for table in ("first", "last"):
            source.execute(f"CREATE TABLE {table} (number INTEGER)")
            source.execute(f"INSERT INTO {table} VALUES (0)")
            source.execute(f"CREATE TABLE after_{table} (filler BLOB)")
            source.executemany(f"INSERT INTO after_{table} VALUES (zeroblob(?))", [[MIB]] * 32)
    began, over = threading.Event(), threading.Event()

    def write() -> None:
        with contextlib.closing(sqlite3.connect(home.database)) as other:
            while not over.is_set():
                with other:
                    for table in ("first", "last"):
                        other.execute(f"UPDATE {table} SET number = number + 1")
                began.set()

    copy = tmp_path / "copy"
    copying = threading.Thread(target=backup, args=(home, copy))
    writing = threading.Thread(target=write)
    writing.start()
    try:
        assert began.wait(BOUND_S)
        copying.start()
        copying.join(BOUND_S)
        assert copy.exists()
    finally:
        over.set()
        writing.join()
        copying.join()
    with contextlib.closing(sqlite3.connect(copy)) as copied:
        ((first, last),) = copied.execute("SELECT first.number, last.number FROM first, last")
    assert first == last > 0
