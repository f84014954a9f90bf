"""Calls that wait to be sent, and how they are cut into requests. No I/O, no lock of its own."""

import json
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mep.wire.rest import Submit
from mep_sdk.bounds import Bounds
from mep_sdk.functions import Known
from mep_sdk.future import ComputeFuture
from mep_sdk.runtime import user_runtime


@dataclass(frozen=True)
class Destination:
    """What all tasks of one request share."""

    endpoint_id: str
    task_group_id: str
    user_endpoint_config: str = ""
    """JSON, or empty; text, so that a later change of the dictionary does not reach it."""
    resource_specification: str = ""
    result_serializers: tuple[str, ...] = ()
    container_id: str = ""

    def submit(self, tasks: dict[str, list[bytes]], **options: str) -> Submit[bytes]:
        """The request for these tasks, with `options` in its configuration besides."""
        config = _object(self.user_endpoint_config)
        return Submit(
            tasks=tasks,
            task_group_id=self.task_group_id,
            user_endpoint_config={**(config or {}), **options} if options else config,
            resource_specification=_object(self.resource_specification),
            result_serializers=list(self.result_serializers) or None,
            user_runtime=user_runtime(),
        )


def _object(text: str) -> dict[str, Any] | None:
    return json.loads(text) if text else None


@dataclass(slots=True)
class Call:
    """One task that has not been sent."""

    future: ComputeFuture
    destination: Destination
    function: Known
    payload: bytes


class Backlog:
    """Calls by destination, in order; destinations take turns."""

    def __init__(self, most_calls: int, bounds: Bounds) -> None:
        self.most_calls = most_calls
        self._bounds = bounds
        self._queues: OrderedDict[Destination, deque[Call]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._queues)

    def add(self, call: Call) -> None:
        """Queue a call."""
        queue = self._queues.get(call.destination)
        if queue is None:
            queue = self._queues[call.destination] = deque()
        queue.append(call)

    def put_back(self, calls: Sequence[Call]) -> None:
        """Calls of one destination that were taken, before all others of theirs."""
        destination = calls[0].destination
        queue = self._queues.setdefault(destination, deque())
        queue.extendleft(reversed(calls))

    def take(self) -> list[Call]:
        """The next batch, of one destination, without what was cancelled meanwhile.

        A call that is larger than a batch travels alone.
        """
        destination, queue = next(iter(self._queues.items()))
        batch: list[Call] = []
        size = 0
        most_calls = min(self.most_calls, self._bounds.calls)
        while queue and len(batch) < most_calls:
            call = queue[0]
            if not call.future.cancelled():
                size += len(call.payload)
                if batch and size > self._bounds.size:
                    break
                batch.append(call)
            queue.popleft()
        self._queues.pop(destination)
        if queue:
            self._queues[destination] = queue
        return batch
