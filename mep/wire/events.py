"""User endpoint -> manager: one-way datagrams on ``/run/mep/NAME/events.sock``.

JSON objects of at most :data:`EVENT_BYTES`. The manager believes none of it: it stamps uid, gid
and pid from the kernel (SO_PASSCRED), limits size and rate, and marks the record as reported by
the user's process.
"""

from typing import Final

import msgspec

EVENT_BYTES: Final = 4096


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that happened in a user endpoint."""

    event: str
    """``up``, ``idle``, ``stopping``, ``task-received``, ``task-started``, ``task-ended``..."""
    user_endpoint_id: str
    at: float
    """Epoch seconds, by the user's process."""
    task_id: str = ""
    function_id: str = ""
    text: str = ""
