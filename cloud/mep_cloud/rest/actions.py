"""The Globus action provider API: registered functions as steps of Flows, with JSON arguments.

Shapes and statuses are those of the Globus Actions API (``api_version`` 1.0). An action is one or
more tasks for one endpoint; its body names ``endpoint``, and ``function``, ``args`` and ``kwargs``,
or a list of such as ``tasks``. Results travel as JSON.
"""

import hashlib
import time
import uuid
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mep.wire import codes
from mep.wire.rest import Submit
from mep.wire.strategies import DATA
from mep_cloud import access
from mep_cloud.errors import Refusal
from mep_cloud.ids import checked
from mep_cloud.relay import Relay
from mep_cloud.rest.bodies import answer, decoded, relay_of, user_of
from mep_cloud.rest.submit import accept
from mep_cloud.rest.tasks import TEXT_BYTES, with_result
from mep_cloud.store.records import Action, StoredTask, User

JSON_DATA: Final = DATA["JSONData"]
MAX_TASKS: Final = 1000
_NAMED: Final = 256
_URN: Final = "urn:globus:auth:identity:"
_IDS: Final = uuid.UUID("6f1c5a52-8a3c-4f0e-9c56-0b4f5d7d2e11")


class ActionCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One call of a function."""

    function: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


class ActionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to run."""

    endpoint: str
    function: str | None = None
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    tasks: list[ActionCall] = []
    user_endpoint_config: dict[str, Any] | None = None
    resource_specification: dict[str, Any] | None = None

    def calls(self) -> list[ActionCall]:
        """Every call, whichever way it was named."""
        single = (
            [] if self.function is None else [ActionCall(self.function, self.args, self.kwargs)]
        )
        return [*single, *self.tasks]


class ActionRequest(msgspec.Struct, frozen=True):
    """``POST /actions/run``."""

    request_id: str
    body: ActionBody
    label: str | None = None
    monitor_by: list[str] = []
    manage_by: list[str] = []
    release_after: str = ""
    """Not heeded: the relay keeps what it keeps, and says so in its answers."""


async def introspect(request: Request) -> Response:
    """``GET /actions/``: what this provider is; anonymous."""
    settings = relay_of(request).settings
    hooks, deadline = settings.hooks, settings.limits.task_ttl_s
    return answer(
        request,
        {
            "types": ["Action"],
            "api_version": "1.0",
            "globus_auth_scope": hooks.action_scope,
            "title": "MEP functions",
            "subtitle": "Run registered functions at an endpoint",
            "admin_contact": hooks.action_contact,
            "synchronous": False,
            "log_supported": False,
            "visible_to": ["public"],
            "runnable_by": ["all_authenticated_users"],
            "administered_by": [],
            "maximum_deadline": _duration(deadline),
            "input_schema": _schema(),
        },
    )


async def run(request: Request) -> Response:
    """``POST /actions/run``: 202; the same request again is answered 200 and does nothing."""
    user = await user_of(request)
    relay = relay_of(request)
    wanted = await decoded(request, ActionRequest)
    _check(wanted)
    action_id = str(uuid.uuid5(_IDS, f"{user.id} {wanted.request_id}"))
    digest = hashlib.sha256(msgspec.json.encode(wanted.body, order="deterministic")).digest()
    known = await relay.store.actions.get(action_id)
    again = known is not None
    if known is None:
        known = await _begin(relay, user, wanted, action_id, digest)
    if known.digest != digest:
        message = "This request_id was used for another body. Choose a new one."
        raise Refusal(409, codes.INVALID_REQUEST, message)
    return answer(request, await _status(relay, known), 200 if again else 202)


async def status(request: Request) -> Response:
    """``GET /actions/{id}/status``: for whoever ran it, and those in its ``monitor_by``."""
    relay = relay_of(request)
    action = await _allowed(request, relay, monitor=True)
    return answer(request, await _status(relay, action))


async def cancel(request: Request) -> Response:
    """``POST /actions/{id}/cancel``: each task that has not ended is cancelled."""
    relay = relay_of(request)
    action = await _allowed(request, relay, monitor=False)
    if not await relay.cancel(action.task_ids):
        raise Refusal(409, codes.INVALID_REQUEST, "The action has ended.")
    return answer(request, await _status(relay, action))


async def release(request: Request) -> Response:
    """``POST /actions/{id}/release``: forgets an action that has ended."""
    relay = relay_of(request)
    action = await _allowed(request, relay, monitor=False)
    final = await _status(relay, action)
    if final["status"] == "ACTIVE":
        raise Refusal(409, codes.INVALID_REQUEST, "The action has not ended. Cancel it first.")
    await relay.store.actions.remove(action.id)
    return answer(request, final)


def _check(wanted: ActionRequest) -> None:
    problem = ""
    if not 0 < len(wanted.request_id) <= 256:
        problem = "request_id has 1 to 256 characters."
    elif wanted.label is not None and not 0 < len(wanted.label) <= 64:
        problem = "label has 1 to 64 characters."
    elif not 0 < len(wanted.body.calls()) <= MAX_TASKS:
        problem = f"An action has 1 to {MAX_TASKS} tasks: name a function, or list tasks."
    elif len(named := [*wanted.monitor_by, *wanted.manage_by]) > 100:
        problem = "monitor_by and manage_by have at most 100 entries together."
    elif any(len(each) > _NAMED for each in named) or len(wanted.release_after) > 64:
        problem = f"monitor_by and manage_by have entries of at most {_NAMED} characters."
    if problem:
        raise Refusal(400, codes.INVALID_REQUEST, problem)


