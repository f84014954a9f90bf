"""``status.json`` for ``mep status``, and what the manager remembers of user endpoints.

The warden's ``Running`` packet has ids alone; account and age of a user endpoint that was started
before this manager come from the file in the state directory.
"""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Final, Literal

import msgspec

from mep.manager.broker import UserEndpoint

FILE: Final = "status.json"
MEMORY: Final = "user_endpoints.json"


class Relay(msgspec.Struct, frozen=True):
    url: str
    state: Literal["connecting", "up", "down", "refused"] = "connecting"
    since: float = 0.0
    message: str = ""
    """Why it is refused, in the relay's words."""


class Warden(msgspec.Struct, frozen=True):
    state: Literal["up", "down"] = "down"
    since: float = 0.0
    pid: int | None = None


class Running(msgspec.Struct, frozen=True):
    """One user endpoint."""

    user_endpoint_id: str
    account: str
    pid: int
    since: float


class Manager(msgspec.Struct, frozen=True):
    pid: int
    start_time: int
    """Of the process, in clock ticks since boot: with the pid, it names one process for good."""
    version: str


class Status(msgspec.Struct, frozen=True):
    """The file. Times are epoch seconds."""

    endpoint_id: str
    endpoint_name: str
    manager: Manager
    relay: Relay
    warden: Warden
    user_endpoints: tuple[Running, ...] = ()


def process_start_time(pid: int) -> int:
    """When a process was started, in clock ticks since boot (field 22 of proc(5)'s stat).

    Raises:
        OSError: there is no such process.
    """
    stat = Path("/proc", str(pid), "stat").read_bytes()
    return int(stat.rpartition(b")")[2].split()[19])


def write(path: Path, status: Status) -> None:
    """Replace the status file, readable by all."""
    _replace(path, msgspec.json.format(msgspec.json.encode(status), indent=2), 0o644)


def remember(path: Path, running: dict[str, UserEndpoint]) -> None:
    """Replace the memory of user endpoints."""
    _replace(path, msgspec.json.encode(running), 0o600)


def recall(path: Path) -> dict[str, UserEndpoint]:
    """The memory of user endpoints; empty where there is none or it is damaged: it only serves
    to show names.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, UserEndpoint])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}


def _replace(path: Path, data: bytes, mode: int) -> None:
    descriptor, fresh = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
        Path(fresh).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(fresh).unlink()
        raise
