"""What time does to tasks: results are dropped, later every trace of them, and submits' names.

Everything is done in steps of one small transaction each, so that the writer's other callers wait
for one step at most. Rows are visited in the order of submission: a step ends at the first row that
is too young to be concerned, so its cost does not grow with the number of rows that are kept.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, zip_longest
from typing import Any, Final

from sqlalchemy import Connection, bindparam, case, delete, insert, null, select, update

from mep.wire import codes
from mep.wire.tasks import Failure, Result
from mep_cloud.store import parents
from mep_cloud.store.database import Database
from mep_cloud.store.engines import lock_sweeping
from mep_cloud.store.prepared import Prepared
from mep_cloud.store.records import Delivered, StoredTask
from mep_cloud.store.schema import (
    blobs,
    endpoints,
    expired_tasks,
    functions,
    submits,
    tasks,
    user_endpoints,
)

STEP: Final = 500
"""Rows of one step."""
LATE_S: Final = 3600.0
"""No process takes a deleted function for a live one so long after, whatever its clock says."""

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
_OLDEST_UNFINISHED: Final = (
    select(tasks.c.created).where(tasks.c.outcome.is_(None)).order_by(tasks.c.seq).limit(1)
)
_DROP_BODIES: Final = (
    update(functions)
    .where(
        functions.c.id.in_(
            select(functions.c.id)
            .where(functions.c.deleted < bindparam("before"), functions.c.size > 0)
            .order_by(functions.c.deleted)
            .limit(STEP)
        )
    )
    .values(body=b"", size=0)
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

    async def keep(
        self, groups: Collection[str], user_endpoints: Collection[str], now: float
    ) -> None:
        """These task groups and user endpoints are used, and not forgotten for a day at least."""
        for some_groups, some_endpoints in zip_longest(
            _batched(groups), _batched(user_endpoints), fillvalue=()
        ):
            await self._database.write(
                partial(parents.renew, groups=some_groups, user_endpoints=some_endpoints, at=now)
            )

    async def forget_groups(self, used_before: float, now: float) -> bool:
        """One step of forgetting task groups that nothing needs; whether there may be more."""
        return await self._database.write(
            partial(parents.forget_groups, used_before=used_before, now=now)
        )

    async def forget_user_endpoints(self, used_before: float, now: float) -> bool:
        """One step of forgetting user endpoints that nothing needs; whether there may be more."""
        return await self._database.write(
            partial(parents.forget_user_endpoints, used_before=used_before, now=now)
        )

    async def forget_bodies(self, deleted_before: float) -> bool:
        """One step of dropping bodies of functions that were deleted before this time.

        Those that an unfinished task may need are kept: one that was submitted `LATE_S` after a
        function was deleted, or later, is none of that function's. Whether there may be more.
        """

        def operation(connection: Connection) -> bool:
            if not lock_sweeping(connection):
                return False
            oldest = connection.scalar(_OLDEST_UNFINISHED)
            before = deleted_before if oldest is None else min(deleted_before, oldest - LATE_S)
            return connection.execute(_DROP_BODIES, {"before": before}).rowcount == STEP

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


def expired_of_group(connection: Connection, group_id: str, owner: str) -> list[str]:
    """Tasks of `owner`'s group whose results were dropped."""
    query = select(expired_tasks.c.task_id).where(
        expired_tasks.c.group_id == group_id, expired_tasks.c.owner == owner
    )
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


def _batched(ids: Collection[str]) -> Iterator[tuple[str, ...]]:
    rest = iter(ids)
    while batch := tuple(islice(rest, STEP)):
        yield batch


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
