"""Instructions to frames, frames to events: our half of :mod:`mep.wire.frames`. Pure."""

from collections.abc import Sequence
from typing import Any

import msgspec

from mep.endpoint.interchange.events import (
    Finished,
    Place,
    Returned,
    Started,
)
from mep.wire import frames
from mep.wire.codec import WireError
from mep.wire.tasks import Failure, Outcome, Result, Task


class _Header(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    pass


class HelloInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who a node pool is, see :func:`mep.wire.frames.hello`."""

    pool_id: str
    block_id: str
    node: str
    pid: int
    python: str
    workers: int
    credit: int


class Hello(_Header, frozen=True, tag="hello"):
    """First message of a pool."""

    protocol: int
    info: HelloInfo


class _ResultItem(_Header, frozen=True):
    task_id: str
    outcome: Outcome
    code: str
    message: str
    traceback: str
    began: float
    ended: float


class _StartedHeader(_Header, frozen=True, tag="started"):
    tasks: tuple[tuple[str, int, float], ...]


class _ResultsHeader(_Header, frozen=True, tag="results"):
    items: tuple[_ResultItem, ...]


class _ReturnedHeader(_Header, frozen=True, tag="returned"):
    task_ids: tuple[str, ...]


class Beat(_Header, frozen=True, tag="beat"):
    """A pool lives."""

    at: float


class Gone(_Header, frozen=True, tag="gone"):
    """A pool ends, because..."""

    reason: str


_FromPool = Hello | Beat | Gone | _StartedHeader | _ResultsHeader | _ReturnedHeader
_decoder: msgspec.json.Decoder[_FromPool] = msgspec.json.Decoder(_FromPool)
_encode = msgspec.json.Encoder().encode

FromPool = Hello | Beat | Gone | Started | Finished | Returned


def hear(pool_id: str, message: Sequence[bytes]) -> FromPool:
    """What a pool said.

    Raises:
        WireError: frames that are no message of this protocol.
    """
    if not message or len(message[0]) > frames.MAX_HEADER:
        raise WireError("no header, or one that is too large")
    try:
        head = _decoder.decode(message[0])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a message of this protocol: {error}") from error
    match head:
        case _ResultsHeader(items):
            if len(items) != len(message) - 1:
                raise WireError(f"{len(items)} results in {len(message) - 1} frames")
            return Finished(pool_id, [_result(*pair) for pair in zip(items, message[1:])])  # noqa: B905
        case _StartedHeader(tasks):
            return Started(pool_id, [(task_id, at) for task_id, _, at in tasks])
        case _ReturnedHeader(task_ids):
            return Returned(pool_id, task_ids)
    return head


def _result(item: _ResultItem, payload: bytes) -> Result:
    failure = None
    if item.outcome != "success":
        failure = Failure(item.code, item.message, item.traceback)
    return Result(item.task_id, item.outcome, payload, failure, item.began, item.ended)


def functions(place: Place) -> list[bytes]:
    """The frames with the function bodies of a placement."""
    head = _encode(["functions", [function.function_id for function in place.functions]])
    return [head, *(function.body for function in place.functions)]


def tasks(batch: Sequence[Task]) -> list[bytes]:
    """The frames with some tasks."""
    head = _encode(["tasks", [(task.task_id, task.function_id, 0, _spec(task)) for task in batch]])
    return [head, *(task.payload for task in batch)]


def order(kind: str, *fields: Any) -> list[bytes]:
    """The frames of ``cancel``, ``recall``, ``drain``, ``stop`` or ``beat``."""
    return [_encode([kind, *fields])]


def _spec(task: Task) -> dict[str, Any]:
    spec: dict[str, Any] = {}
    if task.result_serializers:
        spec["serializers"] = task.result_serializers
    return spec
