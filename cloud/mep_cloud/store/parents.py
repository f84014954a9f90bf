"""What tasks refer to: task groups and user endpoints. Made when they are needed, and forgotten.

``used`` is when a row was last needed, `FRESH_S` too early at most, so that a row is not written
for every task. A transaction that needs a row *holds* it: the row is there until the transaction
ends, and fresh after it. The sweep removes only rows that were not used for more than `SPARED_S`,
to which nothing refers, and which no transaction holds; so what a process held a moment ago needs
no second look, and who waits for results keeps the group by `renew`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    Column,
    Connection,
    Select,
    Table,
    bindparam,
    delete,
    exists,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import UpdateBase

from mep_cloud.memory import Seen
from mep_cloud.store.engines import lock_sweeping
from mep_cloud.store.prepared import Prepared
from mep_cloud.store.records import Submission
from mep_cloud.store.schema import expired_tasks, start_tokens, task_groups, tasks, user_endpoints

FRESH_S: Final = 3600.0
"""A row that was used is not written again for so long."""
SPARED_S: Final = 24 * 3600.0
"""No row that was used in this time is removed: much more than `FRESH_S`, twice."""
STEP: Final = 200
"""Rows of one step."""
_KNOWN_ROWS: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Kind:
    """A table of rows that are held, and what it is asked."""

    table: Table
    insert: Prepared
    hold: Select[Any]
    renew: Prepared
    referring: tuple[Column[str], ...]
    """Columns that hold its ids."""


def _kind(
    table: Table, owner: Column[str], columns: tuple[str, ...], *referring: Column[str]
) -> _Kind:
    unless_there: dict[str, UpdateBase] = {
        "sqlite": sqlite.insert(table).on_conflict_do_nothing(),
        "postgresql": postgresql.insert(table).on_conflict_do_nothing(),
    }
    this = table.c.id == bindparam("key")
    # Shared by all who hold it, and by those who only write `used`.
    hold = select(table.c.id, table.c.used, owner.label("owner")).where(this)
    hold = hold.with_for_update(read=True, key_share=True)
    # Passed over where another transaction does it: two that wait for each other would fail.
    free = select(table.c.id).where(this).with_for_update(skip_locked=True, key_share=True)
    renew = update(table).where(table.c.id.in_(free)).values(used=bindparam("at"))
    return _Kind(table, Prepared(unless_there, columns), hold, Prepared(renew), referring)


_GROUP: Final = _kind(
    task_groups,
    task_groups.c.owner,
    ("id", "owner", "created", "used"),
    tasks.c.group_id,
    expired_tasks.c.group_id,
)
_USER_ENDPOINT: Final = _kind(
    user_endpoints,
    user_endpoints.c.user_id,
    ("id", "endpoint_id", "user_id", "options", "runtime", "created", "used"),
    tasks.c.user_endpoint_id,
)


class Known:
    """What a process held within the hour. Time is the caller's, as it is in ``used``."""

    def __init__(self) -> None:
        self._groups: Seen[tuple[float, str, str]] = Seen(_KNOWN_ROWS)
        self._user_endpoints: Seen[tuple[float, str]] = Seen(_KNOWN_ROWS)

    def has_group(self, group_id: str, owner: str, at: float) -> bool:
        """Whether the group is there, and `owner`'s."""
        return (at // FRESH_S, group_id, owner) in self._groups

    def has_user_endpoint(self, user_endpoint_id: str, at: float) -> bool:
        """Whether the user endpoint is there."""
        return (at // FRESH_S, user_endpoint_id) in self._user_endpoints

    def held_group(self, group_id: str, owner: str, at: float) -> None:
        """A transaction that held it was committed."""
        self._groups.add((at // FRESH_S, group_id, owner))

    def held_user_endpoint(self, user_endpoint_id: str, at: float) -> None:
        """A transaction that held it was committed."""
        self._user_endpoints.add((at // FRESH_S, user_endpoint_id))


def hold_group(connection: Connection, group_id: str, owner: str, at: float) -> str:
    """Hold a task group; its owner, who is `owner` if it was nobody's."""
    there = _hold(connection, _GROUP, (group_id, owner, at, at), at)
    return owner if there is None else str(there.owner)


def hold_user_endpoint(connection: Connection, submission: Submission) -> None:
    """Hold the user endpoint of a submission."""
    row = (
        submission.user_endpoint_id,
        submission.endpoint_id,
        submission.owner,
        submission.options,
        submission.runtime,
        submission.at,
        submission.at,
    )
    _hold(connection, _USER_ENDPOINT, row, submission.at)


def renew(
    connection: Connection, groups: Collection[str], user_endpoints: Collection[str], at: float
) -> None:
    """Let these be fresh, as far as they are there. What somebody else holds is passed over."""
    for kind, ids in ((_GROUP, groups), (_USER_ENDPOINT, user_endpoints)):
        table = kind.table
        stale = select(table.c.id).where(table.c.id.in_(ids), table.c.used < at - FRESH_S)
        free = stale.with_for_update(skip_locked=True, key_share=True)
        connection.execute(update(table).where(table.c.id.in_(free)).values(used=at))


def forget_groups(connection: Connection, used_before: float, now: float) -> bool:
    """One step of removing task groups that nothing needs; whether there may be more."""
    return _forget(connection, _GROUP, used_before, now)


def forget_user_endpoints(connection: Connection, used_before: float, now: float) -> bool:
    """One step of removing user endpoints that nothing needs; whether there may be more.

    Their tokens connect no more.
    """
    return _forget(connection, _USER_ENDPOINT, used_before, now)


def _hold(connection: Connection, kind: _Kind, row: tuple[Any, ...], at: float) -> Any:
    """The row that was there, if any; else this one.

    An INSERT would wait for another process that only writes ``used``, so it is for what is new.
    """
    there: Any = None
    while there is None:
        there = connection.execute(kind.hold, {"key": row[0]}).first()
        if there is None and kind.insert.run(connection, [row]):
            return None
    _renew(connection, kind, there, at)
    return there


def _renew(connection: Connection, kind: _Kind, row: Any, at: float) -> None:
    if row.used < at - FRESH_S:
        kind.renew.run(connection, [{"key": row.id, "at": at}])


def _forget(connection: Connection, kind: _Kind, used_before: float, now: float) -> bool:
    if not lock_sweeping(connection):
        return False
    table = kind.table
    old = (
        select(table.c.id, table.c.used)
        .where(table.c.used < used_before)
        .order_by(table.c.used)
        .limit(STEP)
        .with_for_update(skip_locked=True)
    )
    rows = connection.execute(old).all()
    if not rows:
        return False
    # From here on nobody can begin to refer to them; who did before is seen by what follows.
    these = table.c.id.in_([row.id for row in rows if row.used > 0])
    unneeded = [~exists().where(column == table.c.id) for column in kind.referring]
    if kind is _USER_ENDPOINT:
        gone = select(table.c.id).where(these, *unneeded)
        connection.execute(delete(start_tokens).where(start_tokens.c.user_endpoint_id.in_(gone)))
    connection.execute(delete(table).where(these, *unneeded))
    # The rest is needed, or from before it was known when a row is used.
    every = table.c.id.in_([row.id for row in rows])
    connection.execute(update(table).where(every).values(used=now))
    return len(rows) == STEP
