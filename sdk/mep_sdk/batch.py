"""Calls that are submitted in one request."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from mep.wire.rest import Submit
from mep_sdk.bounds import Bounds
from mep_sdk.runtime import user_runtime
from mep_sdk.serialize import Serializer


@dataclass
class Batch:
    """Made by :meth:`mep_sdk.Client.create_batch`, sent by :meth:`mep_sdk.Client.batch_run`."""

    task_group_id: str | None = None
    resource_specification: dict[str, Any] | None = None
    user_endpoint_config: dict[str, Any] | None = None
    result_serializers: Sequence[str] | None = None
    serializer: Serializer = field(default_factory=Serializer)
    calls: list[tuple[str | None, str, bytes]] = field(default_factory=list, repr=False)
    """Endpoint id (in the older form), function id, payload."""

    def __len__(self) -> int:
        return len(self.calls)

    def add(self, *positional: Any, **named: Any) -> None:
        """Add a call: ``add(function_id, args=(...), kwargs={...})``.

        The older form ``add(x, y, ..., endpoint_id=..., function_id=..., k=...)`` takes the
        function's own arguments, and goes with ``batch_run(batch)``.

        Raises:
            TypeError, ValueError: the call makes no sense; the message says why.
            SerializationError: its arguments cannot be sent.
        """
        if "endpoint_id" in named:
            endpoint_id = uuid_text(named.pop("endpoint_id"), "endpoint id")
            function_id = uuid_text(named.pop("function_id", None), "function id")
            payload = self.serializer.arguments(positional, named)
            self.calls.append((endpoint_id, function_id, payload))
        else:
            self._add(*positional, **named)

    def _add(
        self,
        function_id: str | UUID,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        if args is not None and not isinstance(args, (list, tuple)):
            raise TypeError(f"args is the tuple of arguments, not a {type(args).__name__}")
        payload = self.serializer.arguments(args or (), kwargs or {})
        self.calls.append((None, uuid_text(function_id, "function id"), payload))

    def requests(self, positions: Iterable[int], bounds: Bounds) -> Iterator[dict[str, list[int]]]:
        """Of the calls at these positions, as many as one request takes: positions by function."""
        calls: dict[str, list[int]] = {}
        count = size = 0
        for position in positions:
            _, function_id, payload = self.calls[position]
            full = size + len(payload) > bounds.size or count >= bounds.calls
            if calls and full:
                yield calls
                calls, count, size = {}, 0, 0
            calls.setdefault(function_id, []).append(position)
            count, size = count + 1, size + len(payload)
        if calls:
            yield calls

    def lengths(self, calls: Mapping[str, Sequence[int]]) -> list[int]:
        """Bytes of the payloads of the calls at these positions."""
        return [len(self.calls[position][2]) for there in calls.values() for position in there]

    def request(
        self, calls: dict[str, list[int]], task_group_id: str | None = None
    ) -> Submit[bytes]:
        """The submit of the calls at these positions, with what was said of the whole batch;
        `task_group_id`: that of its earlier requests.
        """
        tasks = {
            function_id: [self.calls[position][2] for position in there]
            for function_id, there in calls.items()
        }
        serializers = list(self.result_serializers) if self.result_serializers else None
        return Submit(
            tasks=tasks,
            task_group_id=task_group_id or self.task_group_id,
            user_endpoint_config=self.user_endpoint_config,
            resource_specification=self.resource_specification,
            result_serializers=serializers,
            user_runtime=user_runtime(),
        )


def uuid_text(value: object, what: str) -> str:
    """A UUID, however it was given, as lower-case text.

    Raises:
        ValueError: it is none.
    """
    try:
        return str(UUID(str(value)))
    except ValueError:
        raise ValueError(f"{value!r} is no {what}: a UUID is expected") from None
