"""The audit log of an endpoint: the warden's records and the manager's, as one sequence.

Two files, each with its rotated predecessors (``.1``, ``.2.gz``, ...). Only what root or the
manager wrote is used to say more about other records: whose a user endpoint is, and for whom it was
asked for.
"""

import gzip
import heapq
import json
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from mep.cli.site import Site

Record = dict[str, Any]
"""``at`` (epoch seconds), ``reporter`` (``warden``, ``manager`` or ``user``), ``event``, and what
there is of ``account``, ``uid``, ``pid``, ``identity``, ``identities``, ``user_endpoint_id``,
``task_id``, ``function_id``, ``block_id``, ``job_id``, ``code``, ``reference``, ``why``, ..."""

EVENTS: Final = "events.jsonl"
_LINE: Final = 256 * 1024
_LAST_S: Final = 1e11
"""What is later is no time of a record."""
_ROTATED: Final = re.compile(r"\.(\d+)(\.gz)?")
_NUMBERS: Final = ("uid", "gid", "pid", "status", "signal")
_KERNEL: Final = ("account", "uid", "gid", "pid", "endpoint_id")
_REPORTERS: Final = {"the user's process": "user", "the manager": "manager"}


def records(place: Site, ends: Mapping[Path, int] = {}) -> Iterator[Record]:
    """All records, oldest first; as they are written, without what others tell of them.

    Args:
        place: the endpoint.
        ends: how many bytes of a file are read.

    Raises:
        OSError: a file cannot be read.
    """

    def read(path: Path, parse: Callable[[bytes], Record | None]) -> Iterator[Record]:
        lines = (line for each in _series(path) for line in _lines(each, ends.get(each)))
        return (record for line in lines if (record := parse(line)) is not None)

    both = read(place.audit_file, of_warden), read(place.log / EVENTS, of_manager)
    return heapq.merge(*both, key=lambda one: one["at"])


@dataclass
class Joined:
    """Adds to records what earlier ones tell of the same user endpoint."""

    _started: dict[str, Record] = field(default_factory=dict)
    _asked: dict[str, Record] = field(default_factory=dict)
    _mapped: dict[str, Record] = field(default_factory=dict)
    """By the start that was asked for last."""

    def all(self, found: Iterable[Record]) -> Iterator[Record]:
        """The records, each with what is known."""
        for record in found:
            yield self.one(record)

    def one(self, record: Record) -> Record:
        """One record, with what is known."""
        name = record.get("user_endpoint_id", "")
        match record["reporter"], record["event"]:
            case "warden", "started":
                self._started[name] = record
            case "manager", "start-asked":
                self._asked[name] = record
                self._mapped.pop(name, None)
            case "warden", "mapped":
                self._mapped[name] = record
        started, asked = self._started.get(name, {}), self._asked.get(name, {})
        if record["reporter"] == "user" and started and started.get("uid") != record.get("uid"):
            return record | {"disputed": "it is somebody else's user endpoint"}
        if record["event"] == "refused":  # whatever runs under that name
            started = self._mapped.get(name, {})
        known = {key: started[key] for key in ("account", "uid", "identity") if key in started}
        people = {key: asked[key] for key in ("identities", "tasks") if key in asked}
        if record["event"] != "refused":
            people.pop("tasks", None)  # they have records of their own
        # Of a user's process, the warden's word counts for more than its own.
        return people | record | known if record["reporter"] == "user" else people | known | record


def of_warden(line: bytes) -> Record | None:
    """A record of the warden's own log; None where the line is none."""
    raw = _object(line)
    if raw is None or not isinstance(raw.get("at"), int | float):
        return None
    facts = {key: _number(value) if key in _NUMBERS else value for key, value in raw.items()}
    if raw.get("event") == "exited":
        facts |= _end(facts)
    facts = {key: value for key, value in facts.items() if value not in (None, "", "None")}
    return {**facts, "at": float(raw["at"]), "reporter": "warden", "event": str(raw.get("event"))}


def _end(facts: Record) -> Record:
    """How a user endpoint ended: the warden notes a status as waitpid(2) has it, and the process's
    last words as they are.
    """
    from mep.manager.packets import report

    status, said = facts.get("status"), str(facts.get("said", ""))
    code, message = report(said)
    killed = isinstance(status, int) and status < 0
    return {
        "status": None if killed else status,
        "signal": -status if isinstance(status, int) and killed else None,
        "code": code,
        "said": message or said,
    }


def of_manager(line: bytes) -> Record | None:
    """A record of the manager's log; None where the line is none.

    Values of another shape than the manager writes become text: who has taken it over shall not
    be able to spoil what the warden says.
    """
    raw = _object(line)
    event = raw.get("event") if raw else None
    if raw is None or not isinstance(event, dict) or not _is_moment(raw.get("received")):
        return None
    kernel = {key: _shaped(key, raw[key]) for key in _KERNEL if key in raw}
    words = {key: _shaped(key, value) for key, value in event.items() if key not in kernel}
    if "at" in words:
        words["reported_at"] = words.pop("at")
    if "identity_id" in words:
        words["identity"] = words.pop("identity_id")
    reporter = _REPORTERS.get(str(raw.get("reported_by")), "user")
    fixed = {"at": float(raw["received"]), "reporter": reporter, "event": str(event.get("event"))}
    return {**words, **kernel, **fixed}


def _is_moment(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value < _LAST_S


def _shaped(key: str, value: Any) -> Any:
    match key, value:
        case "identities", list() if all(map(_is_person, value)):
            return value
        case "tasks", list() if all(isinstance(one, str) for one in value):
            return value
        case _, dict() | list():
            return str(value)
    return value


def _is_person(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def _series(path: Path) -> list[Path]:
    """The file and its predecessors, oldest first."""
    numbered = []
    if path.parent.is_dir():
        for each in path.parent.iterdir():
            rotated = _ROTATED.fullmatch(each.name.removeprefix(path.name))
            if each.name.startswith(path.name) and rotated:
                numbered.append((int(rotated[1]), each))
    return [each for _, each in sorted(numbered, reverse=True)] + [path]


def _lines(path: Path, end: int | None) -> Iterator[bytes]:
    """Lines of a plain file; nothing where there is none."""
    file = opened(path)
    if file is None:
        return
    with file, gzip.open(file) if path.suffix == ".gz" else file as text:
        try:
            while (end is None or text.tell() < end) and (line := text.readline(_LINE)):
                yield line
        except (EOFError, zlib.error) as error:
            raise OSError(f"{path} is damaged: {error}") from error


def opened(path: Path) -> IO[bytes] | None:
    """A plain file, in a directory that a less trusted account may write; None where there is none.

    Raises:
        OSError: it cannot be read.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.fdopen(os.open(path, flags), "rb")
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        return None
    return file


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):
        return None  # a writer may have been killed in the middle of it
    return raw if isinstance(raw, dict) else None


def _number(value: Any) -> Any:
    text = str(value)
    return int(text) if text.lstrip("-").isdecimal() else value
