"""What relay processes tell each other: ids only, since a NOTIFY takes less than 8000 bytes.

A note is sent with the transaction that it tells of, so whoever reads it finds that on the disk.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, TypeVar

import msgspec

from mep.wire.tasks import TaskState
from mep_cloud.errors import StoreError

IDS: Final = 150
"""Ids in one note: 36 characters and their quotation marks each."""
MOVES: Final = 80
"""State changes in one note."""

KNOWN: Final = 40
"""Tasks in one question, since the answer says more of each."""

Memories = Literal["functions", "endpoints", "policies", "tokens", "webhooks"]
"""What processes remember for a while, by name."""

T = TypeVar("T")


class Note(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Base: `sender` is the number of the process that tells."""

    sender: int


class Gone(Note, frozen=True):
    """A process has ended, and its homes are nobody's."""

    number: int


class Submitted(Note, frozen=True):
    """Tasks for an endpoint are on disk."""

    endpoint_id: str
    task_ids: tuple[str, ...]


class Cancelled(Note, frozen=True):
    """These tasks are no longer wanted."""

    task_ids: tuple[str, ...]


class Ended(Note, frozen=True):
    """Tasks of these groups have ended."""

    group_ids: tuple[str, ...]


class Move(msgspec.Struct, frozen=True, array_like=True):
    """One change of a task's state."""

    task_id: str
    state: TaskState
    at: float


class Moved(Note, frozen=True):
    """Tasks of a group moved, but did not end."""

    group_id: str
    moves: tuple[Move, ...]


class Removed(Note, frozen=True):
    """An endpoint was deleted."""

    endpoint_id: str


class Forget(Note, frozen=True):
    """Something that processes remember has changed; all of its kind where no key is given."""

    memory: Memories
    key: str | None = None


class Revoked(Note, frozen=True):
    """These logins (by name) and lone tokens (by hash) have ended."""

    families: tuple[str, ...]
    hashes: tuple[bytes, ...]


class Asked(Note, frozen=True):
    """What do you know of these tasks?"""

    question: int
    task_ids: tuple[str, ...]
    last: bool
    """No more tasks are asked after in this question."""


class Known(msgspec.Struct, frozen=True, array_like=True):
    """What the home of a task knows of it. Times are epoch seconds, 0: not yet."""

    task_id: str
    state: TaskState
    dispatched: float
    waited: float
    running: float


class Told(Note, frozen=True):
    """The answer to one :class:`Asked`, from a process that may know of none."""

    asker: int
    question: int
    known: tuple[Known, ...]
    last: bool


AnyNote = Gone | Submitted | Cancelled | Ended | Moved | Removed | Forget | Revoked | Asked | Told

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyNote] = msgspec.json.Decoder(AnyNote)


def encode(note: AnyNote) -> str:
    """A note as the payload of NOTIFY."""
    return _encoder.encode(note).decode()


def decode(payload: str) -> AnyNote:
    """The note in a payload.

    Raises:
        StoreError: it is none, so another program or version uses this database.
    """
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise StoreError(f"another program notifies the relay's channel: {error}") from error


def portions(items: Sequence[T], most: int) -> Iterator[tuple[T, ...]]:
    """`items` in portions that fit into a note."""
    for at in range(0, len(items), most):
        yield tuple(items[at : at + most])


def distinct(items: Iterable[T]) -> list[T]:
    """`items` once each, in order."""
    return list(dict.fromkeys(items))
