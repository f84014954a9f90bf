"""Tasks from their submission to the acknowledgement of their result."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Select,
    case,
    func,
    literal,
    null,
    select,
)

from mep.wire import limits
from mep_cloud.errors import GroupTaken
from mep_cloud.store.database import Database
from mep_cloud.store.records import (
    Delivered,
    Ending,
    StoredTask,
    Submission,
    UnfinishedTask,
)
from mep_cloud.store.schema import functions, task_groups, tasks, user_endpoints
from mep_cloud.store.task_rows import (
    ACKNOWLEDGE,
    END,
    FORGET_SUBMITS,
    GROUP_OWNER,
    INSERT_GROUP,
    INSERT_SUBMIT,
    INSERT_TASKS,
    INSERT_USER_ENDPOINT,
    REQUEST_CANCEL,
    STATUS_COLUMNS,
    SUBMIT_ANSWER,
    as_result,
    as_stored,
    ending_row,
    serializers,
    task_rows,
    user_endpoint_row,
)

REPEATABLE_S: Final = 24 * 3600
"""How long a repeated submit gets its first answer."""
_CHUNK: Final = 500
"""Ids in one IN list."""


class Tasks:
    """Repository of task groups and tasks."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._last_seq: int | None = None  # touched by the writer thread alone

    async def group_owner(self, group_id: str) -> str | None:
        """User id of a task group's owner; None when there is no such group."""
        query = select(task_groups.c.owner).where(task_groups.c.id == group_id)
        return await self._database.read(lambda connection: connection.scalar(query))

    async def claim_group(self, group_id: str, owner: str, at: float) -> str:
        """Make a task group `owner`'s unless it is somebody's; returns whose it is."""

        def operation(connection: Connection) -> str:
            return _group_of(connection, group_id, owner, at)

        return await self._database.write(operation)

    async def submit(self, submission: Submission) -> bytes | None:
        """Make a submission durable, all of it or nothing.

        Returns:
            None; or the answer that a submission of the same `request_id` was given before, and
            then nothing has been written.

        Raises:
            GroupTaken: the task group became somebody else's in the meantime.
        """
        rows = task_rows(submission)

        def operation(connection: Connection) -> bytes | None:
            if (earlier := _earlier_answer(connection, submission)) is not None:
                return earlier
            owner = _group_of(connection, submission.group_id, submission.owner, submission.at)
            if owner != submission.owner:
                raise GroupTaken(submission.group_id)
            connection.execute(INSERT_USER_ENDPOINT, user_endpoint_row(submission))
            connection.execute(INSERT_TASKS, rows)
            return None

        return await self._database.write(operation)

    async def end(self, endings: Sequence[Ending]) -> list[int]:
        """Make results durable; their places in the order of commits, aligned with `endings`."""
        rows = [ending_row(ending) for ending in endings]

        def operation(connection: Connection) -> list[int]:
            if self._last_seq is None:
                query = select(func.coalesce(func.max(tasks.c.result_seq), 0))
                self._last_seq = connection.execute(query).scalar_one()
            for row in rows:
                self._last_seq += 1
                row["seq_"] = self._last_seq
            connection.execute(END, rows)
            return [row["seq_"] for row in rows]

        return await self._database.write(operation)

    async def request_cancel(self, task_ids: Sequence[str], at: float) -> None:
        """Remember that these tasks are no longer wanted."""
        if not task_ids:
            return
        rows = [{"id": task_id, "at": at} for task_id in task_ids]
        await self._database.write(lambda connection: connection.execute(REQUEST_CANCEL, rows))

    async def acknowledge(self, received: Iterable[tuple[str, str]]) -> None:
        """The owners have these results: pairs of task id and owner."""
        rows = [{"id": task_id, "owner_": owner} for task_id, owner in received]
        if rows:
            await self._database.write(lambda c: c.execute(ACKNOWLEDGE, rows))

    async def count_unfinished(self) -> int:
        """How many tasks have not ended."""
        query = select(func.count()).where(tasks.c.outcome.is_(None))
        return await self._database.read(lambda connection: connection.scalar(query) or 0)

    async def unfinished(self, keep_payload: int) -> list[UnfinishedTask]:
        """All tasks that have not ended, in the order of submission.

        Payloads of more than `keep_payload` bytes stay on disk.
        """
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
                tasks.c.cancel_requested.is_not(None),
            )
            .select_from(tasks)
            .join(functions, tasks.c.function_id == functions.c.id)
            .join(user_endpoints, tasks.c.user_endpoint_id == user_endpoints.c.id)
            .where(tasks.c.outcome.is_(None))
            .order_by(tasks.c.seq)
        )
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [
            UnfinishedTask(*row[:9], serializers(row.result_serializers), bool(row[10]))
            for row in rows
        ]

    async def payloads(self, task_ids: Sequence[str]) -> dict[str, bytes]:
        """Arguments of unfinished tasks; one that has ended meanwhile is left out."""
        query = select(tasks.c.task_id, tasks.c.payload).where(tasks.c.payload.is_not(None))
        rows = await self._select(query, task_ids)
        return {row.task_id: row.payload for row in rows}

    async def get(self, task_ids: Sequence[str], owner: str) -> dict[str, StoredTask]:
        """The tasks of `owner` among `task_ids`."""
        query = select(*STATUS_COLUMNS).where(tasks.c.owner == owner)
        return {row.task_id: as_stored(row) for row in await self._select(query, task_ids)}

    async def owned(self, task_ids: Sequence[str], owner: str) -> set[str]:
        """Which of these tasks are `owner`'s."""
        query = select(tasks.c.task_id).where(tasks.c.owner == owner)
        return {row.task_id for row in await self._select(query, task_ids)}

    async def of_group(self, group_id: str) -> list[str]:
        """Task ids of a group, in the order of submission."""
        query = select(tasks.c.task_id).where(tasks.c.group_id == group_id).order_by(tasks.c.seq)
        return await self._database.read(lambda c: list(c.scalars(query)))

    async def unacknowledged(self, group_id: str, after: int) -> tuple[list[Delivered], bool]:
        """The next batch of results of a group that nobody has acknowledged.

        Args:
            group_id: the task group.
            after: only results committed after this one.

        Returns:
            At most a link frame's worth, in the order of commits; and whether there may be more.
        """
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

        def page(connection: Connection) -> tuple[list[Delivered], bool]:
            batch: list[Delivered] = []
            size = 0
            for row in connection.execute(query):
                batch.append(Delivered(row.result_seq, as_result(row)))
                size += len(row.result)
                if size >= limits.BATCH_BYTES:
                    return batch, True
            return batch, len(batch) == limits.BATCH_TASKS

        return await self._database.read(page)

    async def _select(self, query: Select[Any], task_ids: Sequence[str]) -> list[Any]:
        def chunks(connection: Connection) -> list[Any]:
            rows: list[Any] = []
            for chunk in _chunks(task_ids):
                rows.extend(connection.execute(query.where(tasks.c.task_id.in_(chunk))))
            return rows

        return await self._database.read(chunks)


def _earlier_answer(connection: Connection, submission: Submission) -> bytes | None:
    """What a submission of the same name was answered; this one's is kept where there was none."""
    if submission.request_id is None:
        return None
    connection.execute(FORGET_SUBMITS, {"before": submission.at - REPEATABLE_S})
    key = {"owner": submission.owner, "request_id": submission.request_id}
    earlier: bytes | None = connection.execute(SUBMIT_ANSWER, key).scalar()
    if earlier is None:
        row = {**key, "answer": submission.answer, "created": submission.at}
        connection.execute(INSERT_SUBMIT, row)
    return earlier


def _group_of(connection: Connection, group_id: str, owner: str, at: float) -> str:
    """Owner of a task group, which is `owner` if it was nobody's."""
    connection.execute(INSERT_GROUP, {"id": group_id, "owner": owner, "created": at})
    return str(connection.execute(GROUP_OWNER, {"group": group_id}).scalar_one())


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(ids), _CHUNK):
        yield ids[at : at + _CHUNK]