async def _begin(
    relay: Relay, user: User, wanted: ActionRequest, action_id: str, digest: bytes
) -> Action:
    tasks: dict[str, list[str]] = {}
    for call in wanted.body.calls():
        function_id = checked(call.function, "function id")
        tasks.setdefault(function_id, []).append(_payload(call))
    endpoint_id = checked(wanted.body.endpoint, "endpoint id")
    # Named after the action, a submit that a lost connection repeats is taken once.
    submitted = await accept(
        relay,
        user,
        endpoint_id,
        Submit[str](
            tasks=tasks,
            user_endpoint_config=wanted.body.user_endpoint_config,
            resource_specification=wanted.body.resource_specification,
            result_serializers=["JSONData"],
            request_id=action_id,
        ),
    )
    ids = [task_id for several in submitted.tasks.values() for task_id in several]
    return await relay.store.actions.add(
        Action(
            action_id,
            user.id,
            digest,
            wanted.label,
            wanted.monitor_by,
            wanted.manage_by,
            wanted.release_after,
            submitted.task_group_id,
            ids,
            time.time(),
        )
    )


def _payload(call: ActionCall) -> str:
    """Packed arguments, as JSON buffers."""
    texts = [msgspec.json.encode(each).decode() for each in (call.args, call.kwargs)]
    buffers = [f"{JSON_DATA}\n{text}" for text in texts]
    return "".join(f"{len(buffer)}\n{buffer}" for buffer in buffers)


async def _allowed(request: Request, relay: Relay, *, monitor: bool) -> Action:
    user = await user_of(request)
    action_id = checked(request.path_params["id"], "action id")
    action = await relay.store.actions.get(action_id)
    if action is not None:
        named = [*action.manage_by, *(action.monitor_by if monitor else ())]
        groups = {f"urn:globus:groups:id:{group}" for group in user.groups}
        people = {_URN + each for each in access.principals(user) - user.groups}
        if action.owner == user.id or (people | groups).intersection(named):
            return action
    raise Refusal(404, codes.NOT_FOUND, f"There is no action {action_id} for you.")


async def _status(relay: Relay, action: Action) -> dict[str, Any]:
    stored = await relay.store.tasks.get(action.task_ids, action.owner, most=TEXT_BYTES)
    tasks = [stored.get(task_id) for task_id in action.task_ids]
    outcomes = {None if task is None else task.outcome for task in tasks}
    gone = None in tasks
    ended = [task.ended or 0.0 for task in tasks if task is not None]
    state = "ACTIVE"
    if gone or None not in outcomes:
        state = "SUCCEEDED" if outcomes == {"success"} else "FAILED"
    told = {
        "action_id": action.id,
        "status": state,
        "creator_id": _URN + action.owner,
        "label": action.label,
        "monitor_by": action.monitor_by,
        "manage_by": action.manage_by,
        "start_time": _moment(action.created),
        "completion_time": _moment(max(ended, default=0.0)) if state != "ACTIVE" else None,
        "release_after": _duration(relay.settings.limits.record_retention_s),
        "display_status": state,
        "details": {
            "task_group_id": action.task_group_id,
            "results": await _results(relay, action.task_ids, tasks),
        },
    }
    return {key: value for key, value in told.items() if value is not None}


async def _results(
    relay: Relay, task_ids: list[str], tasks: list[StoredTask | None]
) -> list[dict[str, Any]]:
    """Every one, in order; large ones as far as one answer has room, which is made in memory."""
    told, room = [], TEXT_BYTES
    for task_id, task in zip(task_ids, tasks, strict=True):
        size = task.blob.size if task is not None and task.blob is not None else 0
        if task is not None and (task.left_out or room < size <= TEXT_BYTES):
            told.append(_too_much(task))
        else:
            room -= min(size, room)
            told.append(await _result(relay, task_id, task))
    return told


def _too_much(task: StoredTask) -> dict[str, Any]:
    message = (
        f"This action's results have more than {TEXT_BYTES} bytes together, too many for one "
        f"answer; get this one from /v2/tasks/{task.task_id}."
    )
    error = {"code": codes.RESULT_TOO_LARGE, "message": message}
    return {"task_id": task.task_id, "status": task.outcome, "error": error}


async def _result(relay: Relay, task_id: str, task: StoredTask | None) -> dict[str, Any]:
    if task is None:
        return {"task_id": task_id, "status": "expired"}
    task = await with_result(relay, task)
    told: dict[str, Any] = {"task_id": task_id, "status": task.outcome or "pending"}
    if task.outcome == "success":
        told["output"] = _output(task.result)
    elif task.failure is not None:
        told["error"] = {"code": task.failure.code, "message": task.failure.message}
    return told


def _output(packed: bytes) -> Any:
    """The value of a packed JSON result; of anything else, its bytes cannot be told."""
    _, _, buffer = packed.partition(b"\n")
    kind, _, text = buffer.partition(b"\n")
    if kind.decode("ascii", "replace") != JSON_DATA:
        return None
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _duration(seconds: float) -> str:
    """As ISO 8601 has it."""
    return f"PT{int(seconds)}S"


def _schema() -> dict[str, Any]:
    schema = msgspec.json.schema(ActionBody)
    return {**schema["$defs"]["ActionBody"], "$defs": schema["$defs"]} | {"type": "object"}
