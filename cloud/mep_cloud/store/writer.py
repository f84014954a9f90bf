"""One thread writes, and commits many callers' operations at once (group commit).

While one transaction is on its way to the disk, operations queue up; the next transaction takes
them all. So a lone caller waits for one commit and no window, and a busy relay pays one fsync for
hundreds of rows.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from mep_cloud.errors import StoreError, StoreFails
from mep_cloud.store.failures import Failures, reason

T = TypeVar("T")

MAX_OPERATIONS: Final = 256
"""Operations in one transaction."""
ATTEMPTS: Final = 5
"""Of an operation that PostgreSQL gives up since it and another process's wait for each other, as
when both make the same rows in another order. The other one goes on.
"""
_DEADLOCK: Final = "40P01"


@dataclass(slots=True)
class _Job:
    operation: Callable[[Connection], Any]
    future: asyncio.Future[Any]
    value: Any = None
    error: Exception | None = None


class Writer:
    """Runs operations in order, each exactly once or not at all.

    An operation is a function of the connection. It may be run again when a neighbour in the same
    transaction failed, or in a deadlock, so it must have no effect but on the database.

    Args:
        connection: the writer's own from now on; closed with it.
        failures: tells failures of the database from those of an operation.
        lost: called on the event loop when the database is gone. What was on its way may have been
            committed or not, so nothing is tried again; whoever starts next reads what is there.
    """

    def __init__(
        self, connection: Connection, failures: Failures, lost: Callable[[str], None]
    ) -> None:
        self._connection = connection
        self._failures = failures
        self._lost = lost
        self._broken: str | None = None
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, operation: Callable[[Connection], T]) -> asyncio.Future[T]:
        """A future that is done once `operation` is on disk.

        Futures are resolved in the order of submission.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        with self._wake:
            if self._closing:
                raise StoreError("the relay is shutting down")
            if self._broken is not None:
                raise StoreError(self._broken)
            self._jobs.append(_Job(operation, future))
            self._wake.notify()
        return future

    async def close(self) -> None:
        """Finish what was submitted, then end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        with self._connection as connection:
            while jobs := self._next_batch():
                self._execute(connection, jobs)
                self._loop.call_soon_threadsafe(_resolve, jobs)
                del jobs  # megabytes, perhaps, and the next may be long in coming

    def _next_batch(self) -> list[_Job]:
        with self._wake:
            while not self._jobs and not self._closing:
                self._wake.wait()
            count = min(len(self._jobs), MAX_OPERATIONS)
            return [self._jobs.popleft() for _ in range(count)]

    def _execute(self, connection: Connection, jobs: list[_Job], attempts: int = ATTEMPTS) -> None:
        if self._broken is not None:
            _fail(jobs, StoreFails(self._broken))
            return
        try:
            with connection.begin():
                for job in jobs:
                    job.value = job.operation(connection)
        except Exception as error:  # noqa: BLE001 - handed to the caller through its future
            if isinstance(error, DBAPIError) and error.connection_invalidated:
                self._break(error)
            elif len(jobs) == 1 and not (attempts > 1 and _is_deadlock(error)):
                jobs[0].error = self._failures.failure(error) or error
                return
            for job in jobs:
                self._execute(connection, [job], attempts - 1)

    def _break(self, error: DBAPIError) -> None:
        with self._wake:
            self._broken = f"the connection to the database was lost: {reason(error)}"
        self._loop.call_soon_threadsafe(self._lost, self._broken)


def _is_deadlock(error: Exception) -> bool:
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == _DEADLOCK


def _fail(jobs: list[_Job], error: Exception) -> None:
    for job in jobs:
        job.error = error


def _resolve(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.future.cancelled():
            continue
        if job.error is None:
            job.future.set_result(job.value)
        else:
            job.future.set_exception(job.error)
