"""Tasks: submitted, sent, cancelled, failed, committed; and the one step towards their end."""

from collections.abc import Iterable
from itertools import islice

from mep.wire import codes, limits
from mep.wire.tasks import Failure, Result
from mep.wire.to_manager import START_TASKS
from mep_cloud.delivery.events import CancelRequested, TasksExpired, TasksSubmitted
from mep_cloud.delivery.instructions import (
    CloseLink,
    CommitResults,
    Instruction,
    SendCancel,
    SendCommitted,
    SendTasks,
    SignStart,
)
from mep_cloud.delivery.state import (
    START_TIMEOUT_S,
    Call,
    Start,
    State,
    UserEndpoint,
    batches,
)

Out = list[Instruction]

TRY_AGAIN = 1013
"""WebSocket close code: reconnect later."""


def submitted(state: State, event: TasksSubmitted, now: float, out: Out) -> None:
    """New work for a user endpoint; after a restart, some of it may be cancelled already."""
    user_endpoint = state.user_endpoint(event.endpoint_id, event.user_endpoint_id)
    for call in event.calls:
        user_endpoint.waiting[call.task_id] = call
        state.homes[call.task_id] = user_endpoint
    unwanted = [call for call in event.calls if call.cancel_wanted]
    end_cancelled(user_endpoint, unwanted, now, out)
    advance(state, user_endpoint, now, out)


def advance(state: State, user_endpoint: UserEndpoint, now: float, out: Out) -> None:
    """One step nearer to the work's end: send what credits allow, or ask for a start."""
    if user_endpoint.link is not None:
        _send(user_endpoint, now, out)
    elif user_endpoint.has_work:
        _ask_for_start(state, user_endpoint, now, out)


def _send(user_endpoint: UserEndpoint, now: float, out: Out) -> None:
    link = user_endpoint.link
    if link is None or link.leaving or link.credit <= 0 or not user_endpoint.waiting:
        return
    calls = list(islice(user_endpoint.waiting.values(), link.credit))
    link.credit -= len(calls)
    for call in calls:
        del user_endpoint.waiting[call.task_id]
        user_endpoint.sent[call.task_id] = call
        call.state = "queued"
        call.dispatched = call.dispatched or now
    frames = batches(
        calls,
        link.functions_sent,
        max_tasks=limits.BATCH_TASKS,
        max_bytes=limits.BATCH_BYTES,
    )
    for function_ids, batch in frames:
        out.append(SendTasks(link.connection, tuple(function_ids), tuple(batch)))


def _ask_for_start(state: State, user_endpoint: UserEndpoint, now: float, out: Out) -> None:
    site = user_endpoint.site
    if site.connection is None or site.boot_id is None:
        return
    if user_endpoint.start is not None or user_endpoint.id in site.running:
        return
    nonce = state.new_nonce()
    user_endpoint.start = Start(nonce, site.boot_id, now + START_TIMEOUT_S)
    state.starting[user_endpoint.id] = user_endpoint
    tasks = tuple(islice(user_endpoint.waiting, START_TASKS))
    out.append(SignStart(site.connection, user_endpoint.id, nonce, site.boot_id, tasks))


def start_answered(state: State, user_endpoint: UserEndpoint) -> None:
    """No start is under way any more."""
    user_endpoint.start = None
    state.starting.pop(user_endpoint.id, None)


def cancelled(state: State, event: CancelRequested, now: float, out: Out) -> None:
    """What the process has is cancelled there; the rest ends here and now."""
    there: dict[int, list[str]] = {}
    here: dict[UserEndpoint, list[Call]] = {}
    for task_id in dict.fromkeys(event.task_ids):
        user_endpoint = state.homes.get(task_id)
        if user_endpoint is None or task_id in user_endpoint.ending:
            continue
        call = user_endpoint.waiting.get(task_id) or user_endpoint.sent[task_id]
        call.cancel_wanted = True
        link = user_endpoint.link
        if task_id in user_endpoint.sent and link is not None:
            there.setdefault(link.connection, []).append(task_id)
        else:
            here.setdefault(user_endpoint, []).append(call)
    for user_endpoint, calls in here.items():
        end_cancelled(user_endpoint, calls, now, out)
    out.extend(SendCancel(connection, tuple(ids)) for connection, ids in there.items())


