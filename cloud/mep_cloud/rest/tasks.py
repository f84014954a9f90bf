"""Tasks and task groups: status, results, cancel."""

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mep.wire import codes, limits
from mep.wire.rest import BatchStatus, TaskIds, TaskStatus
from mep_cloud.delivery import events
from mep_cloud.errors import Refusal
from mep_cloud.ids import checked
from mep_cloud.relay import Relay
from mep_cloud.rest.bodies import answer, decoded, relay_of, user_of, wants_msgpack
from mep_cloud.store.records import StoredTask


async def status(request: Request) -> Response:
    """``GET /v2/tasks/{id}``."""
    user = await user_of(request)
    relay = relay_of(request)
    task_id = checked(request.path_params["id"], "task id")
    task = (await relay.store.tasks.get([task_id], user.id)).get(task_id)
    if task is None:
        raise Refusal(404, codes.TASK_NOT_FOUND, _unknown(task_id))
    return answer(request, _status(relay, task, binary=wants_msgpack(request)))


async def batch_status(request: Request) -> Response:
    """``POST /v2/batch_status``: an id that is not one of the caller's tasks has failed."""
    user = await user_of(request)
    relay = relay_of(request)
    task_ids = _ids(await decoded(request, TaskIds))
    stored = await relay.store.tasks.get(list(task_ids.values()), user.id)
    binary = wants_msgpack(request)
    results: dict[str, TaskStatus[Any]] = {}
    for spelled, task_id in task_ids.items():
        task = stored.get(task_id)
        results[spelled] = (
            _not_found(task_id) if task is None else _status(relay, task, binary=binary)
        )
    return answer(request, BatchStatus(results))


async def group(request: Request) -> Response:
    """``GET /v2/taskgroup/{id}``: the tasks of a group, in the order of submission."""
    user = await user_of(request)
    relay = relay_of(request)
    group_id = checked(request.path_params["id"], "task group id")
    if await relay.group_owners.get(group_id) != user.id:
        message = f"There is no task group {group_id} of yours."
        raise Refusal(404, codes.TASK_GROUP_NOT_FOUND, message)
    task_ids = await relay.store.tasks.of_group(group_id)
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
    task_ids = _ids(await decoded(request, TaskIds))
    owned = await relay.store.tasks.owned(list(task_ids.values()), user.id)
    running = tuple(each for each in owned if relay.hub.delivery.task_state(each) is not None)
    await relay.store.tasks.request_cancel(running, time.time())
    relay.hub.apply(events.CancelRequested(running))
    answers = {
        spelled: ("cancelling" if task_id in running else "ended")
        if task_id in owned
        else "unknown"
        for spelled, task_id in task_ids.items()
    }
    return answer(request, {"tasks": answers})


def _ids(body: TaskIds) -> dict[str, str]:
    """Each id as the client spelled it, and in its canonical spelling."""
    if len(body.task_ids) > limits.SUBMIT_TASKS:
        message = f"A request names at most {limits.SUBMIT_TASKS} tasks."
        raise Refusal(422, codes.INVALID_REQUEST, message)
    return {spelled: checked(spelled, "task id") for spelled in body.task_ids}


def _status(relay: Relay, task: StoredTask, *, binary: bool) -> TaskStatus[Any]:
    details = {
        "task_transitions": {
            name: moment
            for name, moment in (
                ("created", task.created),
                ("dispatched", task.dispatched),
                ("began", task.began),
                ("ended", task.ended),
            )
            if moment is not None
        }
    }
    if task.outcome is None:
        state = relay.hub.delivery.task_state(task.task_id)
        return TaskStatus(task.task_id, state or "running", details=details)
    completed = str(task.ended)
    if task.outcome == "success":
        result = task.result if binary else task.result.decode("utf-8", "replace")
        return TaskStatus(
            task.task_id, "success", result=result, completion_t=completed, details=details
        )
    failure = task.failure
    payload: bytes | str | None = None
    if task.result:
        payload = task.result if binary else task.result.decode("utf-8", "replace")
    return TaskStatus(
        task.task_id,
        "failed",
        exception=(failure.traceback or failure.message) if failure else "The task failed.",
        completion_t=completed,
        details=details,
        failure_code=failure.code if failure else None,
        exception_payload=payload,
    )


def _not_found(task_id: str) -> TaskStatus[Any]:
    return TaskStatus(
        task_id, "failed", exception=_unknown(task_id), failure_code=codes.TASK_NOT_FOUND
    )


def _unknown(task_id: str) -> str:
    return f"There is no task {task_id} of yours at this relay. Check the id."
