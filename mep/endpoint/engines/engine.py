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
from typing import TYPE_CHECKING, Final

import msgspec

from mep.endpoint.engines import mpi_resources, resources
from mep.endpoint.engines.base import Callbacks, EngineError, EngineStatus
from mep.endpoint.engines.plan import Plan
from mep.endpoint.engines.resources import sort_out
from mep.endpoint.engines.start_block import readmit_block, start_block
from mep.endpoint.inheritance import Left, Verdict, judge
from mep.endpoint.interchange.blocks import Blocks
from mep.endpoint.interchange.events import (
    CancelAsked,
    Inherited,
    Submitted,
)
from mep.endpoint.interchange.inbox import Close, Command, Inbox, Safe
from mep.endpoint.interchange.request import Request
from mep.endpoint.providers.base import Provider
from mep.wire import codes
from mep.wire.tasks import Failure, Function, Result, Task

if TYPE_CHECKING:
    from mep.endpoint.interchange.loop import Interchange

log = logging.getLogger(__name__)

DIRECTORIES: Final = ("begun", "blocks", "workers")


class PoolEngine:
    """An :class:`mep.endpoint.engines.base.Engine` over node pools."""

    def __init__(self, plan: Plan, provider: Provider, callbacks: Callbacks) -> None:
        self._plan = plan
        self._provider = provider
        self._callbacks = callbacks
        self._blocks = Blocks(plan.bounds, plan.workers, next_block(Path(plan.directory, "blocks")))
        self._inbox = Inbox(self._refuse)
        self._thread = threading.Thread(target=self._run, name="interchange", daemon=True)
        self._interchange: Interchange | None = None
        self._earlier: list[str] | None = None
        self._inherited = Inherited({}, {})
        self._broken = "The engine has been closed."

    def start(self) -> None:
        """Start the first blocks, and the interchange beside them.

        Raises:
            EngineError: the directory is not private, or a node pool cannot be started.
        """
        self._prepare_directory()
        self._plan.transport.prepare()
        for block_id in self._earlier_blocks():
            self._adopt(block_id)
        try:
            for block_id in self._blocks.first():
                start_block(self._plan, self._provider, block_id)
        except OSError as error:
            raise EngineError(f"The node pool cannot be started: {error}") from error
        self._thread.start()

    def inherit(self, left: Left) -> Verdict:
        """Await what node pools of blocks that live still may have."""
        blocks = set(self._earlier_blocks())
        verdict = judge(left, self._plan.retries, lambda pool: pool.partition(".")[0] in blocks)
        losses = {**left.losses, **{one: left.losses.get(one, 0) + 1 for one in verdict.again}}
        self._inherited = Inherited(verdict.awaited, losses)
        return verdict

    def submit(self, functions: Sequence[Function], tasks: Sequence[Task]) -> None:
        """Take tasks over; those that ask for what this engine does not have end at once."""
        asked = sort_out(tasks, self._asked)
        for task, why in asked.refused:
            self._fail([task], codes.RESOURCES_REFUSED, why)
        self._inbox.put(Submitted(functions, asked.good, asked.requests))

    def _asked(self, specification: bytes) -> Request | None:
        plan = self._plan
        if plan.mpi is None:
            return resources.read(specification, plan.block_walltime_s)
        return mpi_resources.read(specification, plan.mpi.nodes, plan.block_walltime_s)

    def safe(self, task_ids: Sequence[str]) -> None:
        """Node pools that may outlive this process keep results until they are told."""
        if self._plan.outlives:
            self._inbox.put(Safe(task_ids))

    def cancel(self, task_ids: Sequence[str]) -> None:
        """End these tasks."""
        self._inbox.put(CancelAsked(task_ids))

    def status(self) -> EngineStatus:
        """A snapshot, as of the last thing that happened."""
        return EngineStatus(0, 0, 0) if self._interchange is None else self._interchange.status()

    def close(self, grace_s: float) -> None:
        """End everything; what no worker has had by then is not reported, see ``base``."""
        self._inbox.put(Close(grace_s))
        if self._thread.ident is not None:
            self._thread.join()

    def _earlier_blocks(self) -> list[str]:
        if self._earlier is None:
            self._earlier = self._provider.adopt()
        return self._earlier

    def _adopt(self, block_id: str) -> None:
        """Serve the node pools of a block of an earlier process, if it is known who they are."""
        try:
            readmit_block(self._plan, block_id)
        except (OSError, ValueError, KeyError, msgspec.MsgspecError) as error:
            log.warning("block %s cannot be taken over: %s", block_id, error)
            self._provider.kill(block_id)
        self._blocks.adopt(block_id)

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
        try:
            from mep.endpoint.interchange.loop import Interchange

            self._interchange = Interchange(
                self._plan,
                self._provider,
                self._blocks,
                self._callbacks,
                self._inbox,
                self._inherited,
            )
            self._interchange.run()
        except Exception as error:
            log.exception("the interchange failed")
            self._broken = f"The engine failed: {type(error).__name__}: {error}"
            if self._interchange is not None:
                self._interchange.fail_all(self._broken)
        finally:
            if self._interchange is not None:
                self._interchange.close()
        for command in self._inbox.shut():
            self._refuse(command)
        self._plan.transport.close()
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


def next_block(directory: Path) -> int:
    """A number that no block of an earlier process has had."""
    try:
        names = [entry.name for entry in directory.iterdir()]
    except FileNotFoundError:
        return 0
    return 1 + max((int(name) for name in names if name.isdecimal()), default=-1)
