"""Statements over tasks, and their rows as the package's records."""

import math
from typing import Any, Final

import msgspec
from sqlalchemy import (
    Connection,
    bindparam,
    func,
    insert,
    literal_column,
    null,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import UpdateBase

from mep.wire.codec import encode
from mep.wire.tasks import Blob, Failure, Result
from mep_cloud.settings.limits import PLAUSIBLE_S
from mep_cloud.store.prepared import Prepared
from mep_cloud.store.records import Ending, StoredTask, Submission
from mep_cloud.store.schema import (
    expired_tasks,
    functions,
    submits,
    tasks,
    user_endpoints,
)

REPEATABLE_S: Final = 24 * 3600
"""How long a repeated submit gets its first answer."""


def _unless_recent(insert: sqlite.Insert | postgresql.Insert) -> UpdateBase:
    """A submit's answer, unless the one of the same name may still be repeated."""
    return insert.on_conflict_do_update(
        index_elements=[submits.c.owner, submits.c.request_id],
        set_={"answer": insert.excluded.answer, "created": insert.excluded.created},
        where=submits.c.created < insert.excluded.created - literal_column(str(REPEATABLE_S)),
    )


# Built once: building a statement costs as much as running it.
INSERT_TASKS = Prepared(
    insert(tasks).inline(),
    (
        "task_id",
        "group_id",
        "owner",
        "function_id",
        "user_endpoint_id",
        "payload",
        "payload_size",
        "resource_specification",
        "result_serializers",
        "created",
        "acknowledged",
        "payload_blob",
    ),
)
INSERT_SUBMIT = Prepared(
    {
        "sqlite": _unless_recent(sqlite.insert(submits)),
        "postgresql": _unless_recent(postgresql.insert(submits)),
    },
    ("owner", "request_id", "answer", "created"),
)
SUBMIT_ANSWER = select(submits.c.answer).where(
    submits.c.owner == bindparam("owner"), submits.c.request_id == bindparam("request_id")
)
END = Prepared(
    update(tasks)
    .where(tasks.c.task_id == bindparam("id"), tasks.c.outcome.is_(None))
    .values(
        payload=null(),
        outcome=bindparam("outcome_"),
        result_seq=bindparam("seq_"),
        result=bindparam("result_"),
        failure_code=bindparam("code_"),
        failure_message=bindparam("message_"),
        failure_traceback=bindparam("traceback_"),
        dispatched=bindparam("dispatched_"),
        waited=bindparam("waited_"),
        began=bindparam("began_"),
        ended=bindparam("ended_"),
        result_blob=bindparam("blob_"),
    )
)
ACKNOWLEDGE = Prepared(
    update(tasks)
    .where(tasks.c.task_id == bindparam("id"), tasks.c.owner == bindparam("owner_"))
    .values(acknowledged=true())
)
LAST_PLACES = (
    select(func.max(tasks.c.result_seq)).where(
        tasks.c.outcome.is_not(None), tasks.c.acknowledged.is_(False)
    ),
    select(func.max(expired_tasks.c.result_seq)).where(expired_tasks.c.result_seq.is_not(None)),
)
REQUEST_CANCEL = (
    update(tasks).where(tasks.c.task_id == bindparam("id")).values(cancel_requested=bindparam("at"))
)


def last_readable(connection: Connection) -> int:
    """The highest place of a result that a stream may read; new ones must come after it.

    What was acknowledged is not read again, and there may be millions.
    """
    last = 0
    for query in LAST_PLACES:
        last = max(last, connection.scalar(query) or 0)
    return last


STATUS_COLUMNS = (
    tasks.c.task_id,
    tasks.c.created,
    tasks.c.dispatched,
    tasks.c.began,
    tasks.c.ended,
    tasks.c.outcome,
    tasks.c.result,
    tasks.c.failure_code,
    tasks.c.failure_message,
    tasks.c.failure_traceback,
    tasks.c.waited,
    tasks.c.cancel_requested,
    tasks.c.result_blob,
)

WITHOUT_RESULT = tuple(
    null().label("result") if each is tasks.c.result else each for each in STATUS_COLUMNS
)

LISTED = (
    select(
        tasks.c.task_id,
        func.coalesce(tasks.c.outcome, ""),
        tasks.c.function_id,
        functions.c.name,
        user_endpoints.c.endpoint_id,
        tasks.c.group_id,
        tasks.c.created,
        tasks.c.ended,
        tasks.c.failure_code,
    )
    .select_from(tasks)
    .join(functions, tasks.c.function_id == functions.c.id)
    .join(user_endpoints, tasks.c.user_endpoint_id == user_endpoints.c.id)
    .order_by(tasks.c.seq.desc())
)
"""The fields of :class:`mep.wire.rest.ListedTask`."""


def task_rows(submission: Submission) -> list[tuple[Any, ...]]:
    """The tasks of a submission, as rows of :data:`INSERT_TASKS`."""
    serializers = ",".join(submission.result_serializers)
    return [
        (
            task.task_id,
            submission.group_id,
            submission.owner,
            task.function_id,
            submission.user_endpoint_id,
            task.payload,
            task.size,
            submission.resource_specification,
            serializers,
            submission.at,
            False,
            encoded(task.blob),
        )
        for task in submission.tasks
    ]


def ending_row(ending: Ending) -> dict[str, Any]:
    """Parameters of :data:`END`, but for the place in the order of commits."""
    result = ending.result
    failure = result.failure
    return {
        "id": result.task_id,
        "outcome_": result.outcome,
        "result_": result.payload,
        "code_": failure.code if failure else None,
        "message_": failure.message if failure else None,
        "traceback_": failure.traceback if failure else None,
        "dispatched_": ending.dispatched or None,
        "waited_": ending.waited or None,
        "began_": result.began if result.began and math.isfinite(result.began) else None,
        "ended_": _ended(result.ended, ending.at),
        "blob_": encoded(result.blob),
    }


def encoded(blob: Blob | None) -> bytes | None:
    """A blob as its column has it."""
    return None if blob is None else encode(blob)


def decoded(column: bytes | None) -> Blob | None:
    """The blob in a column."""
    return None if column is None else _blob.decode(column)


_blob: Final = msgspec.msgpack.Decoder(Blob)


def _ended(said: float, at: float) -> float:
    """When the task ended: the word of the node, unless its clock is wrong."""
    return said if abs(said - at) <= PLAUSIBLE_S else at


def _as_failure(row: Any) -> Failure | None:
    if row.failure_code is None:
        return None
    return Failure(row.failure_code, row.failure_message, row.failure_traceback)


def as_result(row: Any) -> Result:
    """The result in a row of :data:`STATUS_COLUMNS` of a task that has ended."""
    return Result(
        row.task_id,
        row.outcome,
        row.result,
        _as_failure(row),
        row.began or 0.0,
        row.ended or 0.0,
        decoded(row.result_blob),
    )


def as_stored(row: Any) -> StoredTask:
    """The task in a row of :data:`STATUS_COLUMNS`."""
    return StoredTask(
        row.task_id,
        row.created,
        row.dispatched,
        row.began,
        row.ended,
        row.outcome,
        row.result or b"",
        _as_failure(row),
        row.waited,
        row.cancel_requested,
        decoded(row.result_blob),
    )


def serializers(text: str) -> tuple[str, ...]:
    """Names of result serializers, from their column."""
    return tuple(text.split(",")) if text else ()
