"""What is known of files of large arguments and results; see :mod:`mep_cloud.blobs`.

A row is there before its file and longer than it, so that no file is ever forgotten.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from sqlalchemy import Connection, bindparam, delete, func, insert, null, select, update

from mep.wire.tasks import Blob
from mep_cloud.errors import BlobGone, QuotaExceeded
from mep_cloud.store.database import Database
from mep_cloud.store.prepared import Prepared
from mep_cloud.store.schema import blobs, tasks
from mep_cloud.store.task_rows import decoded

Kind = Literal["arguments", "result"]

STEP: Final = 100
"""Files that are removed in one step."""

_ATTACH: Final = Prepared(
    update(blobs)
    .where(
        blobs.c.id == bindparam("blob"),
        blobs.c.owner == bindparam("whose"),
        blobs.c.kind == bindparam("what"),
        blobs.c.size == bindparam("bytes"),
        blobs.c.sha256 == bindparam("digest"),
        blobs.c.task_id.is_(None),
    )
    .values(task_id=bindparam("task"), free=null())
)
_KEEP: Final = Prepared(
    update(blobs)
    .where(
        blobs.c.id == bindparam("blob"),
        blobs.c.task_id == bindparam("task"),
        blobs.c.sha256 == bindparam("digest"),
        blobs.c.kind == bindparam("what"),
    )
    .values(free=null())
)
_FREE: Final = Prepared(
    update(blobs).where(blobs.c.id == bindparam("blob")).values(free=bindparam("at"))
)


def attach(connection: Connection, owner: str, wanted: Mapping[str, Blob]) -> None:
    """Make uploads the arguments of these tasks.

    Raises:
        BlobGone: one is not there, not `owner`'s, not what it is said to be, or another task's.
    """
    rows = [
        {
            "task": task_id,
            "blob": blob.id,
            "whose": owner,
            "what": "arguments",
            "bytes": blob.size,
            "digest": blob.sha256,
        }
        for task_id, blob in wanted.items()
    ]
    for row in rows:
        if not _ATTACH.run(connection, [row]):
            raise BlobGone(row["blob"])


def keep(connection: Connection, results: Mapping[str, Blob]) -> None:
    """Make uploads the results of these tasks.

    Raises:
        BlobGone: one was removed meanwhile.
    """
    for task_id, blob in results.items():
        row = {"task": task_id, "blob": blob.id, "digest": blob.sha256, "what": "result"}
        if not _KEEP.run(connection, [row]):
            raise BlobGone(blob.id)


def free(connection: Connection, blob_ids: Sequence[str], at: float) -> None:
    """Let go what no task needs."""
    if blob_ids:
        _FREE.run(connection, [{"blob": blob_id, "at": at} for blob_id in blob_ids])


class Blobs:
    """Repository of blobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(
        self,
        blob_id: str,
        owner: str,
        kind: Kind,
        size: int,
        task_id: str | None,
        at: float,
        free: float,
        per_user: int,
    ) -> None:
        """A file of `size` bytes is about to be written.

        Raises:
            QuotaExceeded: `owner` has too much already; 0 for `per_user`: there is no bound.
        """
        row = {
            "id": blob_id,
            "owner": owner,
            "kind": kind,
            "size": size,
            "task_id": task_id,
            "created": at,
            "free": free,
        }
        used = select(func.coalesce(func.sum(blobs.c.size), 0)).where(blobs.c.owner == owner)

        def operation(connection: Connection) -> None:
            if per_user:
                there = int(connection.scalar(used) or 0)
                if there + size > per_user:
                    raise QuotaExceeded(there)
            connection.execute(insert(blobs).values(**row))

        await self._database.write(operation)

    async def complete(self, blob: Blob, task_id: str | None, free: float) -> bool:
        """The file is whole and on disk; False: it was swept meanwhile.

        Earlier uploads of the same result, which nobody referred to, are let go.
        """
        change = update(blobs).where(blobs.c.id == blob.id)
        earlier = update(blobs).where(
            blobs.c.task_id == task_id,
            blobs.c.kind == "result",
            blobs.c.id != blob.id,
            blobs.c.sha256.is_not(None),
            blobs.c.free.is_not(None),
        )

        def operation(connection: Connection) -> bool:
            found = connection.execute(change.values(sha256=blob.sha256, free=free)).rowcount
            if task_id is not None:
                connection.execute(earlier.values(free=0.0))
            return bool(found)

        return await self._database.write(operation)

    async def claim_free(self, before: float) -> list[str]:
        """Some files that may be removed by now; no task can refer to them any more."""
        due = select(blobs.c.id).where(blobs.c.free < before).order_by(blobs.c.free).limit(STEP)
        # One that a submit to another process takes just now is not due any more.
        due = due.with_for_update(skip_locked=True)

        def operation(connection: Connection) -> list[str]:
            found = list(connection.scalars(due))
            if found:
                connection.execute(update(blobs).where(blobs.c.id.in_(found)).values(sha256=None))
            return found

        return await self._database.write(operation)

    async def forget(self, blob_ids: Sequence[str]) -> None:
        """Their files are removed."""
        change = delete(blobs).where(blobs.c.id.in_(blob_ids))
        await self._database.write(lambda connection: connection.execute(change))

    async def arguments(self, task_id: str, user_endpoint_id: str) -> Blob | None:
        """Large arguments of a task of this user endpoint that has not ended."""
        query = select(tasks.c.payload_blob).where(
            tasks.c.task_id == task_id,
            tasks.c.user_endpoint_id == user_endpoint_id,
            tasks.c.outcome.is_(None),
        )
        return decoded(await self._database.read(lambda c: c.scalar(query)))

    async def result(self, task_id: str, owner: str) -> Blob | None:
        """The large result of a task of `owner`."""
        query = select(tasks.c.result_blob).where(
            tasks.c.task_id == task_id, tasks.c.owner == owner
        )
        return decoded(await self._database.read(lambda c: c.scalar(query)))

    async def whose_result(self, task_id: str, user_endpoint_id: str) -> str | None:
        """Owner of a task of this user endpoint that has not ended."""
        query = select(tasks.c.owner).where(
            tasks.c.task_id == task_id,
            tasks.c.user_endpoint_id == user_endpoint_id,
            tasks.c.outcome.is_(None),
        )
        return await self._database.read(lambda c: c.scalar(query))

    async def present(self, results: Mapping[str, Blob]) -> set[str]:
        """Those of these tasks whose results are here, as they are said to be."""
        ids = [blob.id for blob in results.values()]
        query = select(blobs.c.task_id, blobs.c.id, blobs.c.size, blobs.c.sha256).where(
            blobs.c.id.in_(ids), blobs.c.kind == "result", blobs.c.sha256.is_not(None)
        )
        rows = await self._database.read(lambda c: c.execute(query).all())
        here = {row.task_id: Blob(row.id, row.size, row.sha256) for row in rows}
        return {task_id for task_id, blob in results.items() if here.get(task_id) == blob}
