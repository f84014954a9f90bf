"""User endpoint links: reconciliation, credits, results, states, leaving."""

import math

import msgspec

from mep.wire import codes, limits
from mep.wire.tasks import Failure, Result, StateChange
from mep_cloud.delivery.calls import Out, advance, end, end_cancelled, start_answered
from mep_cloud.delivery.events import (
    CreditGranted,
    EndpointClosed,
    EndpointOpened,
    LeavingWished,
    ResultsArrived,
    StatesArrived,
)
from mep_cloud.delivery.instructions import (
    CloseLink,
    PublishStates,
    SendCancel,
    SendCommitted,
    SendMayLeave,
)
from mep_cloud.delivery.state import Link, State, UserEndpoint, requeue

REPLACED = 4409


def opened(state: State, event: EndpointOpened, now: float, out: Out) -> None:
    """A process is there: agree on what it holds, then send the rest."""
    user_endpoint = state.user_endpoint(event.endpoint_id, event.user_endpoint_id)
    if user_endpoint.link is not None:
        _replace(state, user_endpoint, out)
    user_endpoint.link = Link(event.connection, event.nonce, event.credit)
    state.links[event.connection] = user_endpoint
    start_answered(state, user_endpoint)
    user_endpoint.site.running.add(user_endpoint.id)
    user_endpoint.attempts = 0
    user_endpoint.unlinked = user_endpoint.left = False
    _reconcile(state, user_endpoint, event, now, out)
    advance(state, user_endpoint, now, out)


def _replace(state: State, user_endpoint: UserEndpoint, out: Out) -> None:
    old = user_endpoint.link
    if old is not None:
        state.links.pop(old.connection, None)
        reason = "A newer connection of this user endpoint replaced this one."
        out.append(CloseLink(old.connection, REPLACED, reason))
    user_endpoint.link = None


def _reconcile(
    state: State, user_endpoint: UserEndpoint, event: EndpointOpened, now: float, out: Out
) -> None:
    held = set(event.held)
    lost = [call for task_id, call in user_endpoint.sent.items() if task_id not in held]
    end_cancelled(user_endpoint, [call for call in lost if call.cancel_wanted], now, out)
    requeue(user_endpoint, [call for call in lost if not call.cancel_wanted])
    for task_id in event.held:
        call = user_endpoint.waiting.pop(task_id, None)
        if call is not None:
            user_endpoint.sent[task_id] = call
            call.state = "queued"
    unwanted = [task_id for task_id in event.held if _is_unwanted(user_endpoint, task_id)]
    if unwanted:
        out.append(SendCancel(event.connection, tuple(unwanted)))


def _is_unwanted(user_endpoint: UserEndpoint, task_id: str) -> bool:
    """Whether the process should drop a task that it holds.

    One that is not known here any more ended without this process (cancelled, failed), or is
    committed and the process has not heard of it: dropping it is right either way.
    """
    if task_id in user_endpoint.ending:
        return user_endpoint.ending[task_id][0].cancel_wanted
    call = user_endpoint.sent.get(task_id)
    return call is None or call.cancel_wanted


def closed(state: State, event: EndpointClosed, now: float, out: Out) -> None:
    """The link is lost; the process may live on."""
    user_endpoint = state.links.pop(event.connection, None)
    if user_endpoint is None or user_endpoint.link is None:
        return
    user_endpoint.left = user_endpoint.link.leaving
    user_endpoint.link = None
    advance(state, user_endpoint, now, out)
    state.forget_idle(user_endpoint)


def credited(state: State, event: CreditGranted, now: float, out: Out) -> None:
    """More tasks may be sent."""
    user_endpoint = state.links.get(event.connection)
    if user_endpoint is not None and user_endpoint.link is not None:
        user_endpoint.link.credit += event.tasks
        advance(state, user_endpoint, now, out)


def results(state: State, event: ResultsArrived, out: Out) -> None:
    """Results of a process: the first for a task is committed, others are acknowledged.

    A task of another user endpoint is acknowledged and dropped, like one that has ended: a
    process cannot end another's task.
    """
    user_endpoint = state.links.get(event.connection)
    if user_endpoint is None:
        return
    endings = []
    dropped = []
    for result in event.results:
        task_id = result.task_id
        call = user_endpoint.sent.pop(task_id, None) or user_endpoint.waiting.pop(task_id, None)
        if call is not None:
            endings.append((call, _bounded(result, state.max_result)))
            # A second result for it in this very batch is a duplicate already.
            user_endpoint.ending[task_id] = (call, [event.connection])
        elif task_id in user_endpoint.ending:
            connections = user_endpoint.ending[task_id][1]
            if event.connection not in connections:
                connections.append(event.connection)
        else:
            dropped.append(task_id)
    if endings:
        user_endpoint.exits = 0
        end(user_endpoint, endings, out, tell=event.connection)
    if dropped:
        out.append(SendCommitted(event.connection, tuple(dropped)))


def _bounded(result: Result, max_result: int) -> Result:
    """The result, with everything in it at most as large as the relay accepts."""
    if len(result.payload) > max_result:
        failure = Failure(
            codes.RESULT_TOO_LARGE,
            f"The serialized result has {len(result.payload)} bytes; the relay accepts "
            f"{max_result}. Return less, or pass large data through a file or an object store.",
        )
        return Result(result.task_id, "failed", b"", failure, result.began, result.ended)
    failed = result.failure
    if failed is None:
        if result.outcome == "success":
            return result
        failed = Failure(codes.USER_EXCEPTION, "The task failed and did not say why.")
    failure = Failure(
        failed.code[:64],
        failed.message[: limits.USER_MESSAGE],
        failed.traceback[-limits.FAILURE_TEXT :],
    )
    return msgspec.structs.replace(result, failure=failure)


def states(state: State, event: StatesArrived, now: float, out: Out) -> None:
    """Tasks moved within the process; what is no moment in time was just now.

    Infinity and NaN have no place in JSON, in which others are told.
    """
    user_endpoint = state.links.get(event.connection)
    if user_endpoint is None:
        return
    by_group: dict[str, list[StateChange]] = {}
    for change in event.changes:
        call = user_endpoint.sent.get(change.task_id)
        if call is not None:
            if not math.isfinite(change.at):
                change = msgspec.structs.replace(change, at=now)
            call.state = change.state
            if change.state == "running":
                call.running = change.at
            elif change.state == "waiting-for-nodes":
                call.waited = call.waited or change.at
            by_group.setdefault(call.group_id, []).append(change)
    out.extend(PublishStates(group, tuple(changes)) for group, changes in by_group.items())


def leaving(state: State, event: LeavingWished, out: Out) -> None:
    """The process would like to end: it may, unless a task is on its way to it."""
    user_endpoint = state.links.get(event.connection)
    if user_endpoint is None or user_endpoint.link is None:
        return
    if user_endpoint.has_work or user_endpoint.ending:
        return
    user_endpoint.link.leaving = True
    out.append(SendMayLeave(event.connection))
