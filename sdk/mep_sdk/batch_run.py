"""A batch, submitted: in one request, or as few as the relay's limits allow."""

from collections.abc import Callable
from typing import Any

import msgspec

from mep.wire.rest import Submit, Submitted
from mep_sdk.batch import Batch

Send = Callable[[str, Submit[bytes]], Submitted]
"""Submits to an endpoint: :meth:`mep_sdk.Client.submit`."""


def run(send: Send, endpoint_id: str, batch: Batch) -> dict[str, Any]:
    """All calls to one endpoint; the answers as if it had been one request.

    Raises:
        ValueError: the batch is empty.
        RelayError: as `send`.
    """
    if not batch.calls:
        raise ValueError("the batch is empty")
    whole: dict[str, Any] = {}
    for calls in batch.requests(range(len(batch))):
        answer = send(endpoint_id, batch.request(calls, whole.get("task_group_id")))
        if not whole:
            whole = msgspec.to_builtins(answer)
            continue
        for function_id, task_ids in answer.tasks.items():
            whole["tasks"].setdefault(function_id, []).extend(task_ids)
    return whole


def run_older(send: Send, batch: Batch) -> list[str]:
    """Each call to the endpoint that it names; task ids in the order of `add`.

    Raises:
        ValueError: a call names no endpoint, or the batch is empty.
        RelayError: as `send`.
    """
    if not batch.calls:
        raise ValueError("the batch is empty")
    task_ids: dict[int, str] = {}
    positions: dict[str, list[int]] = {}
    for position, (endpoint_id, _, _) in enumerate(batch.calls):
        if endpoint_id is None:
            raise ValueError(
                "batch_run(batch) needs batch.add(..., endpoint_id=..., function_id=...); "
                "else call batch_run(endpoint_id, batch)"
            )
        positions.setdefault(endpoint_id, []).append(position)
    group = None
    for endpoint_id, here in positions.items():
        for calls in batch.requests(here):
            answer = send(endpoint_id, batch.request(calls, group))
            group = answer.task_group_id
            for function_id, there in calls.items():
                task_ids.update(zip(there, answer.tasks[function_id], strict=True))
    return [task_ids[position] for position in range(len(batch))]
