"""The ledger and result spool on disk: what survives the death of this process.

One append-only file, ``journal``, in the user endpoint's directory, no fsync (it survives the
process, not the machine), and one lock so that no two processes serve one user endpoint.

A record is ``>II`` (length, CRC-32) and a msgpack body: :class:`Started`, :class:`Returned`,
:class:`Lost`, :class:`Ended` or :class:`Committed`. A task is recorded as started before it leaves
for a worker, with its node pool where that may outlive this process; its result before it leaves
for the relay. Reading stops at the first record that is cut or damaged: only the last write can
be. What has been committed is dropped by rewriting the file when that is worth it.
"""

import fcntl
import logging
import os
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Final

import msgspec

from mep.endpoint.errors import StartFailed
from mep.endpoint.inheritance import LOST, Left, Verdict
from mep.wire.codec import Message
from mep.wire.tasks import Result

log = logging.getLogger(__name__)

COMPACT_BYTES: Final = 16 * 1024 * 1024
_HEAD: Final = struct.Struct(">II")


class Started(Message, frozen=True, tag="s"):
    """These tasks may have begun on a worker."""

    task_ids: tuple[str, ...]
    pool_ids: tuple[str, ...] = ()
    """The node pool of each; empty where node pools end with this process."""


class Returned(Message, frozen=True, tag="r"):
    """These tasks had left for a worker and came back without having begun."""

    task_ids: tuple[str, ...]


class Lost(Message, frozen=True, tag="l"):
    """These tasks have lost their worker, node pool or user endpoint, each once more."""

    task_ids: tuple[str, ...]


class Ended(Message, frozen=True, tag="e"):
    """How these tasks ended."""

    results: tuple[Result, ...]


class Committed(Message, frozen=True, tag="c"):
    """The relay has these results; they may be forgotten."""

    task_ids: tuple[str, ...]


Record = Started | Returned | Lost | Ended | Committed
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


class JournalError(OSError):
    """The journal cannot be written; the message is a sentence for the user."""


