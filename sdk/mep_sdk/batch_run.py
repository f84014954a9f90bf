"""A batch, submitted: in one request, or as few as the relay's limits allow."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from mep.wire.rest import Submitted
from mep_sdk.batch import Batch
from mep_sdk.connection import Connection
from mep_sdk.errors import RelayError

Calls = dict[str, list[int]]
"""Positions of calls in a batch, by function."""


def run(connection: Connection, endpoint_id: str, batch: Batch) -> dict[str, Any]:
    """All calls to one endpoint; the answers as if it had been one request.

    Raises:
        ValueError: the batch is empty.
        RelayError: as :meth:`mep_sdk.Client.submit`.
    """
    if not batch.calls:
        raise ValueError("the batch is empty")
    _check(connection, batch)
    whole: dict[str, Any] = {}
    for _, answer in _answers(connection, endpoint_id, batch, range(len(batch)), None):
        if not whole:
            whole = msgspec.to_builtins(answer)
            continue
        for function_id, task_ids in answer.tasks.items():
            whole["tasks"].setdefault(function_id, []).extend(task_ids)
    return whole


def run_older(connection: Connection, batch: Batch) -> list[str]:
    """Each call to the endpoint that it names; task ids in the order of `add`.

    Raises:
        ValueError: a call names no endpoint, or the batch is empty.
        RelayError: as :meth:`mep_sdk.Client.submit`.
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
    _check(connection, batch)
    group = None
    for endpoint_id, here in positions.items():
        for calls, answer in _answers(connection, endpoint_id, batch, here, group):
            group = answer.task_group_id
            for function_id, there in calls.items():
                task_ids.update(zip(there, answer.tasks[function_id], strict=True))
    return [task_ids[position] for position in range(len(batch))]


def _check(connection: Connection, batch: Batch) -> None:
    """Refuse a batch with arguments that are too large before any part of it has been sent."""
    for _, _, payload in batch.calls:
        connection.large.check(len(payload))


def _answers(
    connection: Connection,
    endpoint_id: str,
    batch: Batch,
    positions: Iterable[int],
    group: str | None,
) -> Iterator[tuple[Calls, Submitted]]:
    """Submit the calls at these positions: each request with its answer."""
    bounds = connection.bounds
    for calls in batch.requests(positions, bounds):
        try:
            answers = [(calls, connection.submit(endpoint_id, batch.request(calls, group)))]
        except RelayError as error:
            too_much = connection.learn(error)
            lengths = batch.lengths(calls)
            if not too_much or bounds.fit(lengths) or max(lengths) > bounds.payload:
                raise
            there = sorted(position for each in calls.values() for position in each)
            answers = list(_answers(connection, endpoint_id, batch, there, group))
        yield from answers
        group = answers[-1][1].task_group_id
