"""Results that SDKs have received, written to the store a little later, many at a time.

Losing the last few in a crash is harmless: those results are streamed once more.
"""

import asyncio
import logging
from typing import Final

from mep_cloud.errors import StoreError
from mep_cloud.logs import Seldom
from mep_cloud.store.tasks import Tasks

log = logging.getLogger(__name__)

DELAY_S: Final = 0.25


class Acknowledgements:
    """Collects pairs of task id and owner."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._unstored_told = Seldom()
        self._waiting: list[tuple[str, str]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writing: set[asyncio.Task[None]] = set()

    def add(self, task_ids: tuple[str, ...], owner: str) -> None:
        """`owner` has the results of these tasks; tasks of others are left alone."""
        self._waiting.extend((task_id, owner) for task_id in task_ids)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY_S, self._flush)

    async def close(self) -> None:
        """Write what is left."""
        if self._timer is not None:
            self._timer.cancel()
        self._flush()
        if self._writing:
            await asyncio.wait(self._writing)

    def _flush(self) -> None:
        self._timer = None
        received, self._waiting = self._waiting, []
        task = asyncio.get_running_loop().create_task(self._write(received))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write(self, received: list[tuple[str, str]]) -> None:
        try:
            await self._tasks.acknowledge(received)
        except StoreError as error:
            if self._unstored_told.due():
                log.warning("%d acknowledgements could not be stored: %s", len(received), error)
        except Exception:
            log.exception("%d acknowledgements could not be stored", len(received))
