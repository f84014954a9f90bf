"""What time does to tasks: results are dropped, later every trace of them, and submits' names.

Everything is done in steps of one small transaction each, so that the writer's other callers wait
for one step at most. Rows are visited in the order of submission: a step ends at the first row that
is too young to be concerned, so its cost does not grow with the number of rows that are kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, case, delete, insert, null, select, update

from mep.wire import codes
from mep.wire.tasks import Failure, Result
from mep_cloud.store.database import Database
from mep_cloud.store.engines import lock_sweeping
from mep_cloud.store.prepared import Prepared
from mep_cloud.store.records import Delivered, StoredTask
from mep_cloud.store.schema import (
    blobs,
    endpoints,
    expired_tasks,
    submits,
    tasks,
    user_endpoints,
)

STEP: Final = 500
"""Rows of one step."""

# Built once: it runs with every page that a stream reads.
_UNFETCHED: Final = (
    select(expired_tasks)
    .where(
        expired_tasks.c.group_id == bindparam("group"),
        expired_tasks.c.result_seq > bindparam("after"),
    )
    .order_by(expired_tasks.c.result_seq)
    .limit(bindparam("most"))
)


_OLD: Final = (
    tasks.c.seq > bindparam("after"),
    tasks.c.seq <= bindparam("last"),
    tasks.c.outcome.is_not(None),
    tasks.c.ended < bindparam("before"),
)
_TRACE: Final = insert(expired_tasks).from_select(
    [
        "task_id",
        "seq",
        "group_id",
        "owner",
        "created",
        "ended",
        "outcome",
        "result_seq",
    ],
    select(
        tasks.c.task_id,
        tasks.c.seq,
        tasks.c.group_id,
        tasks.c.owner,
        tasks.c.created,
        tasks.c.ended,
        tasks.c.outcome,
        case((tasks.c.acknowledged.is_(False), tasks.c.result_seq), else_=null()),
    ).where(*_OLD),
)
_FREE_RESULTS: Final = (
    update(blobs)
    .where(
        blobs.c.task_id.in_(select(tasks.c.task_id).where(*_OLD, tasks.c.result_blob.is_not(None)))
    )
    .values(free=0.0)
)
_DROP: Final = delete(tasks).where(*_OLD)
_FORGET_SUBMIT: Final = Prepared(
    delete(submits).where(
        submits.c.owner == bindparam("owner_"), submits.c.request_id == bindparam("request")
    )
)


@dataclass(frozen=True, slots=True)
class Visited:
    """What a step saw."""

    last: int
    """Where the next step begins."""
    more: bool
    """Whether older rows may follow."""


class Expiry:
    """Repository of results that are kept no longer, and the steps that lead there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def overdue(self, submitted_before: float, after: int) -> tuple[list[str], Visited]:
        """Tasks without an end that were submitted before this time.

        Args:
            submitted_before: epoch seconds.
            after: :attr:`Visited.last` of the step before; 0 at first.
        """
        query = (
            select(tasks.c.seq, tasks.c.task_id, tasks.c.created)
            .where(tasks.c.outcome.is_(None), tasks.c.seq > after)
            .order_by(tasks.c.seq)
            .limit(STEP)
        )
        rows = await self._database.read(lambda c: c.execute(query).all())
        old = [row.task_id for row in rows if row.created < submitted_before]
        return old, _visited(rows, submitted_before, after)

    async def homeless(self, deleted_after: float) -> list[str]:
        """Endpoints that were deleted since then, and have tasks without an end."""
        deleted = select(endpoints.c.id).where(endpoints.c.deleted > deleted_after)
        gone = await self._database.read(lambda c: c.scalars(deleted).all())
        if not gone:
            return []
        query = (
            select(user_endpoints.c.endpoint_id)
            .distinct()
            .select_from(tasks)
            .join(user_endpoints, tasks.c.user_endpoint_id == user_endpoints.c.id)
            .where(tasks.c.outcome.is_(None), user_endpoints.c.endpoint_id.in_(gone))
        )
        return list(await self._database.read(lambda c: c.scalars(query).all()))

    async def drop_results(self, ended_before: float, after: int) -> Visited:
        """One step of dropping the results of tasks that ended before this time."""
        query = (
            select(tasks.c.seq, tasks.c.created)
            .where(tasks.c.seq > after)
            .order_by(tasks.c.seq)
            .limit(STEP)
        )

        def operation(connection: Connection) -> Visited:
            if not lock_sweeping(connection):
                return Visited(after, more=False)
            rows = connection.execute(query).all()
            visited = _visited(rows, ended_before, after)
            # By their order: these rows lie together, and nothing travels.
            bounds = {"after": after, "last": visited.last, "before": ended_before}
            connection.execute(_TRACE, bounds)
            connection.execute(_FREE_RESULTS, bounds)
            connection.execute(_DROP, bounds)
            return visited

        return await self._database.write(operation)

    async def forget(self, ended_before: float) -> bool:
        """One step of forgetting tasks whose results were dropped; whether there may be more."""
        old = (
            select(expired_tasks.c.task_id)
            .where(expired_tasks.c.ended < ended_before)
            .order_by(expired_tasks.c.ended)
            .limit(STEP)
        )

        def operation(connection: Connection) -> bool:
            if not lock_sweeping(connection):
                return False
            ids = list(connection.scalars(old))
            if ids:
                change = delete(expired_tasks).where(expired_tasks.c.task_id.in_(ids))
                connection.execute(change)
            return len(ids) == STEP

        return await self._database.write(operation)

    async def forget_submits(self, created_before: float) -> bool:
        """One step of forgetting answers to submits; whether there may be more."""
        old = (
            select(submits.c.owner, submits.c.request_id)
            .where(submits.c.created < created_before)
            .order_by(submits.c.created)
            .limit(STEP)
        )

        def operation(connection: Connection) -> bool:
            if not lock_sweeping(connection):
                return False
            rows = connection.execute(old).all()
            if rows:
                _FORGET_SUBMIT.run(
                    connection, [{"owner_": row.owner, "request": row.request_id} for row in rows]
                )
            return len(rows) == STEP

        return await self._database.write(operation)


