"""What delivery wants done."""

from dataclasses import dataclass

from mep.wire.tasks import Result, StateChange
from mep_cloud.delivery.state import Call


@dataclass(frozen=True, slots=True)
class SignStart:
    """Sign a grant, make its token known, then send the start to the manager."""

    connection: int
    user_endpoint_id: str
    nonce: str
    boot_id: str
    tasks: tuple[str, ...] = ()
    """Some of those that wait."""


@dataclass(frozen=True, slots=True)
class SendTasks:
    """Send these calls, and before them the bodies of `function_ids`."""

    connection: int
    function_ids: tuple[str, ...]
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class SendCommitted:
    connection: int
    task_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SendCancel:
    connection: int
    task_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SendMayLeave:
    connection: int


@dataclass(frozen=True, slots=True)
class CloseLink:
    connection: int
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class CommitResults:
    """Make these endings durable; answered by ``ResultsCommitted`` or ``ResultsNotCommitted``."""

    endings: tuple[tuple[Call, Result], ...]
    own: bool = False
    """They were made here: tried until the disk takes them, since nobody sends them again."""


@dataclass(frozen=True, slots=True)
class PublishStates:
    """Tell whoever streams this group."""

    group_id: str
    changes: tuple[StateChange, ...]


LinkInstruction = SendTasks | SendCommitted | SendCancel | SendMayLeave | CloseLink
"""Concerns the connection that it names, if that is still open."""

Instruction = SignStart | LinkInstruction | CommitResults | PublishStates
