"""User endpoint <-> node pool <-> worker: the messages between them.

A message is a list of frames: one header, then raw payload frames. The header is a JSON array
``[kind, field, ...]`` (a list among the fields is one field), decoded once for a whole batch;
payload frames are never decoded on the way.

Interchange and node pool; beside each other by a Unix socket (:mod:`mep.wire.stream`), across a
network by ROUTER and DEALER (:mod:`mep.wire.line`):

=============  =======================================================================  ========
kind           fields                                                                   frames
=============  =======================================================================  ========
pool ->
``hello``      protocol, info object (see :func:`hello`)
``started``    [[task_id, worker, at], ...]
``results``    [[task_id, outcome, code, message, traceback, began, ended], ...]        1 each
``beat``       at                       (by the pool's own clock, that never goes back)
``gone``       reason                   (the pool ends; unstarted tasks go back)
interchange ->
``functions``  [function_id, ...]                                                       1 each
``tasks``      [[task_id, function_id, priority, spec object], ...]                     1 each
``cancel``     [task_id, ...]
``recall``     [task_id, ...]           (give back what has not started: ``returned``)
``drain``      -                        (start nothing new, end when empty)
``stop``       -
``beat``       at                       (the answer to the pool's ``beat``: the same time)
``received``   [task_id, ...]           (the results of these are safe, and may be forgotten)
``who``        -                        (say ``hello``, and once more what is not ``received``)
pool ->
``returned``   [task_id, ...]
=============  =======================================================================  ========

``spec object``, each member optional: ``serializers`` (ids for the result, in order of preference);
``walltime`` (seconds that the task may take); of a task that is spread over nodes ``nodes`` (their
names) and ``mpi`` (``ranks_per_node``, and ``options`` of the launcher as shell words). To the
worker also ``environment`` (variables that the task has, and no task after it).

Credits: ``hello`` announces how many tasks the pool takes at once; each result or returned task
gives one back. The interchange never has more than that outstanding at one pool. A pool hands
tasks to workers in the order in which it got them. It answers each ``recall`` with one
``returned``, of the tasks that it could still give back.

A node pool that outlives the user endpoint keeps each result until it is ``received``. A peer that
the interchange does not know (it has been restarted) is asked ``who``; in its ``hello`` the pool
names all tasks that it holds, queued, running and ended, and the results follow. One that has
been counted as lost, or belongs to no block, is told to ``stop``.

Node pool and worker share a Unix stream socket; a message there is a header and a payload
(:mod:`mep.wire.stream`). Kinds: to the worker ``hello`` worker number first, with the descriptors
of a pipe (:mod:`mep.worker.tickets`) and perhaps of a file (:mod:`mep.worker.begun`); ``function``
[function_id] with its body, before the first task that needs it; ``tasks`` number of the first,
[[task_id, function_id, spec object, length], ...], with their arguments one after the other. The
worker runs a task when it gets its number from the pipe; numbers come in order, and tasks whose
numbers were left out are not the worker's any more.
From the worker ``result`` (the fields of one ``results`` item) with its payload. The worker ends
when the pipe does.

Runs on Python 3.8 and newer; standard library only.
"""

import json
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

PROTOCOL = 1
"""Of these frames; equals :data:`mep.wire.PROTOCOL` (a test holds them together)."""

MAX_HEADER = 16 * 1024 * 1024
"""Bytes of one header."""


def _encoder() -> Callable[[Any], str]:
    """JSONEncoder.encode, which makes its encoder anew for every call, with one that is kept.

    Where this Python's json has no such part, or another, its own way.
    """
    slow = json.JSONEncoder(separators=(",", ":"))
    try:
        fast = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
            None,
            slow.default,
            json.encoder.encode_basestring_ascii,
            None,
            ":",
            ",",
            False,
            False,
            True,
        )
    except (AttributeError, TypeError):
        return slow.encode
    return lambda value: "".join(fast(value, 0))


_encode = _encoder()
_decode = json.JSONDecoder().raw_decode


Piece = Union[bytes, bytearray, memoryview]
"""Bytes of a payload; a view is of single bytes."""


class FrameError(ValueError):
    """A peer sent frames that are no message of this protocol."""


def header(kind: str, *fields: Any) -> bytes:
    """The header frame of one message."""
    return _encode([kind, *fields]).encode()


def parse(frame: Piece) -> Tuple[str, List[Any]]:
    """Kind and fields of a header frame.

    Raises:
        FrameError: too large, not JSON, not an array that begins with a string.
    """
    if len(frame) > MAX_HEADER:
        raise FrameError("header of %d bytes" % len(frame))
    try:
        text = str(frame, "utf-8")
        message, end = _decode(text)
    except (ValueError, RecursionError) as error:
        raise FrameError("header is not JSON: %s" % error) from error
    if end != len(text):
        raise FrameError("header is more than JSON")
    if not isinstance(message, list) or not message or not isinstance(message[0], str):
        raise FrameError("header is not [kind, ...]")
    return message[0], message[1:]


def hello(
    pool_id: str,
    block_id: str,
    node: str,
    pid: int,
    python: str,
    workers: int,
    credit: int,
    holds: List[str],
    ends_at: Optional[float] = None,
    nodes: Sequence[str] = (),
    placed: Optional[Dict[str, List[str]]] = None,
) -> bytes:
    """What a node pool says first: who it is, how many tasks it takes at once, and which it has.

    `ends_at`: epoch seconds at which the batch system ends its job, where that is known. `nodes`:
    those that its tasks may be spread over, where they may; `placed`: those that some tasks have.
    """
    info: Dict[str, Any] = {
        "pool_id": pool_id,
        "block_id": block_id,
        "node": node,
        "pid": pid,
        "python": python,
        "workers": workers,
        "credit": credit,
        "holds": holds,
        "ends_at": ends_at,
        "nodes": list(nodes),
        "placed": placed or {},
    }
    return header("hello", PROTOCOL, info)
