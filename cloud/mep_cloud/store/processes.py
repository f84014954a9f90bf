"""Relay processes on one PostgreSQL database, and the endpoints that each of them delivers.

Every write of a process goes over one connection, which also holds the advisory lock of the
process's number. So whoever gets that lock knows that the other will never write again: a process
that was declared dead is fenced off by the server itself, not by a check before each write.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import (
    Connection,
    Delete,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql

from mep_cloud.store.database import Database
from mep_cloud.store.schema import homes, processes, tasks, user_endpoints
from mep_cloud.store.task_rows import last_readable

CHANNEL: Final = "mep_relay"
"""Of NOTIFY."""
LOCK_CLASS: Final = 0x6D657070
"""First half of the key of a process's advisory lock; the second is its number."""

_NOW = func.extract("epoch", func.clock_timestamp())
_HOLD = text("SELECT pg_advisory_lock(:class, :number)")
_TRY = text("SELECT pg_try_advisory_xact_lock(:class, :number)")
_TELL = text(f"SELECT pg_notify('{CHANNEL}', :note)")
_NEW_HOME = postgresql.insert(homes).on_conflict_do_nothing()
_PLACES: Final = 0x6D657071
"""Key of the advisory lock under which one process takes places in the order of commits."""
_TAKE = text(
    "SELECT setval('result_places', nextval('result_places') + :count - 1) "
    "FROM (SELECT pg_advisory_xact_lock(:key) OFFSET 0) AS locked"
)
_GO_ON = text(
    "SELECT setval('result_places', greatest(last_value, :last) + 1, false) "
    "FROM (SELECT pg_advisory_xact_lock(:key) OFFSET 0) AS locked, result_places"
)
_OWNERS = (
    select(homes.c.endpoint_id, homes.c.process, processes.c.url, processes.c.seal)
    .join(processes, homes.c.process == processes.c.number)
    .where(homes.c.endpoint_id.in_(bindparam("endpoints", expanding=True)))
)
_ORPHANS = (
    select(
        user_endpoints.c.endpoint_id,
        bindparam("process", type_=homes.c.process.type),
        literal(False),
        literal(False),
    )
    .distinct()
    .join(tasks, tasks.c.user_endpoint_id == user_endpoints.c.id)
    .where(
        tasks.c.outcome.is_(None),
        ~exists().where(homes.c.endpoint_id == user_endpoints.c.endpoint_id),
    )
    .order_by(user_endpoints.c.endpoint_id)  # as in `claim`
)
_ADOPT = (
    postgresql.insert(homes)
    .from_select(["endpoint_id", "process", "manager", "warden"], _ORPHANS)
    .on_conflict_do_nothing()
    .returning(homes.c.endpoint_id)
)


@dataclass(frozen=True, slots=True)
class Owner:
    """Who delivers an endpoint's tasks."""

    number: int
    url: str
    seal: bytes


def tell(connection: Connection, notes: Sequence[str]) -> None:
    """Tell all processes, if and when this transaction commits."""
    for note in notes:
        connection.execute(_TELL, {"note": note})


def shared_places(connection: Connection, count: int) -> int:
    """The first of so many places in the order of commits, which all processes share.

    The lock is held until the transaction is over, so places become visible in their order.
    """
    last = int(connection.execute(_TAKE, {"count": count, "key": _PLACES}).scalar_one())
    return last - count + 1


