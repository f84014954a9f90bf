"""``POST /v3/endpoints/{id}/submit``: answered once the whole batch is on disk."""

import time
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mep.wire import codes, limits
from mep.wire.rest import BLOBS_PATH, Submit, Submitted, Uploaded
from mep.wire.tasks import Blob
from mep_cloud import access
from mep_cloud.delivery import events
from mep_cloud.delivery.state import Call
from mep_cloud.errors import BlobGone, GroupTaken, Refusal
from mep_cloud.grants import canonical
from mep_cloud.ids import checked, new_id, new_ids, user_endpoint_id
from mep_cloud.relay import Relay
from mep_cloud.rest.bodies import answer, decoded, relay_of, user_of
from mep_cloud.settings import MOST_INLINE
from mep_cloud.store.records import (
    EndpointRecord,
    FunctionRecord,
    NewTask,
    Submission,
    User,
)

_GRANT_BYTES: Final = 2048
"""Of a start packet, kept for the grant's fixed fields, the signature and the lengths."""
_MAX_SERIALIZERS: Final = 16


@dataclass(frozen=True)
class _Checked:
    """A submit that may be accepted."""

    functions: dict[str, FunctionRecord]
    payloads: list[tuple[str, bytes, Blob | None]]
    """Function id and payload of each task, in the request's order."""


async def submit(request: Request) -> Response:
    """Accept a batch of tasks for one endpoint."""
    user = await user_of(request)
    relay = relay_of(request)
    endpoint_id = checked(request.path_params["id"], "endpoint id")
    access.check_submits(await relay.endpoint(endpoint_id), user)
    body: Submit[Any] = await decoded(request, Submit[str], Submit[bytes])
    return answer(request, await accept(relay, user, endpoint_id, body))


async def accept(relay: Relay, user: User, endpoint_id: str, body: Submit[Any]) -> Submitted:
    """Accept a batch of tasks, durably; the earlier answer to a request that was taken before.

    Raises:
        Refusal: not all of it may be accepted, so nothing is.
    """
    endpoint = await relay.endpoint(endpoint_id)
    access.check_submits(endpoint, user)
    await relay.check_policy(endpoint, user)
    wanted = await _check_tasks(relay, endpoint, user, body)
    group_id = await _group(relay, user, body)
    submission = _submission(relay, endpoint, user, body, wanted, group_id)
    accepted = _accepted(submission, body)
    unfinished = await relay.cluster.unfinished_at(endpoint_id) if relay.queues.depth else 0
    try:
        with relay.queues.room(endpoint_id, unfinished, len(submission.tasks)):
            return await _stored(relay, submission, body, wanted, accepted)
    except Refusal as refusal:
        # What was taken before needs no room: it may be what the queue is full of.
        if refusal.code != codes.QUEUE_FULL or body.request_id is None:
            raise
        earlier = await relay.store.tasks.answered(user.id, accepted.request_id)
        if earlier is None:
            raise
        return msgspec.json.decode(earlier, type=Submitted)


async def _stored(
    relay: Relay, submission: Submission, body: Submit[Any], wanted: _Checked, accepted: Submitted
) -> Submitted:
    """Make a batch durable and hand it on; the earlier answer where it was taken before.

    Raises:
        Refusal: it names what is not the user's.
    """
    endpoint_id = submission.endpoint_id
    here = relay.cluster.here(endpoint_id)
    task_ids = [task.task_id for task in submission.tasks]
    notes = () if here else relay.teller.submitted(endpoint_id, task_ids)
    try:
        earlier = await relay.store.tasks.submit(_repeatable(submission, body, accepted), notes)
    except GroupTaken:
        raise _not_your_group(submission.group_id) from None
    except BlobGone as error:
        message = (
            f"There is no upload {error} of yours that these tasks may have: it is unknown, older "
            "than orphan_s in GET /v3/limits, or another task's. Upload the arguments again."
        )
        raise Refusal(404, codes.BLOB_NOT_FOUND, message) from None
    if earlier is not None:
        return msgspec.json.decode(earlier, type=Submitted)
    relay.hub.submitted += len(submission.tasks)
    if here:
        relay.hub.apply(_submitted(relay, submission, wanted))
    else:
        relay.cluster.stored(endpoint_id, task_ids)
    return accepted


def _accepted(submission: Submission, body: Submit[Any]) -> Submitted:
    """The answer; the client's own name for the request comes back to it."""
    tasks: dict[str, list[str]] = {function_id: [] for function_id in body.tasks}
    for task, function_id in zip(submission.tasks, _spelled(body), strict=True):
        tasks[function_id].append(task.task_id)
    name = new_id() if body.request_id is None else checked(body.request_id, "request id")
    return Submitted(name, submission.group_id, submission.endpoint_id, tasks)


def _repeatable(submission: Submission, body: Submit[Any], accepted: Submitted) -> Submission:
    """With what is needed to answer a repetition of a request that names itself."""
    if body.request_id is None:
        return submission
    return replace(submission, request_id=accepted.request_id, answer=msgspec.json.encode(accepted))


async def _check_tasks(
    relay: Relay, endpoint: EndpointRecord, user: User, body: Submit[Any]
) -> _Checked:
    count = sum(map(len, body.tasks.values()))
    bounds = relay.settings.limits
    if not 0 < count <= bounds.submit_tasks:
        message = f"A request submits 1 to {bounds.submit_tasks} tasks; this one has {count}."
        raise Refusal(422, codes.INVALID_REQUEST, message)
    functions: dict[str, FunctionRecord] = {}
    payloads: list[tuple[str, bytes, Blob | None]] = []
    for spelled, calls in body.tasks.items():
        function = await _callable(relay, endpoint, user, spelled)
        functions[function.id] = function
        payloads.extend((function.id, *_payload(call, bounds.payload)) for call in calls)
    return _Checked(functions, payloads)


