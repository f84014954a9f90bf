"""Tasks and task groups: status, results, cancel."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mep.wire import codes, limits
from mep.wire.rest import (
    ASK_AGAIN,
    TASKS_PAGE,
    BatchStatus,
    ListedTasks,
    TaskIds,
    TaskRecord,
    TaskStatus,
    Uploaded,
    result_path,
)
from mep.wire.strategies import as_text
from mep.wire.tasks import Blob, Failure, TaskState
from mep_cloud.delivery.state import Call
from mep_cloud.errors import Refusal
from mep_cloud.ids import checked
from mep_cloud.relay import Relay
from mep_cloud.rest.bodies import answer, decoded, number, relay_of, user_of, wants_msgpack
from mep_cloud.store.records import StoredTask

TEXT_BYTES: Final = 2 * limits.PAYLOAD
"""Bytes of large results in one JSON answer, which is made in memory."""
ANSWER_BYTES: Final = limits.REQUEST
"""Bytes of other results in one answer: as much as a request may have."""


async def status(request: Request) -> Response:
    """``GET /v2/tasks/{id}``."""
    user = await user_of(request)
    relay = relay_of(request)
    task_id = checked(request.path_params["id"], "task id")
    task = (await relay.store.tasks.get([task_id], user.id)).get(task_id)
    if task is None:
        raise Refusal(404, codes.TASK_NOT_FOUND, _unknown(task_id))
    call = (await _calls(relay, [task])).get(task_id)
    binary = wants_msgpack(request)
    if not binary:
        task = await with_result(relay, task)
    return answer(request, _status(task, call, binary=binary))


async def record(request: Request) -> Response:
    """``GET /v3/tasks/{id}``: all that the relay knows of a task, but for payload and result.

    410 where that is no more than that it ended, since its result was dropped.
    """
    user = await user_of(request)
    relay = relay_of(request)
    task_id = checked(request.path_params["id"], "task id")
    task = (await relay.store.tasks.get([task_id], user.id)).get(task_id)
    if task is None:
        raise Refusal(404, codes.TASK_NOT_FOUND, _unknown(task_id))
    origin = await relay.store.tasks.origin(task_id)
    if origin is None:
        raise Refusal(410, codes.RESULT_EXPIRED, _dropped(task_id))
    call = (await _calls(relay, [task])).get(task_id)
    told = TaskRecord(
        task_id=task_id,
        status=task.outcome or _live(call),
        transitions=_transitions(task, call),
        function_uuid=origin.function_id,
        function_name=origin.function_name,
        endpoint_id=origin.endpoint_id,
        user_endpoint_id=origin.user_endpoint_id,
        task_group_id=origin.group_id,
        payload_bytes=origin.payload_size,
        result_bytes=task.result_size,
        resource_specification=(
            msgspec.json.decode(origin.resource_specification)
            if origin.resource_specification
            else None
        ),
        failure_code=task.failure.code if task.failure else None,
        failure_message=task.failure.message if task.failure else None,
    )
    return answer(request, told)


async def listing(request: Request) -> Response:
    """``GET /v3/tasks?task_group_id=&limit=``: one's own, the newest task groups first."""
    user = await user_of(request)
    relay = relay_of(request)
    limit = number(request, "limit", 20, TASKS_PAGE)
    group_id = request.query_params.get("task_group_id")
    if group_id is not None:
        group_id = checked(group_id, "task group id")
    found = await relay.store.tasks.newest(user.id, group_id, limit)
    calls = await relay.cluster.calls([each.task_id for each in found if not each.status])
    shown = [
        msgspec.structs.replace(each, status=each.status or _live(calls.get(each.task_id)))
        for each in found
    ]
    return answer(request, ListedTasks(shown))


async def batch_status(request: Request) -> Response:
    """``POST /v2/batch_status``: an id that is not one of the caller's tasks has failed.

    Of results that are too much for one answer, the last are said to be pending: ask again.
    """
    user = await user_of(request)
    relay = relay_of(request)
    task_ids = _ids(relay, await decoded(request, TaskIds))
    stored = await relay.store.tasks.get(list(task_ids.values()), user.id, most=ANSWER_BYTES)
    calls = await _calls(relay, stored.values())
    binary = wants_msgpack(request)
    results: dict[str, TaskStatus[Any]] = {}
    room = TEXT_BYTES
    for spelled, task_id in task_ids.items():
        task = stored.get(task_id)
        if task is None:
            results[spelled] = _not_found(task_id)
            continue
        if task.left_out:
            results[spelled] = _for_another_time(task)
            continue
        if task.blob is not None and not binary:
            if task.blob.size > room and room < TEXT_BYTES:
                results[spelled] = _for_another_time(task)
                continue
            room -= task.blob.size
            task = await with_result(relay, task)
        results[spelled] = _status(task, calls.get(task_id), binary=binary)
    return answer(request, BatchStatus(results))