class Processes:
    """Repository of relay processes and homes. PostgreSQL only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def join(self, url: str, seal: bytes) -> int:
        """Become one of the processes; the number by which the others know this one."""

        def operation(connection: Connection) -> int:
            new = (
                insert(processes)
                .values(url=url, seal=seal, beat=_NOW)
                .returning(processes.c.number)
            )
            number = int(connection.execute(new).scalar_one())
            connection.execute(_HOLD, {"class": LOCK_CLASS, "number": number})
            # A process that served alone has counted for itself.
            after = {"last": last_readable(connection), "key": _PLACES}
            connection.execute(_GO_ON, after)
            return number

        return await self._database.write(operation)

    async def addresses(self) -> list[tuple[str, bytes]]:
        """URL and seal of every process that lives."""
        about = {"class": LOCK_CLASS, "number": 0}
        rows = await self._database.read(lambda c: c.exec_driver_sql(CENSUS, about).all())
        return [(url, bytes(seal)) for _, url, seal, _, holds in rows if holds]

    async def leave(self, number: int, notes: Sequence[str]) -> None:
        """Give up all homes: the last write of a process that ends."""

        def operation(connection: Connection) -> None:
            connection.execute(_forget(number))
            tell(connection, notes)

        await self._database.write(operation)

    async def bury(self, number: int, notes: Sequence[str]) -> bool:
        """Forget another process and its homes, unless it lives."""

        def operation(connection: Connection) -> bool:
            if not connection.scalar(_TRY, {"class": LOCK_CLASS, "number": number}):
                return False
            connection.execute(_forget(number))
            tell(connection, notes)
            return True

        return await self._database.write(operation)

    async def claim(self, endpoint_ids: Sequence[str], number: int) -> dict[str, Owner]:
        """Deliver these endpoints' tasks, unless another process does; who does."""
        # In order, so that two processes do not wait for each other.
        rows = [
            {"endpoint_id": each, "process": number, "manager": False, "warden": False}
            for each in sorted(endpoint_ids)
        ]

        def operation(connection: Connection) -> dict[str, Owner]:
            connection.execute(_NEW_HOME, rows)
            found = connection.execute(_OWNERS, {"endpoints": list(endpoint_ids)})
            return {row.endpoint_id: Owner(row.process, row.url, bytes(row.seal)) for row in found}

        return await self._database.write(operation)

    async def adopt(self, number: int) -> list[str]:
        """Deliver all endpoints that have unfinished tasks and that nobody delivers; which."""

        def operation(connection: Connection) -> list[str]:
            return list(connection.execute(_ADOPT, {"process": number}).scalars())

        return await self._database.write(operation)

    async def connected(self, endpoint_id: str, *, manager: bool, warden: bool) -> None:
        """Let the other processes know who is connected to this endpoint's home."""
        change = update(homes).where(homes.c.endpoint_id == endpoint_id)
        values = {"manager": manager, "warden": warden}
        await self._database.write(lambda c: c.execute(change.values(**values)))

    async def online(self, endpoint_id: str) -> tuple[bool, bool]:
        """Whether the endpoint's manager is connected to its home, and whether its warden is."""
        query = select(homes.c.manager, homes.c.warden).where(homes.c.endpoint_id == endpoint_id)
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return (False, False) if row is None else (row.manager, row.warden)

    async def tell(self, notes: Sequence[str]) -> None:
        """Tell all processes."""
        await self._database.write(lambda connection: tell(connection, notes))


def _forget(number: int) -> Delete:
    """With its homes."""
    return delete(processes).where(processes.c.number == number)


_HOLDERS = """
    SELECT pid FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 2
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND classid = %(class)s AND objid = """
CENSUS: Final = (
    "SELECT number, url, seal, extract(epoch FROM clock_timestamp())::float8 - beat, EXISTS ("  # noqa: S608
    + _HOLDERS
    + "number) FROM processes"
)
"""Every process: number, URL, seal, seconds since it last showed life, whether it can write."""
BEAT: Final = """
    UPDATE processes SET beat = extract(epoch FROM clock_timestamp())::float8
    WHERE number = %(number)s
"""
FENCE: Final = (
    "SELECT pg_terminate_backend(pid) FROM ("  # noqa: S608 - constants
    + _HOLDERS
    + "%(number)s) AS holders"
)
"""End the connection by which a process writes, as every account may with its own connections.

These three take ``class`` (:data:`LOCK_CLASS`) and ``number``.
"""
