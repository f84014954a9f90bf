"""Task, function, result and failure: what every link carries."""

from typing import Literal

from mep.wire.codec import Message

TaskState = Literal["waiting-for-ep", "queued", "waiting-for-nodes", "running"]
"""States before the end, in order. ``waiting-for-ep``: no live user endpoint has it yet;
``queued``: the user endpoint has it; ``waiting-for-nodes``: no worker is up to take it;
``running``: a worker has started it."""

Outcome = Literal["success", "failed", "cancelled"]
"""Terminal states: a task ends in exactly one, once."""


class Function(Message, frozen=True):
    """A registered function's body, sent once per connection, before the first task to need it."""

    function_id: str
    body: bytes
    """Packed code buffer, ``len\\nid\\nbody`` (see :mod:`mep.payload`); opaque on the way."""


class Blob(Message, frozen=True):
    """Arguments or a result too large for a message; they are fetched by HTTP from the relay."""

    id: str
    size: int
    sha256: str
    """64 hex digits."""


class Task(Message, frozen=True):
    """One call, as the relay hands it to a user endpoint."""

    task_id: str
    function_id: str
    task_group_id: str
    payload: bytes
    """Packed argument buffers; opaque on the way."""
    resource_specification: bytes = b""
    """JSON object as the user gave it, or empty."""
    result_serializers: tuple[str, ...] = ()
    blob: Blob | None = None
    """Where the argument buffers are; `payload` is empty then."""


class Failure(Message, frozen=True):
    """Why a task ended badly."""

    code: str
    """One of :mod:`mep.wire.codes`."""
    message: str
    """A sentence for the user."""
    traceback: str = ""
    """Remote traceback or stderr tail, as text."""


class Result(Message, frozen=True):
    """How one task ended. The first one that the relay commits wins."""

    task_id: str
    outcome: Outcome
    payload: bytes
    """``success``: the packed result buffer. ``failed`` with ``USER_EXCEPTION``: the packed
    exception (empty where it could not be serialized). Else empty."""
    failure: Failure | None = None
    began: float = 0.0
    """Epoch seconds on the worker's node; 0 when no worker began it."""
    ended: float = 0.0
    blob: Blob | None = None
    """Where the packed buffer is; `payload` is empty then."""


class StateChange(Message, frozen=True):
    """A task moved, but did not end."""

    task_id: str
    state: TaskState
    at: float
    """Epoch seconds."""