async def with_result(relay: Relay, task: StoredTask) -> StoredTask:
    """The task with its large result in memory, for clients that do not download; or failed, where
    it is too large for that.
    """
    if task.blob is None:
        return task
    if task.blob.size > TEXT_BYTES:
        message = (
            f"The result has {task.blob.size} bytes, too many for this request; download it from "
            f"{result_path(task.task_id)}."
        )
        failure = Failure(codes.RESULT_TOO_LARGE, message)
        return replace(task, outcome="failed", failure=failure, blob=None)
    path = await relay.blobs.path(task.blob)
    return replace(task, result=await asyncio.to_thread(path.read_bytes), blob=None)


async def group(request: Request) -> Response:
    """``GET /v2/taskgroup/{id}``: the tasks of a group, in the order of submission."""
    user = await user_of(request)
    relay = relay_of(request)
    group_id = checked(request.path_params["id"], "task group id")
    if await relay.group_owners.get(group_id) != user.id:
        message = f"There is no task group {group_id} of yours."
        raise Refusal(404, codes.TASK_GROUP_NOT_FOUND, message)
    task_ids = await relay.store.tasks.of_group(group_id, user.id)
    return answer(
        request,
        {"taskgroup_id": group_id, "tasks": [{"id": task_id} for task_id in task_ids]},
    )


async def cancel(request: Request) -> Response:
    """``POST /v3/tasks/cancel``: every one of the tasks still ends with one result.

    Answers for each id ``cancelling``, ``ended``, or ``unknown`` (not one of the caller's).
    """
    user = await user_of(request)
    relay = relay_of(request)
    task_ids = _ids(relay, await decoded(request, TaskIds))
    owned = await relay.store.tasks.owned(list(task_ids.values()), user.id)
    running = await relay.cancel(list(owned))
    answers = {
        spelled: ("cancelling" if task_id in running else "ended")
        if task_id in owned
        else "unknown"
        for spelled, task_id in task_ids.items()
    }
    return answer(request, {"tasks": answers})


def _ids(relay: Relay, body: TaskIds) -> dict[str, str]:
    """Each id as the client spelled it, and in its canonical spelling."""
    most = max(relay.settings.limits.submit_tasks, TASKS_PAGE)
    if len(body.task_ids) > most:
        message = f"A request names at most {most} tasks."
        raise Refusal(422, codes.INVALID_REQUEST, message)
    return {spelled: checked(spelled, "task id") for spelled in body.task_ids}


def _transitions(task: StoredTask, call: Call | None) -> dict[str, float]:
    """Epoch seconds of every step that the task has taken so far, in the order of a task's life.

    What has not ended is known from memory: `call`.
    """
    live = call or Call("", "", 0, "", None, 0)
    steps = {
        "created": task.created,
        "dispatched": task.dispatched or live.dispatched,
        "waiting-for-nodes": task.waited or live.waited,
        "cancel-requested": task.cancel_requested,
        "began": task.began or live.running,
        "ended": task.ended,
    }
    return {name: moment for name, moment in steps.items() if moment}


def _for_another_time(task: StoredTask) -> TaskStatus[Any]:
    """Results exceed one answer: the client asks again for what is said to be pending."""
    details = {"task_transitions": {}, ASK_AGAIN: True}
    return TaskStatus(task.task_id, "running", details=details)


async def _calls(relay: Relay, tasks: Iterable[StoredTask]) -> dict[str, Call]:
    """What is known in memory of those that have not ended."""
    return await relay.cluster.calls([task.task_id for task in tasks if task.outcome is None])


def _live(call: Call | None) -> TaskState:
    """State of a task that has not ended, where nobody says otherwise."""
    return call.state if call else "running"


def _status(task: StoredTask, call: Call | None, *, binary: bool) -> TaskStatus[Any]:
    details = {"task_transitions": _transitions(task, call)}
    if task.outcome is None:
        return TaskStatus(task.task_id, _live(call), details=details)
    completed = str(task.ended)
    if task.outcome == "success":
        result: bytes | str | None = None
        if task.blob is None:
            result = task.result if binary else as_text(task.result)
        return TaskStatus(
            task.task_id,
            "success",
            result=result,
            completion_t=completed,
            details=details,
            result_blob=_uploaded(task.blob),
        )
    failure = task.failure
    payload: bytes | str | None = None
    if task.result:
        payload = task.result if binary else as_text(task.result)
    return TaskStatus(
        task.task_id,
        "failed",
        exception=(failure.traceback or failure.message) if failure else "The task failed.",
        completion_t=completed,
        details=details,
        failure_code=failure.code if failure else None,
        exception_payload=payload,
        result_blob=_uploaded(task.blob),
    )


def _uploaded(blob: Blob | None) -> Uploaded | None:
    return None if blob is None else Uploaded(blob.id, blob.size, blob.sha256)


def _not_found(task_id: str) -> TaskStatus[Any]:
    return TaskStatus(
        task_id, "failed", exception=_unknown(task_id), failure_code=codes.TASK_NOT_FOUND
    )


def _dropped(task_id: str) -> str:
    return (
        f"Task {task_id} has ended, and the relay has kept its record as long as it keeps results "
        "(see result_retention_s in GET /v3/limits). Fetch results sooner, or run it again."
    )


def _unknown(task_id: str) -> str:
    return f"There is no task {task_id} of yours at this relay. Check the id."
