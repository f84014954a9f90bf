"""Tasks from their submission to the acknowledgement of their result."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, Select, select

from mep.wire.rest import ListedTask
from mep_cloud.errors import GroupTaken
from mep_cloud.store import task_queries as queries
from mep_cloud.store.blobs import attach, free, keep
from mep_cloud.store.database import Database
from mep_cloud.store.parents import Known, hold_group, hold_user_endpoint
from mep_cloud.store.processes import shared_places, tell
from mep_cloud.store.records import (
    Delivered,
    Ending,
    News,
    StoredTask,
    Submission,
    TaskOrigin,
    UnfinishedTask,
)
from mep_cloud.store.schema import task_groups
from mep_cloud.store.task_rows import (
    ACKNOWLEDGE,
    END,
    INSERT_SUBMIT,
    INSERT_TASKS,
    REQUEST_CANCEL,
    SUBMIT_ANSWER,
    ending_row,
    last_readable,
    task_rows,
)
from mep_cloud.store.webhooks import INSERT_NEWS, rows_of

_CLAIMED: Final = 100
"""Task groups that are claimed in one step."""


class Tasks:
    """Repository of task groups and tasks."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._last_seq: int | None = None  # touched by the writer thread alone
        self._known = Known()

    async def group_owner(self, group_id: str) -> str | None:
        """User id of a task group's owner; None when there is no such group."""
        query = select(task_groups.c.owner).where(task_groups.c.id == group_id)
        return await self._database.read(lambda connection: connection.scalar(query))

    async def claim_groups(self, group_ids: Sequence[str], owner: str, at: float) -> dict[str, str]:
        """Make these task groups `owner`'s unless they are somebody's; whose each of them is.

        Those that are `owner`'s are not forgotten for a day at least.
        """
        new = [each for each in group_ids if not self._known.has_group(each, owner, at)]
        owners = dict.fromkeys(group_ids, owner)
        for first in range(0, len(new), _CLAIMED):
            step = new[first : first + _CLAIMED]

            def operation(connection: Connection, step: Sequence[str] = step) -> dict[str, str]:
                return {each: hold_group(connection, each, owner, at) for each in step}

            owners |= await self._database.write(operation)
        for group_id in new:
            if owners[group_id] == owner:
                self._known.held_group(group_id, owner, at)
        return owners

    async def submit(self, submission: Submission, notes: Sequence[str] = ()) -> bytes | None:
        """Make a submission durable, all of it or nothing, and tell other processes `notes` of it.

        Returns:
            None; or the answer that a submission of the same `request_id` was given before, and
            then nothing has been written.

        Raises:
            GroupTaken: the task group became somebody else's in the meantime.
            BlobGone: an upload that a task refers to is not there.
        """
        rows = task_rows(submission)
        group_id, owner, at = submission.group_id, submission.owner, submission.at
        user_endpoint_id = submission.user_endpoint_id
        new_group = not self._known.has_group(group_id, owner, at)
        new_user_endpoint = not self._known.has_user_endpoint(user_endpoint_id, at)
        blobs = {task.task_id: task.blob for task in submission.tasks if task.blob is not None}

        def operation(connection: Connection) -> bytes | None:
            if (earlier := _earlier_answer(connection, submission)) is not None:
                return earlier
            if new_group and hold_group(connection, group_id, owner, at) != owner:
                raise GroupTaken(group_id)
            if new_user_endpoint:
                hold_user_endpoint(connection, submission)
            if blobs:
                attach(connection, owner, blobs)
            INSERT_TASKS.run(connection, rows)
            tell(connection, notes)
            return None

        earlier = await self._database.write(operation)
        if earlier is None:
            self._known.held_group(group_id, owner, at)
            self._known.held_user_endpoint(user_endpoint_id, at)
        return earlier

    async def answered(self, owner: str, request_id: str) -> bytes | None:
        """What `owner`'s submission of this name was answered; None: there was none lately."""
        key = {"owner": owner, "request_id": request_id}
        return await self._database.read(lambda c: c.execute(SUBMIT_ANSWER, key).scalar())

    async def end(
        self, endings: Sequence[Ending], news: Sequence[News] = (), notes: Sequence[str] = ()
    ) -> list[int]:
        """Make results durable, and the news of them that webhooks are to get.

        Args:
            endings: how tasks ended.
            news: for webhooks.
            notes: for other processes.

        Returns:
            Places in the order of commits, aligned with `endings`.

        Raises:
            BlobGone: an upload that a result refers to is not there.
        """
        rows = [ending_row(ending) for ending in endings]
        told = rows_of(news)
        blobs = {each.result.task_id: each.result.blob for each in endings if each.result.blob}
        unneeded = [each.arguments for each in endings if each.arguments is not None]

        def operation(connection: Connection) -> list[int]:
            for place, row in enumerate(rows, self._first_place(connection, len(rows))):
                row["seq_"] = place
            END.run(connection, rows)
            keep(connection, blobs)
            free(connection, unneeded, endings[0].at)
            if told:
                connection.execute(INSERT_NEWS, told)
            tell(connection, notes)
            return [row["seq_"] for row in rows]

        return await self._database.write(operation)

    def _first_place(self, connection: Connection, count: int) -> int:
        """The first of so many places in the order of commits. Called by the writer thread."""
        if self._database.shared:
            return shared_places(connection, count)
        first = self._begin_places(connection) + 1
        self._last_seq = first + count - 1
        return first

    def _begin_places(self, connection: Connection) -> int:
        """The last place of those before. Called by the writer thread."""
        if self._last_seq is None:
            self._last_seq = last_readable(connection)
        return self._last_seq

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
            await self._database.write(lambda c: ACKNOWLEDGE.run(c, rows))

    async def begin(self) -> None:
        """The one process of a relay begins: new results come after all that streams may read.

        Later, what a stream has read may be acknowledged, and its place be given away again.
        """
        await self._database.write(self._begin_places)

    async def count_unfinished(self, endpoint_id: str | None = None) -> int:
        """How many tasks have not ended, of one endpoint or of all."""
        return await self._database.read(partial(queries.count_unfinished, endpoint_id=endpoint_id))

    async def unfinished(
        self,
        keep_payload: int,
        *,
        endpoint_ids: Sequence[str] | None = None,
        task_ids: Sequence[str] | None = None,
    ) -> list[UnfinishedTask]:
        """Tasks that have not ended, in the order of submission: all, or those of these ids.

        Payloads of more than `keep_payload` bytes stay on disk.
        """
        return await self._database.read(
            partial(
                queries.unfinished,
                keep_payload=keep_payload,
                endpoint_ids=endpoint_ids,
                task_ids=task_ids,
            )
        )

    async def unended(self, task_ids: Sequence[str]) -> set[str]:
        """Which of these tasks have not ended."""
        return {row.task_id for row in await self._select(queries.UNENDED, task_ids)}

    async def payloads(self, task_ids: Sequence[str]) -> dict[str, bytes]:
        """Arguments of unfinished tasks; one that has ended meanwhile is left out."""
        rows = await self._select(queries.PAYLOADS, task_ids)
        return {row.task_id: row.payload for row in rows}

    async def get(
        self, task_ids: Sequence[str], owner: str, *, most: int | None = None
    ) -> dict[str, StoredTask]:
        """The tasks of `owner` among `task_ids`; those whose results were dropped have failed.

        With `most`, the first results that have so many bytes together are read, at least one.
        """
        return await self._database.read(
            partial(queries.stored, task_ids=task_ids, owner=owner, most=most)
        )

    async def origin(self, task_id: str) -> TaskOrigin | None:
        """What a task was made of; None: its result was dropped, and that with it."""
        return await self._database.read(partial(queries.origin, task_id=task_id))

    async def owned(self, task_ids: Sequence[str], owner: str) -> set[str]:
        """Which of these tasks are `owner`'s; those whose results were dropped are, too."""
        return await self._database.read(partial(queries.owned, task_ids=task_ids, owner=owner))

    async def newest(self, owner: str, group_id: str | None, most: int) -> list[ListedTask]:
        """The newest tasks of a group, or of the newest groups, of `owner`.

        The status of one that has not ended is empty.
        """
        return await self._database.read(
            partial(queries.newest, owner=owner, group_id=group_id, most=most)
        )

    async def of_group(self, group_id: str, owner: str) -> list[str]:
        """Task ids of `owner`'s group, in the order of submission; dropped results come first."""
        return await self._database.read(partial(queries.of_group, group_id=group_id, owner=owner))

    async def unacknowledged(self, group_id: str, after: int) -> tuple[list[Delivered], bool]:
        """The next batch of results of a group that nobody has acknowledged.

        Args:
            group_id: the task group.
            after: only results committed after this one.

        Returns:
            At most a link frame's worth, in the order of commits; and whether there may be more.
        """
        return await self._database.read(
            partial(queries.unacknowledged, group_id=group_id, after=after)
        )

    async def _select(self, query: Select[Any], task_ids: Sequence[str]) -> list[Any]:
        return await self._database.read(partial(queries.selected, query=query, task_ids=task_ids))


def _earlier_answer(connection: Connection, submission: Submission) -> bytes | None:
    """What a submission of the same name was answered; this one's is kept where there was none."""
    if submission.request_id is None:
        return None
    key = {"owner": submission.owner, "request_id": submission.request_id}
    row = (submission.owner, submission.request_id, submission.answer, submission.at)
    if INSERT_SUBMIT.run(connection, [row]):
        return None
    return bytes(connection.execute(SUBMIT_ANSWER, key).scalar_one())