async def _callable(
    relay: Relay, endpoint: EndpointRecord, user: User, spelled: str
) -> FunctionRecord:
    function = await relay.function(checked(spelled, "function id"))
    access.check_calls(function, user)
    access.check_runs(function, endpoint)
    return function


def _payload(call: str | bytes | Uploaded, most: int) -> tuple[bytes, Blob | None]:
    if isinstance(call, Uploaded):
        return b"", Blob(checked(call.blob_id, "blob id"), call.size, call.sha256)
    try:
        payload = call if isinstance(call, bytes) else call.encode()
    except UnicodeEncodeError:
        message = "A task's payload is not valid Unicode."
        raise Refusal(422, codes.INVALID_REQUEST, message) from None
    if MOST_INLINE < len(payload) <= most:
        message = (
            f"The serialized arguments of a task have {len(payload)} bytes; more than "
            f"{MOST_INLINE} are to be uploaded first (POST {BLOBS_PATH})."
        )
        raise Refusal(413, codes.TASK_PAYLOAD_TOO_LARGE, message)
    if len(payload) > most:
        message = (
            f"The serialized arguments of a task have {len(payload)} bytes; at most "
            f"{most} are accepted. Pass large data through a file or an object store."
        )
        raise Refusal(413, codes.TASK_PAYLOAD_TOO_LARGE, message)
    return payload, None


async def _group(relay: Relay, user: User, body: Submit[Any]) -> str:
    if body.task_group_id is None:
        return new_id()
    group_id = checked(body.task_group_id, "task group id")
    owner = await relay.group_owners.get(group_id)
    if owner is not None and not access.reads_task(owner, user):
        raise _not_your_group(group_id)
    return group_id


def _not_your_group(group_id: str) -> Refusal:
    message = f"There is no task group {group_id} of yours. Use one of your own, or none."
    return Refusal(404, codes.TASK_GROUP_NOT_FOUND, message)


def _submission(
    relay: Relay,
    endpoint: EndpointRecord,
    user: User,
    body: Submit[Any],
    wanted: _Checked,
    group_id: str,
) -> Submission:
    options = _canonical(body.user_endpoint_config or {}, "user_endpoint_config")
    runtime = _canonical(body.user_runtime or {}, "user_runtime")
    identity = canonical(relay.provider.identity_set(user))
    if len(options) + len(runtime) + len(identity) + _GRANT_BYTES > limits.START_PACKET:
        message = (
            f"user_endpoint_config and user_runtime have {len(options) + len(runtime)} bytes "
            f"together, too many for a start of {limits.START_PACKET} bytes in all. "
            "Pass large values through a file at the site."
        )
        raise Refusal(413, codes.INVALID_REQUEST, message)
    return Submission(
        owner=user.id,
        group_id=group_id,
        endpoint_id=endpoint.id,
        user_endpoint_id=user_endpoint_id(
            endpoint.id, user.id, body.user_endpoint_config or {}, body.user_runtime or {}
        ),
        options=options,
        runtime=runtime,
        resource_specification=_specification(body.resource_specification),
        result_serializers=_serializers(body.result_serializers or []),
        tasks=tuple(
            NewTask(task_id, *each)
            for task_id, each in zip(new_ids(len(wanted.payloads)), wanted.payloads, strict=True)
        ),
        at=time.time(),
    )


def _specification(wanted: dict[str, Any] | None) -> bytes:
    text = _canonical(wanted, "resource_specification") if wanted else b""
    if len(text) > limits.SPECIFICATION:
        message = (
            f"resource_specification has {len(text)} bytes as JSON; at most "
            f"{limits.SPECIFICATION} are accepted, since each task carries it."
        )
        raise Refusal(413, codes.INVALID_REQUEST, message)
    return text


def _canonical(value: dict[str, Any], what: str) -> bytes:
    try:
        return canonical(value)
    except (TypeError, ValueError) as error:
        message = f"{what} holds something that JSON cannot say: {error}."
        raise Refusal(422, codes.INVALID_REQUEST, message) from error


def _serializers(names: list[str]) -> tuple[str, ...]:
    if len(names) > _MAX_SERIALIZERS or any(len(each) > 64 or "," in each for each in names):
        message = "result_serializers is a short list of serializer names."
        raise Refusal(422, codes.INVALID_REQUEST, message)
    return tuple(names)


def _submitted(relay: Relay, submission: Submission, wanted: _Checked) -> events.TasksSubmitted:
    calls = tuple(
        Call(
            task.task_id,
            task.function_id,
            wanted.functions[task.function_id].size,
            submission.group_id,
            task.payload if relay.hub.keeps_payload(len(task.payload)) else None,
            task.size,
            submission.resource_specification,
            submission.result_serializers,
            owner=submission.owner,
            blob=task.blob,
        )
        for task in submission.tasks
    )
    return events.TasksSubmitted(submission.endpoint_id, submission.user_endpoint_id, calls)


def _spelled(body: Submit[Any]) -> list[str]:
    """Function ids as the client spelled them, one for each task."""
    return [function_id for function_id, calls in body.tasks.items() for _ in calls]