def expired(connection: Connection, task_ids: Sequence[str], owner: str) -> dict[str, StoredTask]:
    """The tasks of `owner` among `task_ids` whose results were dropped."""
    query = select(expired_tasks).where(
        expired_tasks.c.task_id.in_(task_ids), expired_tasks.c.owner == owner
    )
    return {
        row.task_id: StoredTask(
            row.task_id, row.created, None, None, row.ended, "failed", b"", _failure(row)
        )
        for row in connection.execute(query)
    }


def expired_of_group(connection: Connection, group_id: str) -> list[str]:
    """Tasks of a group whose results were dropped."""
    query = select(expired_tasks.c.task_id).where(expired_tasks.c.group_id == group_id)
    return list(connection.scalars(query.order_by(expired_tasks.c.seq)))


def unfetched(connection: Connection, group_id: str, after: int, most: int) -> list[Delivered]:
    """Dropped results of a group that nobody had fetched, in the order of commits."""
    wanted = {"group": group_id, "after": after, "most": most}
    return [
        Delivered(
            row.result_seq,
            Result(row.task_id, "failed", b"", _failure(row), 0.0, row.ended),
        )
        for row in connection.execute(_UNFETCHED, wanted)
    ]


def _visited(rows: Sequence[Any], before: float, after: int) -> Visited:
    if not rows:
        return Visited(after, more=False)
    return Visited(rows[-1].seq, more=len(rows) == STEP and rows[-1].created < before)


def _failure(row: Any) -> Failure:
    message = (
        f"The task ended ({row.outcome}), and the relay has kept its result as long as it keeps "
        "results (see result_retention_s in GET /v3/limits). Fetch results sooner, or run it again."
    )
    return Failure(codes.RESULT_EXPIRED, message)
