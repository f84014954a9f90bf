"""User endpoint -> manager: what happened, for the audit log. One :class:`Report` is one packet.

Two Unix sockets in ``/run/mep/NAME`` take them, as JSON of at most :data:`REPORT_BYTES`:

``events.sock``  datagrams, one way, best effort.
``audit.sock``   connections of packets; each is answered by :data:`WRITTEN` once its lines stand in
                 the log. Where they cannot, the answer is :data:`NOT_WRITTEN`, and whoever must not
                 go on without an audit log (`high_assurance`) stops.

The manager believes none of it: it stamps uid, gid and pid from the kernel, limits size and rate,
and marks the record as reported by the user's process.
"""

from typing import Final

import msgspec

EVENTS: Final = "events.sock"
AUDIT: Final = "audit.sock"
REPORT_BYTES: Final = 64 * 1024
WRITTEN: Final = b"+"
NOT_WRITTEN: Final = b"-"

RECEIVED: Final = "RECEIVED"
"""The relay has handed a task over."""
REFUSED: Final = "REFUSED"
"""It is not run here; `text` is the code."""
EXEC_START: Final = "EXEC_START"
"""The engine has it."""
RUNNING: Final = "RUNNING"
"""A worker has it, of this block and batch job."""
EXEC_END: Final = "EXEC_END"
"""It has ended; `text` is the outcome, with the code of a failure."""
UP: Final = "up"
IDLE: Final = "idle"
STOPPING: Final = "stopping"
LOST: Final = "lost"
"""So many events (`text`) could not be told."""


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that happened in a user endpoint."""

    event: str
    at: float
    """Epoch seconds, by the user's process or the worker's node."""
    task_id: str = ""
    function_id: str = ""
    block_id: str = ""
    job_id: str = ""
    """Of the batch system."""
    text: str = ""


class Report(msgspec.Struct, frozen=True):
    """Events of one user endpoint, in order."""

    user_endpoint_id: str
    identity_id: str
    """The one that was mapped."""
    events: tuple[Event, ...]