class Journal:
    """Open for one process; thread-safe.

    Args:
        directory: the user endpoint's own, which exists.
        compact_bytes: from this size on, the file is rewritten once half of it is committed.

    Raises:
        StartFailed: another process holds it, or it cannot be opened.
    """

    def __init__(self, directory: Path, compact_bytes: int = COMPACT_BYTES) -> None:
        self._path = directory / "journal"
        self._compact_bytes = compact_bytes
        self._mutex = threading.Lock()
        self._lock = _locked(directory / "lock")
        self._started: dict[str, str] = {}
        self._losses: Counter[str] = Counter()
        self._results: dict[str, Result] = {}
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._end = self._read()
        except OSError as error:
            raise StartFailed(f"the journal {self._path} cannot be opened: {error}") from error
        self._dead_bytes = 0

    def starting(self, task_ids: Sequence[str], pool_ids: Sequence[str] = ()) -> None:
        """Record that these may begin from now on, and at which node pools.

        Raises:
            JournalError: the disk does not take it; they must not begin.
        """
        with self._mutex:
            record = Started(tuple(task_ids), tuple(pool_ids))
            self._append(record)
            self._replay(record)

    def returned(self, task_ids: Sequence[str]) -> None:
        """Undo :meth:`starting` of tasks that no worker began, before they are offered again.

        Raises:
            JournalError: the disk does not take it; another process would call them lost.
        """
        with self._mutex:
            back = tuple(task_id for task_id in task_ids if task_id in self._started)
            if back:
                self._append(Returned(back))
                self._replay(Returned(back))

    def lost(self, task_ids: Sequence[str]) -> None:
        """Count a loss of each of these, which may run again.

        Raises:
            JournalError: the disk does not take it; another process would not know of it.
        """
        with self._mutex:
            record = Lost(tuple(task_ids))
            self._replay(record)
            self._append(record)

    def has_started(self, task_id: str) -> bool:
        """Whether the task may have begun, and has no result yet."""
        return task_id in self._started

    def ended(self, results: Sequence[Result]) -> None:
        """Spool results.

        Raises:
            JournalError: the disk does not take them; they live in memory alone.
        """
        with self._mutex:
            record = Ended(tuple(results))
            self._replay(record)
            self._append(record)

    def committed(self, task_ids: Sequence[str]) -> None:
        """Forget results that the relay has.

        Raises:
            JournalError: the disk does not take it; they will be sent once more, no harm done.
        """
        with self._mutex:
            known = [self._results.pop(task_id, None) for task_id in task_ids]
            self._dead_bytes += sum(len(result.payload) + 200 for result in known if result)
            if not self._started and not self._results and not self._losses:
                self._rewrite()
                return
            self._append(Committed(tuple(task_ids)))
            if self._end > self._compact_bytes and self._dead_bytes * 2 > self._end:
                self._rewrite()

    def left(self) -> Left:
        """What an earlier process left."""
        return Left(tuple(self._results.values()), dict(self._started), dict(self._losses))

    def settle(self, verdict: Verdict) -> tuple[Result, ...]:
        """Record what becomes of the tasks that had started.

        Returns:
            every result that the relay may not have; those of lost tasks are made here.
        """
        lost = [Result(task_id, "failed", b"", LOST) for task_id in verdict.lost]
        try:
            if verdict.again:
                self.lost(verdict.again)
                self.returned(verdict.again)
            if lost:
                self.ended(lost)
        except JournalError as error:
            log.warning("%s; lost tasks are reported from memory", error.strerror)
        return tuple(self._results.values())

    def close(self) -> None:
        """Release file and lock."""
        with self._mutex:
            os.close(self._file)
            os.close(self._lock)

    def _append(self, record: Record) -> None:
        data = _frame(record)
        try:
            _write_all(self._file, data, self._end)
        except OSError as error:
            self._cut(self._end)
            raise JournalError(
                error.errno, f"the journal {self._path} cannot be written: {error.strerror}"
            ) from error
        self._end += len(data)

    def _cut(self, end: int) -> None:
        """Take a half-written record away; one that stays is skipped by the next reader."""
        try:
            os.ftruncate(self._file, end)
        except OSError as error:
            log.warning("the journal cannot be cut: %s", error)

    def _rewrite(self) -> None:
        """A file of what is still needed, in place of the old one."""
        records: list[Record] = []
        if self._started:
            records.append(Started(tuple(self._started), tuple(self._started.values())))
        if self._losses:
            records.append(Lost(tuple(self._losses.elements())))
        records += [Ended((result,)) for result in self._results.values()]
        if not records:
            os.ftruncate(self._file, 0)
            self._end = self._dead_bytes = 0
            return
        fresh = self._path.with_name("journal.new")
        file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            end = 0
            for record in records:
                data = _frame(record)
                _write_all(file, data, end)
                end += len(data)
            fresh.replace(self._path)
        except OSError as error:
            os.close(file)
            log.warning("the journal cannot be rewritten: %s; it keeps growing", error)
            return
        os.close(self._file)
        self._file, self._end, self._dead_bytes = file, end, 0

    def _read(self) -> int:
        """Replay the file; the offset behind its last whole record."""
        with os.fdopen(os.dup(self._file), "rb") as file:
            data = file.read()
        end = 0
        for record, after in _records(data):
            self._replay(record)
            end = after
        if end < len(data):
            log.warning("the journal's last %d bytes are no record", len(data) - end)
            os.ftruncate(self._file, end)
        return end

    def _replay(self, record: Record) -> None:
        match record:
            case Started(task_ids, pool_ids):
                self._started.update(zip_longest(task_ids, pool_ids, fillvalue=""))
            case Returned(task_ids):
                for task_id in task_ids:
                    self._started.pop(task_id, None)
            case Lost(task_ids):
                self._losses.update(task_ids)
            case Ended(results):
                for result in results:
                    self._started.pop(result.task_id, None)
                    self._losses.pop(result.task_id, None)
                    self._results[result.task_id] = result
            case Committed(task_ids):
                for task_id in task_ids:
                    self._results.pop(task_id, None)


def _locked(path: Path) -> int:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartFailed(f"{path} cannot be opened: {error}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise StartFailed(f"another process already serves this user endpoint ({path})") from error
    return file


def _frame(record: Record) -> bytearray:
    frame = bytearray(_HEAD.size)
    _encoder.encode_into(record, frame, _HEAD.size)
    body = memoryview(frame)[_HEAD.size :]
    _HEAD.pack_into(frame, 0, len(body), zlib.crc32(body))
    return frame


def _write_all(file: int, data: bytearray, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view = view[written:]
        offset += written


def _records(data: bytes) -> Iterator[tuple[Record, int]]:
    """Whole records and the offset behind each, up to the first that is none."""
    at = 0
    while at + _HEAD.size <= len(data):
        length, checksum = _HEAD.unpack_from(data, at)
        after = at + _HEAD.size + length
        body = data[at + _HEAD.size : after]
        if len(body) < length or zlib.crc32(body) != checksum:
            return
        try:
            yield _decoder.decode(body), after
        except msgspec.DecodeError:
            return
        at = after
