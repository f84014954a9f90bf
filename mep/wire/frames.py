"""User endpoint <-> node pool <-> worker: what goes over ZeroMQ and over the worker's socket.

A message is a list of frames: one header, then raw payload frames. The header is a JSON array
``[kind, field, ...]`` (a list among the fields is one field), decoded once for a whole batch;
payload frames are never decoded on the way.

Interchange (ROUTER) and node pool (DEALER):

=============  =======================================================================  ========
kind           fields                                                                   frames
=============  =======================================================================  ========
pool ->
``hello``      protocol, info object (see :func:`hello`)
``started``    [[task_id, worker, at], ...]
``results``    [[task_id, outcome, code, message, traceback, began, ended], ...]        1 each
``beat``       at
``gone``       reason                   (the pool ends; unstarted tasks go back)
interchange ->
``functions``  [function_id, ...]                                                       1 each
``tasks``      [[task_id, function_id, priority, spec object], ...]                     1 each
``cancel``     [task_id, ...]
``recall``     [task_id, ...]           (give back what has not started: ``returned``)
``drain``      -                        (start nothing new, end when empty)
``stop``       -
``beat``       at
pool ->
``returned``   [task_id, ...]
=============  =======================================================================  ========

``spec object``: ``{}``, or ``serializers`` (ids for the result, in order of preference).

Credits: ``hello`` announces how many tasks the pool takes at once; each result or returned task
gives one back. The interchange never has more than that outstanding at one pool. A pool hands
tasks to workers in the order in which it got them. It answers each ``recall`` with one
``returned``, of the tasks that it could still give back.

Node pool and worker share a Unix stream socket; a message there is ``>II`` (header length,
payload length), header, payload. Kinds: to the worker ``hello`` first, with the descriptor of a
pipe (:mod:`mep.worker.tickets`); ``function`` [function_id] with its body, before the first task
that needs it; ``tasks`` number of the first, [[task_id, function_id, spec object, length], ...],
with their arguments one after the other. The worker runs a task when it gets its number from the
pipe; numbers come in order, and tasks whose numbers were left out are not the worker's any more.
From the worker ``result`` (the fields of one ``results`` item) with its payload. The worker ends
when the pipe does.

Runs on Python 3.8 and newer; standard library only.
"""

import json
import struct
from typing import Any, Dict, List, Sequence, Tuple

PROTOCOL = 1
"""Of these frames; equals :data:`mep.wire.PROTOCOL` (a test holds them together)."""

MAX_HEADER = 16 * 1024 * 1024
"""Bytes of one header."""

LENGTHS = struct.Struct(">II")
"""Header length, payload length, on the worker's socket."""


_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder().decode


class FrameError(ValueError):
    """A peer sent frames that are no message of this protocol."""


def header(kind: str, *fields: Any) -> bytes:
    """The header frame of one message."""
    return _encode([kind, *fields]).encode()


def parse(frame: bytes) -> Tuple[str, List[Any]]:
    """Kind and fields of a header frame.

    Raises:
        FrameError: too large, not JSON, not an array that begins with a string.
    """
    if len(frame) > MAX_HEADER:
        raise FrameError("header of %d bytes" % len(frame))
    try:
        message = _decode(frame.decode())
    except (ValueError, RecursionError) as error:
        raise FrameError("header is not JSON: %s" % error) from error
    if not isinstance(message, list) or not message or not isinstance(message[0], str):
        raise FrameError("header is not [kind, ...]")
    return message[0], message[1:]


def hello(
    pool_id: str, block_id: str, node: str, pid: int, python: str, workers: int, credit: int
) -> bytes:
    """What a node pool says first: who it is, and how many tasks it takes at once."""
    info: Dict[str, Any] = {
        "pool_id": pool_id,
        "block_id": block_id,
        "node": node,
        "pid": pid,
        "python": python,
        "workers": workers,
        "credit": credit,
    }
    return header("hello", PROTOCOL, info)


def pack(head: bytes, payload: bytes) -> Sequence[bytes]:
    """One message on the worker's socket, as pieces for a gathering write."""
    return (LENGTHS.pack(len(head), len(payload)), head, payload)
