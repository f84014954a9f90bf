"""What is asked of tasks, on a connection that reads; :class:`~.tasks.Tasks` asks it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from heapq import merge
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, case, func, null, select

from mep.wire import limits
from mep.wire.rest import ListedTask
from mep_cloud.store.expiry import expired, expired_of_group, unfetched
from mep_cloud.store.records import Delivered, StoredTask, TaskOrigin, UnfinishedTask
from mep_cloud.store.schema import functions, task_groups, tasks, user_endpoints
from mep_cloud.store.task_rows import (
    LISTED,
    STATUS_COLUMNS,
    WITHOUT_RESULT,
    as_result,
    as_stored,
    decoded,
    serializers,
)

_CHUNK: Final = 500
"""Ids in one IN list."""

# Built once: of a request for one task, building these took most of the time.
_THESE: Final = tasks.c.task_id.in_(bindparam("ids", expanding=True))
_MINE: Final = tasks.c.owner == bindparam("whose")
_STORED: Final = select(*STATUS_COLUMNS).where(_MINE, _THESE)
_LEFT_OUT: Final = select(*WITHOUT_RESULT).where(_MINE, _THESE)
_SIZES: Final = select(tasks.c.task_id, func.length(tasks.c.result)).where(
    _MINE, _THESE, tasks.c.result.is_not(None)
)
_OWNED: Final = select(tasks.c.task_id).where(_MINE, _THESE)
UNENDED: Final = select(tasks.c.task_id).where(_THESE, tasks.c.outcome.is_(None))
PAYLOADS: Final = select(tasks.c.task_id, tasks.c.payload).where(
    _THESE, tasks.c.payload.is_not(None)
)
_UNACKNOWLEDGED: Final = (
    select(tasks.c.result_seq, *STATUS_COLUMNS)
    .where(
        tasks.c.group_id == bindparam("group"),
        tasks.c.outcome.is_not(None),
        tasks.c.acknowledged.is_(False),
        tasks.c.result_seq > bindparam("after"),
    )
    .order_by(tasks.c.result_seq)
    .limit(bindparam("most"))
)
_GROUPS: Final = (
    select(task_groups.c.id)
    .where(task_groups.c.owner == bindparam("whose"))
    .order_by(task_groups.c.created.desc())
    .limit(bindparam("most"))
)
_GROUP: Final = _GROUPS.where(task_groups.c.id == bindparam("group"))
_LISTED: Final = LISTED.where(tasks.c.group_id == bindparam("group")).limit(bindparam("most"))


def count_unfinished(connection: Connection, endpoint_id: str | None) -> int:
    """How many tasks have not ended, of one endpoint or of all."""
    query = select(func.count()).select_from(tasks).where(tasks.c.outcome.is_(None))
    if endpoint_id is not None:
        query = query.join(user_endpoints, tasks.c.user_endpoint_id == user_endpoints.c.id)
        query = query.where(user_endpoints.c.endpoint_id == endpoint_id)
    return connection.scalar(query) or 0


def unfinished(
    connection: Connection,
    *,
    keep_payload: int,
    endpoint_ids: Sequence[str] | None,
    task_ids: Sequence[str] | None,
) -> list[UnfinishedTask]:
    """See :meth:`~.tasks.Tasks.unfinished`."""
    payload = case((tasks.c.payload_size <= keep_payload, tasks.c.payload), else_=null())
    query = (
        select(
            tasks.c.task_id,
            tasks.c.function_id,
            functions.c.size,
            tasks.c.group_id,
            user_endpoints.c.endpoint_id,
            tasks.c.user_endpoint_id,
            payload,
            tasks.c.payload_size,
            tasks.c.resource_specification,
            tasks.c.result_serializers,
            tasks.c.owner,
            tasks.c.cancel_requested.is_not(None),
            tasks.c.payload_blob,
        )
        .select_from(tasks)
        .join(functions, tasks.c.function_id == functions.c.id)
        .join(user_endpoints, tasks.c.user_endpoint_id == user_endpoints.c.id)
        .where(tasks.c.outcome.is_(None))
        .order_by(tasks.c.seq)
    )
    if endpoint_ids is not None:
        query = query.where(user_endpoints.c.endpoint_id.in_(endpoint_ids))
    if task_ids is not None:
        query = query.where(tasks.c.task_id.in_(task_ids))
    return [
        UnfinishedTask(
            *row[:9],
            serializers(row.result_serializers),
            row.owner,
            bool(row[11]),
            decoded(row.payload_blob),
        )
        for row in connection.execute(query)
    ]


def stored(
    connection: Connection, task_ids: Sequence[str], owner: str, most: int | None
) -> dict[str, StoredTask]:
    """See :meth:`~.tasks.Tasks.get`."""
    late = set() if most is None else _beyond(connection, task_ids, owner, most)
    early = [task_id for task_id in task_ids if task_id not in late]
    rows = selected(connection, _STORED, early, whose=owner)
    found = {row.task_id: as_stored(row) for row in rows}
    for row in selected(connection, _LEFT_OUT, list(late), whose=owner):
        found[row.task_id] = replace(as_stored(row), left_out=True)
    missing = [task_id for task_id in task_ids if task_id not in found]
    for chunk in _chunks(missing):
        found |= expired(connection, chunk, owner)
    return found


def _beyond(connection: Connection, task_ids: Sequence[str], owner: str, most: int) -> set[str]:
    """Tasks whose results are more than `most` bytes together with those before; never the first
    that has one.
    """
    sizes = dict(map(tuple, selected(connection, _SIZES, task_ids, whose=owner)))
    late, total = set(), 0
    for task_id in task_ids:
        size = sizes.get(task_id, 0)
        if total and total + size > most:
            late.add(task_id)
        else:
            total += size
    return late


def owned(connection: Connection, task_ids: Sequence[str], owner: str) -> set[str]:
    """Which of these tasks are `owner`'s; those whose results were dropped are, too."""
    found = {row.task_id for row in selected(connection, _OWNED, task_ids, whose=owner)}
    for chunk in _chunks([task_id for task_id in task_ids if task_id not in found]):
        found |= expired(connection, chunk, owner).keys()
    return found


