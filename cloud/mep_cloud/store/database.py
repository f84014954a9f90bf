"""SQLite behind two doors: ``write`` (one thread, group commit) and ``read`` (a few threads)."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, select
from sqlalchemy.exc import SQLAlchemyError

from mep_cloud.errors import StoreError
from mep_cloud.store import schema
from mep_cloud.store.writer import Writer

T = TypeVar("T")

READERS: Final = 3
_BUSY_S: Final = 30
"""The command line writes to the same file while the relay serves."""


class Database:
    """One SQLite file: WAL, ``synchronous=FULL``, foreign keys enforced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Writer | None = None
        self._engines: list[Engine] = []
        self._reader: Engine | None = None
        self._threads: ThreadPoolExecutor | None = None

    def create(self) -> None:
        """Create all tables in a new file, readable by its owner alone."""
        self._path.touch(mode=0o600, exist_ok=False)
        engine = self._engine(writable=True)
        try:
            schema.metadata.create_all(engine)
        finally:
            engine.dispose()

    def open(self) -> None:
        """Start the writer thread and the reader threads.

        Raises:
            StoreError: the file is missing, damaged or not writable.
        """
        writer, self._reader = self._engine(writable=True), self._engine(writable=False)
        self._engines = [writer, self._reader]
        try:
            with writer.begin() as connection:
                connection.execute(select(schema.settings)).all()
        except SQLAlchemyError as error:
            raise StoreError(f"The database {self._path} cannot be used: {error}") from error
        self._writer = Writer(writer)
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")

    async def close(self) -> None:
        """Commit what is queued and close the file."""
        if self._writer is not None:
            await self._writer.close()
            self._writer = None
        if self._threads is not None:
            self._threads.shutdown()
        for engine in self._engines:
            engine.dispose()

    def write(self, operation: Callable[[Connection], T]) -> asyncio.Future[T]:
        """Run `operation` in a transaction; the future is done when it is on disk."""
        if self._writer is None:
            raise StoreError("the database is not open")
        return self._writer.submit(operation)

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run `query` on a snapshot of what is committed."""
        if self._reader is None or self._threads is None:
            raise StoreError("the database is not open")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _with_connection, self._reader, query)

    def _engine(self, *, writable: bool) -> Engine:
        engine = create_engine(
            URL.create("sqlite", database=str(self._path)),
            connect_args={"timeout": _BUSY_S, "check_same_thread": False},
            pool_size=READERS + 1,
        )
        begin = "BEGIN IMMEDIATE" if writable else "BEGIN"

        @event.listens_for(engine, "connect")
        def _prepare(connection: sqlite3.Connection, _record: Any) -> None:
            # The driver's own implicit BEGIN would come after the first SELECT.
            connection.isolation_level = None
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA cache_size=-65536")
            if not writable:
                connection.execute("PRAGMA query_only=ON")

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

        return engine


def _with_connection(engine: Engine, query: Callable[[Connection], T]) -> T:
    with engine.connect() as connection:
        return query(connection)
