"""Large arguments and results, by HTTP beside the link; in threads that end with the process.

A large result lies in the file ``outgoing/TASK`` from its end until the relay has committed it, so
that neither journal nor messages carry it. Methods are called in the event loop, which hears of
what the threads have done by `arrived` and `settled`.
"""

import asyncio
import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from mep.background import Threads
from mep.endpoint.private_file import NEW, RESULTS
from mep.link import Peer
from mep.wire import codes
from mep.wire.rest import arguments_path, result_path
from mep.wire.tasks import Blob, Failure, Result, Task

if TYPE_CHECKING:
    from mep.transfer import Transfer

AT_ONCE: Final = 2
"""Transfers in each direction."""

T = TypeVar("T")


class Carrier:
    """Moves what is too large for a message.

    Args:
        peer: the relay.
        token: the user endpoint's.
        directory: its own, which exists.
        held: tasks whose large results an earlier process has left.
        arrived: called with a task and its arguments; or with a failure, when there will be none.
        settled: called with a result that can be sent now; also one that became a failure.
    """

    def __init__(
        self,
        peer: Peer,
        token: str,
        directory: Path,
        held: Iterable[str],
        arrived: Callable[[Task | Result], None],
        settled: Callable[[Result], None],
    ) -> None:
        self._peer = peer
        self._token = token
        self._directory = directory / "outgoing"
        self._arrived = arrived
        self._settled = settled
        self._fetching: set[str] = set()
        self._sending: set[str] = set()
        self._uploaded: dict[str, Blob] = {}
        self._down = Threads("mep-download", AT_ONCE)
        self._up = Threads("mep-upload", AT_ONCE)
        self._lock = threading.Lock()
        self._transfer: Transfer | None = None
        self._forget_others(set(held))

    def spool(self, result: Result) -> Result:
        """A large result as the journal keeps it; unchanged where the disk does not take it."""
        digest = hashlib.sha256(result.payload).hexdigest()
        path = self._directory / result.task_id
        try:
            self._directory.mkdir(0o700, exist_ok=True)
            path.unlink(missing_ok=True)
            with open(os.open(path, NEW, 0o600), "wb") as file:
                file.write(result.payload)
        except OSError:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            return result
        return msgspec.structs.replace(
            result, payload=b"", blob=Blob("", len(result.payload), digest)
        )

    def fetch(self, task: Task) -> None:
        """Get a task's arguments."""
        self._fetching.add(task.task_id)
        loop = asyncio.get_running_loop()
        self._down.do(lambda: _in(loop, self._fetched, self._fetch(task)))

    def drop(self, task_ids: Iterable[str]) -> list[str]:
        """These are no longer wanted; those whose arguments were on their way."""
        dropped = [task_id for task_id in task_ids if task_id in self._fetching]
        self._fetching.difference_update(dropped)
        return dropped

    def ready(self, results: Iterable[Result], inline: int) -> list[Result]:
        """Those that can be sent now; of the others, `settled` tells when they can."""
        now = []
        for result in results:
            blob = self._uploaded.get(result.task_id)
            if blob is not None:
                now.append(msgspec.structs.replace(result, payload=b"", blob=blob))
            elif result.blob is None and len(result.payload) <= inline:
                now.append(result)
            elif result.task_id not in self._sending:
                self._send(result)
        return now

    def missing(self, task_ids: Iterable[str]) -> None:
        """The relay has the results of these tasks no longer."""
        for task_id in task_ids:
            self._uploaded.pop(task_id, None)

    def committed(self, task_ids: Iterable[str]) -> None:
        """The relay keeps these results from now on."""
        for task_id in task_ids:
            if self._uploaded.pop(task_id, None) is not None:
                (self._directory / task_id).unlink(missing_ok=True)

    def close(self) -> None:
        """Begin nothing more, and try nothing again."""
        self._fetching.clear()
        if self._transfer is not None:
            self._transfer.close()
        self._down.end()
        self._up.end()

    def _fetch(self, task: Task) -> Task | Result | None:
        from mep.transfer import TransferError, TransferStopped

        assert task.blob is not None
        try:
            data = self._transfers().download(arguments_path(task.task_id), task.blob)
        except TransferStopped:
            return None
        except (TransferError, MemoryError, OSError) as error:
            code = getattr(error, "code", "") or codes.ENGINE_FAILED
            message = f"the task's large arguments could not be fetched from the relay: {error}"
            return Result(task.task_id, "failed", b"", Failure(code, message))
        return msgspec.structs.replace(task, payload=bytes(data), blob=None)

    def _fetched(self, came: Task | Result | None) -> None:
        if came is not None and came.task_id in self._fetching:
            self._fetching.discard(came.task_id)
            self._arrived(came)

    def _send(self, result: Result) -> None:
        self._sending.add(result.task_id)
        loop = asyncio.get_running_loop()
        self._up.do(lambda: _in(loop, self._sent, self._upload(result)))

    def _upload(self, result: Result) -> Result | None:
        from mep.transfer import TransferError, TransferStopped, blob_of

        task_id = result.task_id
        blob, source = result.blob, self._directory / task_id
        try:
            if blob is None:
                path, blob = result_path(task_id), blob_of(result.payload)
                made = self._transfers().upload(path, result.payload, blob)
            else:
                made = self._transfers().upload(result_path(task_id), source, blob)
        except TransferStopped:
            return None
        except (TransferError, OSError) as error:
            code = getattr(error, "code", "") or codes.RESULT_TOO_LARGE
            reason = str(error).removesuffix(".")
            message = f"the relay does not have the result of {blob and blob.size} bytes: {reason}"
            message += self._keep(task_id)
            failure = Failure(code, message)
            return Result(task_id, "failed", b"", failure, result.began, result.ended)
        named = Blob(made.blob_id, blob.size, blob.sha256)
        return msgspec.structs.replace(result, payload=b"", blob=named)

    def _keep(self, task_id: str) -> str:
        """Where the user finds a result that the relay will not have, for the message."""
        kept = self._directory.parent / RESULTS / task_id
        try:
            kept.parent.mkdir(0o700, exist_ok=True)
            (self._directory / task_id).rename(kept)
        except OSError:
            return ""
        return f"; its serialized form is kept at the site in {kept}"

    def _sent(self, result: Result | None) -> None:
        if result is None:
            return
        self._sending.discard(result.task_id)
        if result.blob is not None:
            self._uploaded[result.task_id] = result.blob
        self._settled(result)

    def _transfers(self) -> "Transfer":
        from mep.transfer import Transfer

        with self._lock:
            if self._transfer is None:
                self._transfer = Transfer(self._peer, lambda: self._token)
            return self._transfer

    def _forget_others(self, held: set[str]) -> None:
        """Files of results that are in no journal: the process died between the two."""
        with contextlib.suppress(OSError):
            for path in self._directory.iterdir():
                if path.name not in held:
                    path.unlink(missing_ok=True)


def _in(loop: asyncio.AbstractEventLoop, then: Callable[[T], None], outcome: T) -> None:
    # After the loop's end nobody listens; the next process begins anew.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(then, outcome)