def origin(connection: Connection, task_id: str) -> TaskOrigin | None:
    """What a task was made of; None: its result was dropped, and that with it."""
    query = (
        select(
            tasks.c.function_id,
            functions.c.name,
            tasks.c.group_id,
            user_endpoints.c.endpoint_id,
            tasks.c.user_endpoint_id,
            tasks.c.payload_size,
            tasks.c.resource_specification,
        )
        .select_from(tasks)
        .join(functions, tasks.c.function_id == functions.c.id)
        .join(user_endpoints, tasks.c.user_endpoint_id == user_endpoints.c.id)
        .where(tasks.c.task_id == task_id)
    )
    row = connection.execute(query).first()
    return None if row is None else TaskOrigin(*row)


def newest(connection: Connection, owner: str, group_id: str | None, most: int) -> list[ListedTask]:
    """See :meth:`~.tasks.Tasks.newest`."""
    wanted = {"whose": owner, "most": most}
    if group_id is None:
        groups = connection.scalars(_GROUPS, wanted).all()
    else:
        groups = connection.scalars(_GROUP, wanted | {"group": group_id}).all()
    found: list[ListedTask] = []
    for group in groups:  # each from its index: groups are large
        rows = connection.execute(_LISTED, {"group": group, "most": most - len(found)})
        found.extend(ListedTask(*row) for row in rows)
        if len(found) >= most:
            break
    return found


def of_group(connection: Connection, group_id: str, owner: str) -> list[str]:
    """See :meth:`~.tasks.Tasks.of_group`."""
    query = select(tasks.c.task_id).where(tasks.c.group_id == group_id, tasks.c.owner == owner)
    query = query.order_by(tasks.c.seq)
    return [*expired_of_group(connection, group_id, owner), *connection.scalars(query)]


def unacknowledged(
    connection: Connection, group_id: str, after: int
) -> tuple[list[Delivered], bool]:
    """See :meth:`~.tasks.Tasks.unacknowledged`."""
    wanted = {"group": group_id, "after": after, "most": limits.BATCH_TASKS}
    rows = connection.execute(_UNACKNOWLEDGED, wanted)
    batch: list[Delivered] = []
    size = 0
    dropped = unfetched(connection, group_id, after, limits.BATCH_TASKS)
    kept = (Delivered(row.result_seq, as_result(row)) for row in rows)
    for delivered in merge(dropped, kept, key=_seq):
        batch.append(delivered)
        size += len(delivered.result.payload)
        if size >= limits.BATCH_BYTES or len(batch) == limits.BATCH_TASKS:
            return batch, True
    return batch, False


def selected(
    connection: Connection, query: Select[Any], task_ids: Sequence[str], **bound: str
) -> list[Any]:
    """The rows of these tasks, by a query with their ids as ``ids``."""
    rows: list[Any] = []
    for chunk in _chunks(task_ids):
        rows.extend(connection.execute(query, {"ids": chunk, **bound}))
    return rows


def _seq(delivered: Delivered) -> int:
    return delivered.seq


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(ids), _CHUNK):
        yield ids[at : at + _CHUNK]
