"""Instructions to frames, frames to events: our half of :mod:`mep.wire.frames`. Pure."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec

from mep.endpoint.interchange.events import (
    Finished,
    Place,
    Returned,
    Started,
)
from mep.wire import frames, limits
from mep.wire.codec import WireError
from mep.wire.frames import Piece
from mep.wire.strategies import strategy_id
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
    holds: tuple[str, ...] = ()
    ends_at: float | None = None
    nodes: tuple[str, ...] = ()
    placed: dict[str, tuple[str, ...]] = {}


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
    """A pool lives; it is answered with the same time."""

    at: float


class Gone(_Header, frozen=True, tag="gone"):
    """A pool ends, because..."""

    reason: str


_FromPool = Hello | Beat | Gone | _StartedHeader | _ResultsHeader | _ReturnedHeader
_decoder: msgspec.json.Decoder[_FromPool] = msgspec.json.Decoder(_FromPool)
_encode = msgspec.json.Encoder().encode

FromPool = Hello | Beat | Gone | Started | Finished | Returned


def hear(pool_id: str, message: Sequence[Piece]) -> FromPool:
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


def _result(item: _ResultItem, payload: Piece) -> Result:
    body = cast("bytes", payload)  # nobody on the way does more with it than write it somewhere
    failure = None
    if item.outcome != "success":
        failure = Failure(item.code, item.message, item.traceback)
    return Result(item.task_id, item.outcome, body, failure, item.began, item.ended)


def functions(place: Place) -> list[bytes]:
    """The frames with the function bodies of a placement."""
    head = _encode(["functions", [function.function_id for function in place.functions]])
    return [head, *(function.body for function in place.functions)]


def batches(all_tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """These tasks in messages of bounded size; a single task may exceed it."""
    batch: list[Task] = []
    size = 0
    for task in all_tasks:
        if batch and (len(batch) == limits.BATCH_TASKS or size > limits.BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(task)
        size += len(task.payload)
    if batch:
        yield batch


def tasks(batch: Sequence[Task], specs: Mapping[str, Mapping[str, Any]]) -> list[bytes]:
    """The frames with some tasks; `specs`: what is added to the ``spec`` of a task, by its id."""
    items = [(task.task_id, task.function_id, 0, _spec(task, specs)) for task in batch]
    head = _encode(["tasks", items])
    return [head, *(task.payload for task in batch)]


def order(kind: str, *fields: Any) -> list[bytes]:
    """The frames of an order without payload."""
    return [_encode([kind, *fields])]


def _spec(task: Task, specs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    spec = dict(specs.get(task.task_id, ())) if specs else {}
    if task.result_serializers:
        spec["serializers"] = _ids(task.result_serializers)
    return spec


@functools.lru_cache(maxsize=64)
def _ids(names: tuple[str, ...]) -> tuple[str, ...]:
    """By id, as workers know them; of one that is unknown the worker says so."""
    ids = []
    for name in names:
        try:
            ids.append(strategy_id(name))
        except ValueError:
            ids.append(name)
    return tuple(ids)
