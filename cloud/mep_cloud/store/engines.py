"""Connections to SQLite and PostgreSQL, set up so that a commit is on the disk."""

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError

from mep_cloud.errors import StoreError

if TYPE_CHECKING:
    from psycopg import AsyncConnection

BUSY_S: Final = 30
"""The command line writes to the same file while the relay serves."""
WRITER_KIB: Final = 16 * 1024
READER_KIB: Final = 4 * 1024
"""Pages that a connection to SQLite keeps. They fill up within minutes and stay, so this is memory
that the relay takes. Rows lie in the order of time, so that a burst of tasks needs few of them.
"""
_CONNECT_S: Final = 10
_GONE: Final = {
    "keepalives_idle": 6,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""For libpq: a server whose machine or network is gone counts as lost after 15 seconds, whether it
was waited for or sent to. The kernel alone would take a quarter of an hour.
"""
_MIGRATING: Final = 0x6D65702D
"""Key of the advisory lock under which one process migrates."""
SERVING: Final = 0x6D657073
"""Key of the advisory lock that the serving process holds, or several share."""
_SWEEPING: Final = 0x6D657077
"""Key of the advisory lock under which one process sweeps."""
_TAKEOVER_S: Final = 20
"""Longer than it takes the server to notice, by keepalive, that the process before is gone."""


def sqlite_engine(path: Path, *, writable: bool, pool_size: int) -> Engine:
    """One SQLite file: WAL, ``synchronous=FULL``, foreign keys enforced."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_S, "check_same_thread": False},
        pool_size=pool_size,
        hide_parameters=True,  # payloads and hashes of secrets, which errors would show
    )
    begin = "BEGIN IMMEDIATE" if writable else "BEGIN"

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: Any) -> None:
        # The driver's own implicit BEGIN would come after the first SELECT.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA cache_size=-{WRITER_KIB if writable else READER_KIB}")
        if not writable:
            connection.execute("PRAGMA query_only=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def postgresql_engine(url: URL, *, writable: bool, pool_size: int) -> Engine:
    """A PostgreSQL database; readers see one snapshot for each query that they are given.

    Raises:
        StoreError: the driver is not installed.
    """
    try:
        from psycopg.types.string import StrDumper
    except ImportError as error:
        raise StoreError(
            "PostgreSQL needs psycopg. Install it: pip install 'hpc-mep[relay-postgresql]'."
        ) from error

    class Text(StrDumper):
        """PostgreSQL has no NUL in texts; a traceback may."""

        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\0", "\ufffd"))

    engine = create_engine(
        url,
        connect_args=_arguments(url),
        pool_size=pool_size,
        pool_pre_ping=not writable,
        hide_parameters=True,
        isolation_level="READ COMMITTED" if writable else "REPEATABLE READ",
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.adapters.register_dumper(str, Text)
        settings = ["SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"]
        if writable:
            # Whatever the server's default is: acknowledged means on the disk.
            settings = [
                "SET synchronous_commit = on",
                "SET tcp_keepalives_idle = 6",
                "SET tcp_keepalives_interval = 3",
                "SET tcp_keepalives_count = 3",
            ]
        connection.autocommit = True
        for setting in settings:
            connection.execute(setting)
        connection.autocommit = False

    return engine


async def notifications(url: URL, channel: str) -> "AsyncConnection":
    """A connection of its own, in autocommit mode, that hears what is told on `channel`."""
    import psycopg

    dialect = create_engine(url).dialect
    _, arguments = dialect.create_connect_args(url)
    arguments = {**arguments, **_arguments(url)}
    connection = await psycopg.AsyncConnection.connect(
        **arguments,
        autocommit=True,
    )
    await connection.execute(f"LISTEN {channel}")
    return connection


def _arguments(url: URL) -> dict[str, Any]:
    """Of every connection; what the URL says itself goes before."""
    own = {"connect_timeout": _CONNECT_S, "application_name": "mep-relay", **_GONE}
    return {name: value for name, value in own.items() if name not in url.query}


def write_something(connection: Connection) -> None:
    """Have the next commit reach the disk. No row is changed, and none is locked."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("DELETE FROM settings WHERE false"))  # refused if it is read-only
        connection.execute(text("SELECT pg_current_xact_id()"))  # the commit is a record now
    else:
        # A number that SQLite keeps for its user, who has no other use for it here.
        number = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
        connection.exec_driver_sql(f"PRAGMA user_version = {(number + 1) % 1_000_000}")


def lock_migrations(connection: Connection) -> None:
    """Let no other process migrate until this transaction ends."""
    if connection.dialect.name == "postgresql":
        lock = text("SELECT pg_advisory_xact_lock(:key)")
        connection.execute(lock, {"key": _MIGRATING})
    # The transaction of SQLite's writer began as BEGIN IMMEDIATE.


def lock_sweeping(connection: Connection) -> bool:
    """Let no other process sweep until this transaction ends; False: one does."""
    if connection.dialect.name != "postgresql":
        return True
    lock = text("SELECT pg_try_advisory_xact_lock(:key)")
    return bool(connection.scalar(lock, {"key": _SWEEPING}))


def lock_serving(connection: Connection, *, shared: bool) -> None:
    """Keep others from serving the same database while this connection lives.

    `shared` keeps out those only that would serve it alone.

    Raises:
        StoreError: one does.
    """
    if connection.dialect.name != "postgresql":
        return
    lock = "pg_advisory_lock_shared" if shared else "pg_advisory_lock"
    try:
        with connection.begin():
            connection.execute(text(f"SET LOCAL lock_timeout = '{_TAKEOVER_S}s'"))
            connection.execute(text(f"SELECT {lock}(:key)"), {"key": SERVING})
    except OperationalError as error:
        raise StoreError(
            "Another relay process serves this database. Several can only if [cluster] is enabled "
            "for each of them: end the other, or find out who it is in pg_stat_activity. "
            f"({error.orig})"
        ) from error
