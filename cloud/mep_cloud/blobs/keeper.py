"""Takes uploads in bounded memory, refuses what is too much, and removes what nobody needs."""

import asyncio
import contextlib
import hmac
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mep.wire import codes
from mep.wire.tasks import Blob
from mep_cloud.blobs.directory import FULL, Directory, NewFile
from mep_cloud.errors import QuotaExceeded, Refusal
from mep_cloud.ids import new_ids
from mep_cloud.logs import Seldom
from mep_cloud.settings import Blobs as Settings
from mep_cloud.store.blobs import Blobs, Kind

log = logging.getLogger(__name__)

CHUNK: Final = 1 << 20
"""Bytes of one upload that are in memory before they are written."""
IDLE_S: Final = 60.0
"""Seconds without a byte, after which an upload is given up."""

RETRY_S: Final = 5.0
"""When to come back to a relay whose files cannot be used."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What an upload is going to be."""

    owner: str
    kind: Kind
    size: int
    sha256: bytes
    task_id: str | None = None
    """Of a result."""


class Keeper:
    """The blobs of one relay process."""

    def __init__(
        self,
        blobs: Blobs,
        directory: Directory,
        bounds: Settings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._blobs = blobs
        self._directory = directory
        self._bounds = bounds
        self._clock = clock
        self._uploads: Counter[str] = Counter()
        self._expected = 0
        """Bytes of the uploads under way, as announced: those written already count twice."""
        self._unusable_told = Seldom(clock)

    async def receive(self, announced: Announced, body: AsyncIterator[bytes]) -> Blob:
        """Take an upload; it is on disk then, and kept for a while.

        Raises:
            Refusal: too much, or not what was announced; nothing of it is kept. 503: the directory
                cannot be used.
        """
        with self._admitted(announced):
            blob = Blob(new_ids(1)[0], announced.size, announced.sha256.hex())
            await self._begin(blob, announced)
            try:
                await self._write(blob, announced, body)
                await self._complete(blob, announced)
            except BaseException:
                # Also when the client has gone; the sweep comes back to what is not removed now.
                await asyncio.shield(self._give_up(blob.id))
                raise
            return blob

    async def path(self, blob: Blob) -> Path:
        """The file of a blob.

        Raises:
            Refusal: 404, it is gone; 503, the directory cannot be used.
        """
        path = self._directory.file(blob.id)
        try:
            there = await asyncio.to_thread(self._directory.holds, blob.id)
        except OSError as error:
            raise self._unusable(error) from error
        if not there:
            log.error("the file %s is missing", path)
            message = "These bytes are no longer at the relay; ask its administrator."
            raise Refusal(404, codes.BLOB_NOT_FOUND, message)
        return path

    async def sweep(self) -> None:
        """Remove what may be removed by now; nothing while the directory cannot be used."""
        while freed := await self._blobs.claim_free(self._clock()):
            try:
                await self._discard(freed)
            except OSError as error:
                log.warning("files that nobody needs cannot be removed yet: %s", error)
                return

    @contextlib.contextmanager
    def _admitted(self, announced: Announced) -> Iterator[None]:
        if self._uploads[announced.owner] >= self._bounds.uploads_per_user:
            message = f"At most {self._bounds.uploads_per_user} uploads of one user at a time."
            raise Refusal(429, codes.TOO_MANY_REQUESTS, message, retry_after_s=1)
        try:
            left = self._directory.free_bytes() - self._expected - announced.size
        except OSError as error:
            raise self._unusable(error) from error
        if left < self._bounds.keep_free:
            raise _full()
        self._uploads[announced.owner] += 1
        self._expected += announced.size
        try:
            yield
        finally:
            self._expected -= announced.size
            self._uploads[announced.owner] -= 1
            self._uploads += Counter()  # drops those who have none

    async def _begin(self, blob: Blob, announced: Announced) -> None:
        now = self._clock()
        try:
            await self._blobs.begin(
                blob.id,
                announced.owner,
                announced.kind,
                blob.size,
                announced.task_id,
                now,
                now + self._bounds.orphan_s,
                self._bounds.per_user,
            )
        except QuotaExceeded as error:
            message = (
                f"{error.used} bytes of large arguments and results of yours are at the relay, "
                f"which keeps {self._bounds.per_user} for one user; {blob.size} more do not fit. "
                "Try again when tasks have ended, and results are older than the retention; or "
                "pass the data through a file at the site."
            )
            raise Refusal(403, codes.BLOB_QUOTA_EXCEEDED, message) from None

    async def _write(self, blob: Blob, announced: Announced, body: AsyncIterator[bytes]) -> None:
        try:
            file = await asyncio.to_thread(NewFile, self._directory, blob.id)
            try:
                async for chunks in _gathered(body, announced.size):
                    await asyncio.to_thread(file.write, chunks)
                if file.size != announced.size:
                    message = f"{file.size} bytes came of {announced.size}. Send it again."
                    raise Refusal(400, codes.BLOB_DAMAGED, message)
                digest = await asyncio.to_thread(file.finish)
            finally:
                file.close()
        except OSError as error:
            if error.errno not in FULL:
                raise self._unusable(error) from error
            log.warning("no room for a blob of %d bytes: %s", blob.size, error)
            raise _full() from error
        if not hmac.compare_digest(digest, announced.sha256):
            message = "What came has another SHA-256 than Content-Digest says. Send it again."
            raise Refusal(400, codes.BLOB_DAMAGED, message)

    async def _complete(self, blob: Blob, announced: Announced) -> None:
        free = self._clock() + self._bounds.orphan_s
        if not await self._blobs.complete(blob, announced.task_id, free):
            message = "It took longer than the relay waits for an upload (orphan_s). Send it again."
            raise Refusal(408, codes.INVALID_REQUEST, message)

    async def _give_up(self, blob_id: str) -> None:
        try:
            await self._discard([blob_id])
        except OSError as error:
            log.warning("what came of an upload is not removed yet: %s", error)

    async def _discard(self, blob_ids: list[str]) -> None:
        for blob_id in blob_ids:
            await asyncio.to_thread(self._directory.remove, blob_id)
        await self._blobs.forget(blob_ids)

    def _unusable(self, error: OSError) -> Refusal:
        if self._unusable_told.due():
            log.error("the blob directory cannot be used: %s", error)
        message = (
            "The relay's files cannot be used at the moment. Try again in a while; if that lasts, "
            "its administrator finds the reason in the log."
        )
        return Refusal(503, codes.INTERNAL_ERROR, message, retry_after_s=RETRY_S)


def _full() -> Refusal:
    message = (
        "The relay has no room for large arguments and results at the moment; its administrator "
        "knows, or should. Pass the data through a file at the site."
    )
    return Refusal(507, codes.BLOBS_FULL, message)


async def _gathered(body: AsyncIterator[bytes], size: int) -> AsyncIterator[list[bytes]]:
    """The body in portions of about :data:`CHUNK` bytes.

    Raises:
        Refusal: nothing came for a while, or more than `size` bytes.
    """
    chunks: list[bytes] = []
    held = total = 0
    while True:
        try:
            async with asyncio.timeout(IDLE_S):
                chunk = await anext(body, None)
        except TimeoutError:
            message = f"Nothing came for {IDLE_S:g} s. Send it again."
            raise Refusal(408, codes.INVALID_REQUEST, message) from None
        if chunk is not None:
            chunks.append(chunk)
            held += len(chunk)
            total += len(chunk)
        if total > size:
            raise Refusal(400, codes.BLOB_DAMAGED, "More bytes came than Content-Length says.")
        if chunks and (held >= CHUNK or chunk is None):
            yield chunks
            chunks, held = [], 0
        if chunk is None:
            return
