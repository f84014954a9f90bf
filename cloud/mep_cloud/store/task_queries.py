"""What is asked of tasks, on a connection that reads; :class:`~.tasks.Tasks` asks it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from heapq import merge
from typing import Any, Final

from sqlalchemy import Connection, Select, case, func, literal, null, select

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
    query = select(*STATUS_COLUMNS).where(tasks.c.owner == owner)
    early = [task_id for task_id in task_ids if task_id not in late]
    found = {row.task_id: as_stored(row) for row in selected(connection, query, early)}
    query = select(*WITHOUT_RESULT).where(tasks.c.owner == owner)
    for row in selected(connection, query, list(late)):
        found[row.task_id] = replace(as_stored(row), left_out=True)
    missing = [task_id for task_id in task_ids if task_id not in found]
    for chunk in _chunks(missing):
        found |= expired(connection, chunk, owner)
    return found


def _beyond(connection: Connection, task_ids: Sequence[str], owner: str, most: int) -> set[str]:
    """Tasks whose results are more than `most` bytes together with those before; never the first
    that has one.
    """
    query = select(tasks.c.task_id, func.length(tasks.c.result)).where(
        tasks.c.owner == owner, tasks.c.result.is_not(None)
    )
    sizes = dict(map(tuple, selected(connection, query, task_ids)))
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
    query = select(tasks.c.task_id).where(tasks.c.owner == owner)
    found = {row.task_id for row in selected(connection, query, task_ids)}
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
    groups = select(task_groups.c.id).where(task_groups.c.owner == owner)
    if group_id is not None:
        groups = groups.where(task_groups.c.id == group_id)
    groups = groups.order_by(task_groups.c.created.desc()).limit(most)
    found: list[ListedTask] = []
    for group in connection.scalars(groups).all():  # each from its index: groups are large
        query = LISTED.where(tasks.c.group_id == group).limit(most - len(found))
        found.extend(ListedTask(*row) for row in connection.execute(query))
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
    query = (
        select(tasks.c.result_seq, *STATUS_COLUMNS)
        .where(
            tasks.c.group_id == literal(group_id),
            tasks.c.outcome.is_not(None),
            tasks.c.acknowledged.is_(False),
            tasks.c.result_seq > after,
        )
        .order_by(tasks.c.result_seq)
        .limit(limits.BATCH_TASKS)
    )
    batch: list[Delivered] = []
    size = 0
    dropped = unfetched(connection, group_id, after, limits.BATCH_TASKS)
    kept = (Delivered(row.result_seq, as_result(row)) for row in connection.execute(query))
    for delivered in merge(dropped, kept, key=_seq):
        batch.append(delivered)
        size += len(delivered.result.payload)
        if size >= limits.BATCH_BYTES or len(batch) == limits.BATCH_TASKS:
            return batch, True
    return batch, False


def selected(connection: Connection, query: Select[Any], task_ids: Sequence[str]) -> list[Any]:
    """The rows of these tasks."""
    rows: list[Any] = []
    for chunk in _chunks(task_ids):
        rows.extend(connection.execute(query.where(tasks.c.task_id.in_(chunk))))
    return rows


def _seq(delivered: Delivered) -> int:
    return delivered.seq


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(ids), _CHUNK):
        yield ids[at : at + _CHUNK]