def expired(state: State, event: TasksExpired, now: float, out: Out) -> None:
    """Their time is over: they end here, and the process that has them is told to stop."""
    there: dict[int, list[str]] = {}
    here: dict[UserEndpoint, list[tuple[Call, Result]]] = {}
    failure = Failure(codes.TASK_EXPIRED, _EXPIRED)
    for task_id in dict.fromkeys(event.task_ids):
        user_endpoint = state.homes.get(task_id)
        if user_endpoint is None or task_id in user_endpoint.ending:
            continue
        if task_id in user_endpoint.sent and user_endpoint.link is not None:
            there.setdefault(user_endpoint.link.connection, []).append(task_id)
        call = user_endpoint.waiting.get(task_id) or user_endpoint.sent[task_id]
        result = Result(task_id, "failed", b"", failure, 0.0, now)
        here.setdefault(user_endpoint, []).append((call, result))
    for user_endpoint, endings in here.items():
        end(user_endpoint, endings, out)
    out.extend(SendCancel(connection, tuple(ids)) for connection, ids in there.items())


_EXPIRED = (
    "The task had not ended when its time-to-live was over (task_ttl_s in GET /v3/limits). Its "
    "endpoint was offline or busy for too long; ask its administrator, then submit again."
)


def end_cancelled(user_endpoint: UserEndpoint, calls: Iterable[Call], now: float, out: Out) -> None:
    """End calls that no process has."""
    failure = Failure(codes.CANCELLED, "The task was cancelled before it began.")
    endings = [(call, Result(call.task_id, "cancelled", b"", failure, 0.0, now)) for call in calls]
    end(user_endpoint, endings, out)


def fail_all(user_endpoint: UserEndpoint, code: str, message: str, now: float, out: Out) -> None:
    """Every task that waits for this user endpoint fails."""
    failure = Failure(code, message[: limits.USER_MESSAGE])
    endings = [
        (call, Result(call.task_id, "failed", b"", failure, 0.0, now))
        for call in user_endpoint.unfinished()
    ]
    end(user_endpoint, endings, out)


def end(
    user_endpoint: UserEndpoint,
    endings: list[tuple[Call, Result]],
    out: Out,
    *,
    tell: int | None = None,
) -> None:
    """These calls have a result, which is now on its way to the disk.

    `tell` is the connection that waits for the acknowledgement; without one, the end was made
    here, and nobody sends it again.
    """
    for call, _ in endings:
        user_endpoint.waiting.pop(call.task_id, None)
        user_endpoint.sent.pop(call.task_id, None)
        user_endpoint.ending[call.task_id] = (call, [] if tell is None else [tell])
    if endings:
        out.append(CommitResults(tuple(endings), own=tell is None))


def committed(state: State, task_ids: Iterable[str], out: Out) -> None:
    """Results are on disk: the tasks have ended, and whoever sent a result may forget it."""
    acknowledged: dict[int, list[str]] = {}
    touched: dict[str, UserEndpoint] = {}
    for task_id in task_ids:
        user_endpoint = state.homes.pop(task_id)
        touched[user_endpoint.id] = user_endpoint
        _, waiting_connections = user_endpoint.ending.pop(task_id)
        for connection in waiting_connections:
            if connection in state.links:
                acknowledged.setdefault(connection, []).append(task_id)
    out.extend(SendCommitted(connection, tuple(ids)) for connection, ids in acknowledged.items())
    for user_endpoint in touched.values():
        state.forget_idle(user_endpoint)


def not_committed(state: State, task_ids: Iterable[str], now: float, out: Out) -> None:
    """Results did not reach the disk: the endpoint must send them again, on a new connection."""
    touched: dict[str, UserEndpoint] = {}
    for task_id in task_ids:
        user_endpoint = state.homes[task_id]
        call, _ = user_endpoint.ending.pop(task_id)
        user_endpoint.sent[task_id] = call
        touched[user_endpoint.id] = user_endpoint
    reason = "The relay could not store results; send them again."
    for user_endpoint in touched.values():
        if user_endpoint.link is not None:
            out.append(CloseLink(user_endpoint.link.connection, TRY_AGAIN, reason))
        else:
            advance(state, user_endpoint, now, out)
