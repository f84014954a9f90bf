"""Statements over tasks, and their rows as the package's records."""

from typing import Any

from sqlalchemy import bindparam, delete, insert, null, select, update
from sqlalchemy.dialects import sqlite

from mep.wire.tasks import Failure, Result
from mep_cloud.store.records import Ending, StoredTask, Submission
from mep_cloud.store.schema import submits, task_groups, tasks, user_endpoints

# Built once: building a statement costs as much as running it.
INSERT_GROUP = sqlite.insert(task_groups).on_conflict_do_nothing()
GROUP_OWNER = select(task_groups.c.owner).where(task_groups.c.id == bindparam("group"))
INSERT_USER_ENDPOINT = sqlite.insert(user_endpoints).on_conflict_do_nothing()
INSERT_TASKS = insert(tasks)
INSERT_SUBMIT = insert(submits)
SUBMIT_ANSWER = select(submits.c.answer).where(
    submits.c.owner == bindparam("owner"), submits.c.request_id == bindparam("request_id")
)
FORGET_SUBMITS = delete(submits).where(submits.c.created < bindparam("before"))
END = (
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
        began=bindparam("began_"),
        ended=bindparam("ended_"),
    )
)
ACKNOWLEDGE = (
    update(tasks)
    .where(tasks.c.task_id == bindparam("id"), tasks.c.owner == bindparam("owner_"))
    .values(acknowledged=True)
)
REQUEST_CANCEL = (
    update(tasks).where(tasks.c.task_id == bindparam("id")).values(cancel_requested=bindparam("at"))
)


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
)


def user_endpoint_row(submission: Submission) -> dict[str, Any]:
    """The user endpoint of a submission, as a row."""
    return {
        "id": submission.user_endpoint_id,
        "endpoint_id": submission.endpoint_id,
        "user_id": submission.owner,
        "options": submission.options,
        "runtime": submission.runtime,
        "created": submission.at,
    }


def task_rows(submission: Submission) -> list[dict[str, Any]]:
    """The tasks of a submission, as rows."""
    serializers = ",".join(submission.result_serializers)
    return [
        {
            "task_id": task.task_id,
            "group_id": submission.group_id,
            "owner": submission.owner,
            "function_id": task.function_id,
            "user_endpoint_id": submission.user_endpoint_id,
            "payload": task.payload,
            "payload_size": len(task.payload),
            "resource_specification": submission.resource_specification,
            "result_serializers": serializers,
            "created": submission.at,
            "acknowledged": False,
        }
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
        "began_": result.began or None,
        "ended_": result.ended or ending.at,
    }


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
    )


def serializers(text: str) -> tuple[str, ...]:
    """Names of result serializers, from their column."""
    return tuple(text.split(",")) if text else ()
