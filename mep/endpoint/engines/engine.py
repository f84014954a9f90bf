"""The engines: an interchange thread, and node pools that a provider starts.

``ThreadPoolEngine`` and ``ProcessPoolEngine`` are the same with one node pool on this machine,
which never goes idle, and with threads or processes as its workers.
"""

import logging
import stat
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mep.endpoint.engines.base import Callbacks, EngineError, EngineStatus
from mep.endpoint.engines.plan import Plan
from mep.endpoint.interchange.blocks import Blocks
from mep.endpoint.interchange.events import (
    CancelAsked,
    Submitted,
)
from mep.endpoint.interchange.inbox import Close, Command, Inbox
from mep.endpoint.providers.base import Provider
from mep.wire import codes
from mep.wire.tasks import Failure, Function, Result, Task

log = logging.getLogger(__name__)

NO_RESOURCES: Final = (
    "The endpoint's engine gives each task one worker and takes no resource_specification; "
    "leave it out, or use an endpoint with an engine for MPI."
)
DIRECTORIES: Final = ("begun", "blocks", "workers")


class PoolEngine:
    """An :class:`mep.endpoint.engines.base.Engine` over node pools."""

    def __init__(self, plan: Plan, provider: Provider, callbacks: Callbacks) -> None:
        self._plan = plan
        self._provider = provider
        self._callbacks = callbacks
        self._blocks = Blocks(plan.bounds, plan.workers)
        self._inbox = Inbox(self._refuse)
        self._thread = threading.Thread(target=self._run, name="interchange", daemon=True)
        self._first: list[str] = []
        self._broken = "The engine has been closed."

    def start(self) -> None:
        """Start the first blocks, and the interchange beside them.

        Raises:
            EngineError: the directory is not private, or a node pool cannot be started.
        """
        self._prepare_directory()
        try:
            for block_id in self._blocks.first():
                self._provider.start(block_id, self._plan.command(block_id), self._plan.environment)
        except OSError as error:
            raise EngineError(f"The node pool cannot be started: {error}") from error
        self._thread.start()

    def submit(self, functions: Sequence[Function], tasks: Sequence[Task]) -> None:
        """Take tasks over; those that ask for what this engine does not have end at once."""
        refused = [task for task in tasks if asks_for_resources(task)]
        if refused:
            names = {task.task_id for task in refused}
            tasks = [task for task in tasks if task.task_id not in names]
            self._fail(refused, codes.RESOURCES_REFUSED, NO_RESOURCES)
        self._inbox.put(Submitted(functions, tasks))

    def cancel(self, task_ids: Sequence[str]) -> None:
        """End these tasks."""
        self._inbox.put(CancelAsked(task_ids))

    def status(self) -> EngineStatus:
        """A snapshot, as of the last thing that happened."""
        return self._inbox.status

    def close(self, grace_s: float) -> None:
        """End everything; what no worker has had by then is not reported, see ``base``."""
        self._inbox.put(Close(grace_s))
        if self._thread.ident is not None:
            self._thread.join()

    def _prepare_directory(self) -> None:
        directory = Path(self._plan.directory)
        try:
            mode = directory.stat().st_mode
            for name in DIRECTORIES:
                (directory / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise EngineError(f"The endpoint's directory cannot be used: {error}") from error
        if stat.S_IMODE(mode) & 0o077:
            raise EngineError(
                f"{directory} is open to other users; its mode must be 0700 (chmod 700 {directory})"
            )

    def _run(self) -> None:
        """The interchange's thread. Whatever goes wrong in it, no task stays without an end."""
        interchange = None
        try:
            from mep.endpoint.interchange.loop import Interchange

            interchange = Interchange(
                self._plan, self._provider, self._blocks, self._callbacks, self._inbox
            )
            interchange.run()
        except Exception as error:
            log.exception("the interchange failed")
            self._broken = f"The engine failed: {type(error).__name__}: {error}"
            if interchange is not None:
                interchange.fail_all(self._broken)
        finally:
            if interchange is not None:
                interchange.close()
        for command in self._inbox.shut():
            self._refuse(command)
        self._provider.close()

    def _refuse(self, command: Command) -> None:
        if not isinstance(command, Submitted):
            return
        self._fail(command.tasks, codes.ENGINE_FAILED, self._broken)

    def _fail(self, tasks: Sequence[Task], code: str, message: str) -> None:
        now = time.time()
        failure = Failure(code, message)
        self._callbacks.ended(
            [Result(task.task_id, "failed", b"", failure, 0.0, now) for task in tasks]
        )


def asks_for_resources(task: Task) -> bool:
    """Whether its resource specification says anything."""
    return task.resource_specification.strip() not in (b"", b"{}", b"null")
