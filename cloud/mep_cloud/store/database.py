"""The database behind two doors: ``write`` (one thread, group commit) and ``read`` (a few)."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from sqlalchemy import URL, Connection, Engine, inspect
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from mep_cloud.errors import StoreError, StoreFails
from mep_cloud.store import migrate
from mep_cloud.store.engines import (
    lock_migrations,
    lock_serving,
    notifications,
    postgresql_engine,
    sqlite_engine,
    write_something,
)
from mep_cloud.store.failures import Failures, reason
from mep_cloud.store.writer import Writer

if TYPE_CHECKING:
    from psycopg import AsyncConnection

T = TypeVar("T")

log = logging.getLogger(__name__)

READERS: Final = 3
PATIENCE_S: Final = 30.0
"""Seconds that a database server has to come up beside the relay."""
RETRY_S: Final = 0.5


class Unreachable(StoreError):
    """The server does not answer, or not yet."""


class Database:
    """One SQLite file (a path) or one PostgreSQL database (a URL)."""

    def __init__(self, where: Path | URL) -> None:
        self._where = where
        self._failures = Failures(self.name)
        self._probe: asyncio.Future[None] | None = None
        """One for all who ask at the same time: anybody may."""
        self._writer: Writer | None = None
        self._engines: list[Engine] = []
        self._reader: Engine | None = None
        self._threads: ThreadPoolExecutor | None = None
        self.lost: asyncio.Future[str] | None = None
        """Done, with the reason, when an open database can no longer be written."""
        self.shared = False
        """Other processes serve it too."""

    @property
    def name(self) -> str:
        """For messages; without a password."""
        if isinstance(self._where, Path):
            return str(self._where)
        return self._where.set(drivername="postgresql", password=None).render_as_string()

    def create(self) -> None:
        """Create all tables in a new file, readable by its owner alone, or in an empty database.

        Raises:
            StoreError: there are tables already; nothing was touched.
        """
        if isinstance(self._where, Path):
            self._where.touch(mode=0o600, exist_ok=False)
        self._migrate(new=True)

    def migrate(self) -> list[str]:
        """Bring the tables up to date; the changes that were made.

        Another process that does the same is waited for.

        Raises:
            StoreError: it cannot be opened, or was used by a newer version.
        """
        return self._migrate(new=False)

    def missing(self) -> list[str]:
        """The changes that :meth:`migrate` would make.

        Raises:
            StoreError: it cannot be opened, or was used by a newer version.
        """
        engine = self._engine(writable=False)
        try:
            with engine.connect() as connection:
                return migrate.missing(connection)
        except SQLAlchemyError as error:
            raise self._unusable(error) from error
        finally:
            engine.dispose()

    async def reachable(self) -> None:
        """Wait a bounded time for a PostgreSQL server that does not answer yet.

        Raises:
            StoreError: it did not; or something else is wrong with the database.
        """
        deadline = time.monotonic() + PATIENCE_S
        told = ""
        while True:
            try:
                self.missing()
            except Unreachable as error:
                if time.monotonic() > deadline:
                    raise
                if told != (told := str(error)):
                    log.warning(
                        "waiting for the database, for at most %.0f s: %s", PATIENCE_S, told
                    )
                await asyncio.sleep(RETRY_S)
            else:
                return

    def open(self, *, serve: Literal["alone", "shared"] | None = None) -> None:
        """Start the writer thread and the reader threads.

        Args:
            serve: ``alone`` refuses when another process serves the PostgreSQL database, and
                keeps others out until this one closes it or dies; ``shared`` does so with a
                process that serves alone.

        Raises:
            StoreError: the database is missing, damaged, not writable, or of another version.
        """
        if wanted := self.missing():
            raise StoreError(
                f"The database {self.name} was made by an older version: {', '.join(wanted)} "
                "missing. Make a backup, then run `mep-relay migrate`."
            )
        writer, self._reader = self._engine(writable=True), self._engine(writable=False)
        self._engines = [writer, self._reader]
        try:
            connection = writer.connect()
            if serve is not None:
                self._failures.logs = True
                lock_serving(connection, shared=serve == "shared")
                self.shared = serve == "shared"
        except SQLAlchemyError as error:
            raise self._unusable(error) from error
        self._writer = Writer(connection, self._failures, self._lose)
        self.lost = asyncio.get_running_loop().create_future()
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")

    async def close(self) -> None:
        """Commit what is queued and close the database."""
        if self._writer is not None:
            await self._writer.close()
            self._writer = None
        if self._threads is not None:
            self._threads.shutdown()
        for engine in self._engines:
            engine.dispose()

    async def notifications(self, channel: str) -> "AsyncConnection":
        """A connection that hears what is told on `channel`; whoever asks closes it.

        Raises:
            StoreError: it cannot be had.
        """
        if isinstance(self._where, Path):
            raise StoreError("SQLite tells nobody.")
        from psycopg import Error

        try:
            return await notifications(self._where, channel)
        except Error as error:
            raise StoreError(f"The database {self.name} cannot be listened to: {error}") from error

    def write(self, operation: Callable[[Connection], T]) -> asyncio.Future[T]:
        """Run `operation` in a transaction; the future is done when it is on disk.

        Its error may be :class:`StoreFails`.
        """
        if self._writer is None:
            raise StoreError("the database is not open")
        return self._writer.submit(operation)

    async def takes_work(self) -> None:
        """Return once something has reached the disk.

        Raises:
            StoreError: it did not, or something else has failed a moment ago: where little room is
                left, small transactions pass and larger ones do not.
        """
        if self._failures.recent:
            raise StoreFails(f"The database {self.name} failed a moment ago.")
        if self._probe is None or self._probe.done():
            self._probe = self.write(write_something)
        await asyncio.shield(self._probe)

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run `query` on a snapshot of what is committed.

        Raises:
            StoreError: it is closed.
            StoreFails: it is in trouble, or out of reach; another time it may not be.
        """
        if self._reader is None or self._threads is None:
            raise StoreError("the database is not open")
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, _with_connection, self._reader, query)
        except SQLAlchemyError as error:
            failure = self._failures.failure(error)
            if failure is None:
                raise
            raise failure from error

    def _migrate(self, *, new: bool) -> list[str]:
        engine = self._engine(writable=True)
        try:
            with engine.begin() as connection:
                lock_migrations(connection)
                if new and inspect(connection).get_table_names():
                    raise StoreError(
                        f"The database {self.name} is not empty, so no relay is set up in it."
                    )
                return migrate.upgrade(connection)
        except SQLAlchemyError as error:
            raise self._unusable(error) from error
        finally:
            engine.dispose()

    def _lose(self, reason: str) -> None:
        if self.lost is not None and not self.lost.done():
            self.lost.set_result(reason)

    def _unusable(self, error: SQLAlchemyError) -> StoreError:
        network = isinstance(error, OperationalError) and isinstance(self._where, URL)
        kind = Unreachable if network else StoreError
        return kind(f"The database {self.name} cannot be used: {reason(error)}")

    def _engine(self, *, writable: bool) -> Engine:
        size = READERS + 1
        if isinstance(self._where, Path):
            if not self._where.exists():
                raise StoreError(f"The database {self.name} is missing; restore it from a backup.")
            return sqlite_engine(self._where, writable=writable, pool_size=size)
        return postgresql_engine(self._where, writable=writable, pool_size=size)


def _with_connection(engine: Engine, query: Callable[[Connection], T]) -> T:
    with engine.connect() as connection:
        return query(connection)
