"""The interchange's thread: the socket, the provider and the clock around the pure parts.

Each turn waits for something to happen, takes in all of it, and lets out what follows from it: one
message a pool and a kind. Nothing is polled for.
"""

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import zmq

from mep.endpoint.engines.base import Callbacks, EngineError, EngineStatus
from mep.endpoint.engines.plan import Plan
from mep.endpoint.interchange import talk
from mep.endpoint.interchange.blocks import Blocks
from mep.endpoint.interchange.events import (
    CancelAt,
    Event,
    Finished,
    Instruction,
    Place,
    PoolHeld,
    PoolLost,
    PoolUp,
    Recall,
    Report,
    Returned,
    Started,
    Submitted,
    Tell,
    Unplaced,
)
from mep.endpoint.interchange.inbox import Close, Command, Inbox
from mep.endpoint.interchange.ledger import Ledger
from mep.endpoint.interchange.router import Router
from mep.endpoint.interchange.scheduler import Scheduler
from mep.endpoint.interchange.timers import Timers
from mep.endpoint.providers.base import Ended, Provider
from mep.wire import codes, frames, limits
from mep.wire.codec import WireError

log = logging.getLogger(__name__)

_LATE_S: Final = 0.05
"""From the end of a block to the loss of its tasks: what it sent last may still be on its way."""
_END_S: Final = 2.0
"""From asking a block to end to ending it."""


@dataclass(slots=True)
class _Pool:
    block_id: str
    node: str
    heard: float
    """When it last said something."""
    reason: str = ""
    """Why it ends, as far as we know it better than its exit status does."""
    gone: bool = False
    """It has said its last word."""


class Interchange:
    """Runs tasks on node pools.

    Made and run in a thread of its own; only the inbox is shared. The first blocks have been
    started before it exists.
    """

    def __init__(
        self, plan: Plan, provider: Provider, blocks: Blocks, callbacks: Callbacks, inbox: Inbox
    ) -> None:
        self._plan = plan
        self._provider = provider
        self._blocks = blocks
        self._callbacks = callbacks
        self._inbox = inbox
        self._scheduler = Scheduler(plan.prefetch)
        self._ledger = Ledger(self._scheduler, plan.retries)
        self._timers = Timers()
        self._pools: dict[str, _Pool] = {}
        self._late: dict[str, Ended] = {}
        self._polled: set[int] = set()
        self._ready: set[int] = set()
        self._poller = zmq.Poller()
        self._closing = False
        self._router = Router(plan.directory)
        self._poller.register(self._router.socket, zmq.POLLIN)

    def run(self) -> None:
        """The loop, until it has been told to close and no block is left."""
        self._timers.set("beat", time.monotonic() + self._plan.heartbeat_period)
        while not (self._closing and not self._blocks.all):
            self._wait()
            self._take_commands()
            self._drain_socket()
            self._bury_blocks()
            self._watch_time(time.monotonic())
            self._place()
            self._scale()
            self._note_status()

    def close(self) -> None:
        """Give the socket back, whatever way :meth:`run` ended."""
        self._router.close()

    def fail_all(self, message: str) -> None:
        """The loop cannot go on: end every task and every block."""
        for block_id in self._blocks.all:
            self._provider.kill(block_id)
        now = time.time()
        self._ledger.closing = True
        for pool_id in list(self._ledger.pools()):
            self._carry_out(self._ledger.handle(PoolLost(pool_id, "was ended", None), now))
        self._carry_out(self._ledger.fail_waiting(codes.ENGINE_FAILED, message, now))

    def _wait(self) -> None:
        wanted = {*self._provider.descriptors(), self._inbox.fileno()}
        if wanted != self._polled:
            self._poll_also(wanted)
        due = self._timers.next()
        wait_ms = None if due is None else int(max(0.0, due - time.monotonic()) * 1000) + 1
        self._ready = {descriptor for descriptor, _ in self._poller.poll(wait_ms)}

    def _poll_also(self, wanted: set[int]) -> None:
        for descriptor in self._polled - wanted:
            self._poller.unregister(descriptor)
        for descriptor in wanted - self._polled:
            self._poller.register(descriptor, zmq.POLLIN)
        self._polled = wanted

    def _take_commands(self) -> None:
        if self._inbox.fileno() in self._ready:
            for command in self._inbox.take():
                self._obey(command)

    def _drain_socket(self) -> None:
        for peer, message in self._router.messages():
            try:
                self._hear(peer, message)
            except WireError as error:
                log.warning("a peer of the interchange sent something else: %s", error)

    def _bury_blocks(self) -> None:
        if self._ready.isdisjoint(self._provider.descriptors()):
            return
        for ended in self._provider.ended():
            members = self._members(ended.block_id)
            if all(self._pools[pool_id].gone for pool_id in members):
                self._bury(ended)
                continue
            self._late[ended.block_id] = ended
            self._timers.set(f"late:{ended.block_id}", time.monotonic() + _LATE_S)
            for pool_id in members:
                self._feed(PoolHeld(pool_id))

    def _watch_time(self, now: float) -> None:
        for name in self._timers.expired(now):
            match name.split(":"):
                case ["beat"]:
                    self._timers.set("beat", now + self._plan.heartbeat_period)
                    self._to_all(talk.order("beat", time.time()))
                case ["silent", pool_id]:
                    self._check_heard(pool_id, now)
                case ["idle", pool_id]:
                    self._end_if_idle(pool_id)
                case ["drain", pool_id]:
                    self._drain(pool_id)
                case ["late", block_id]:
                    self._bury(self._late.pop(block_id))
                case ["stop"]:
                    self._stop_blocks(now)
                case ["kill"]:
                    for block_id in self._blocks.all:
                        self._provider.kill(block_id)

    def _place(self) -> None:
        instructions = self._ledger.place()
        starting = [
            task.task_id
            for instruction in instructions
            if isinstance(instruction, Place)
            for task in instruction.tasks
        ]
        try:
            if starting:
                self._callbacks.starting(starting)
        except EngineError as error:
            self._feed(Unplaced(starting, codes.ENGINE_FAILED, str(error)))
            instructions = [one for one in instructions if not isinstance(one, Place)]
        self._carry_out(instructions)

    def _scale(self) -> None:
        if self._closing:
            return
        for block_id in self._blocks.wanted(self._ledger.waiting, self._ledger.placed):
            self._start_block(block_id)

    def _note_status(self) -> None:
        self._inbox.status = EngineStatus(
            self._ledger.waiting,
            self._ledger.placed,
            self._scheduler.workers,
            {"blocks": len(self._blocks.all), "node_pools": len(self._pools)},
        )

    def _obey(self, command: Command) -> None:
        if isinstance(command, Close):
            self._close(command.grace_s)
            return
        if isinstance(command, Submitted) and self._blocks.given_up:
            self._blocks.try_again()
        self._feed(command)

    def _close(self, grace_s: float) -> None:
        self._closing = True
        self._ledger.closing = True
        for block_id in self._blocks.all - {pool.block_id for pool in self._pools.values()}:
            self._provider.kill(block_id)
        for pool in self._pools.values():
            self._blocks.leaving(pool.block_id)
        self._to_all(talk.order("drain"))
        self._timers.set("stop", time.monotonic() + grace_s)

    def _stop_blocks(self, now: float) -> None:
        for pool in self._pools.values():
            pool.reason = "was stopped with the endpoint before the task had ended"
            self._provider.stop(pool.block_id)
        self._timers.set("kill", now + _END_S)

    def _hear(self, pool_id: str, message: Sequence[bytes]) -> None:
        said = talk.hear(pool_id, message)
        now = time.monotonic()
        if isinstance(said, talk.Hello):
            self._welcome(pool_id, said, now)
            return
        pool = self._pools.get(pool_id)
        if pool is None:
            raise WireError(f"{pool_id!r} has not said hello")
        pool.heard = now
        match said:
            case Finished():
                self._feed(said)
                self._watch_idle(pool_id, now)
            case Started() | Returned():
                self._feed(said)
            case talk.Gone(reason):
                log.info("node pool %s ends: %s", pool_id, reason)
                pool.reason = pool.reason or f"ended: {reason}"
                pool.gone = True

    def _welcome(self, pool_id: str, hello: talk.Hello, now: float) -> None:
        info = hello.info
        if hello.protocol != frames.PROTOCOL or info.pool_id != pool_id:
            raise WireError(f"hello of {info.pool_id!r}, protocol {hello.protocol}")
        if info.block_id not in self._blocks.all or pool_id in self._pools:
            raise WireError(f"hello of {pool_id!r}, which is not expected")
        if info.workers < 1 or info.credit < 1:
            raise WireError(f"hello of {pool_id!r} without workers or credit")
        log.info("node pool %s is up on %s, %d workers", pool_id, info.node, info.workers)
        self._pools[pool_id] = _Pool(info.block_id, info.node, now)
        self._timers.set(f"silent:{pool_id}", now + self._plan.heartbeat_threshold)
        if self._plan.drain_period is not None:
            self._timers.set(f"drain:{pool_id}", now + self._plan.drain_period)
        self._blocks.came_up(info.block_id)
        self._feed(PoolUp(pool_id, info.workers, info.credit))
        self._watch_idle(pool_id, now)
        if self._closing:
            self._provider.stop(info.block_id)

    def _check_heard(self, pool_id: str, now: float) -> None:
        pool = self._pools[pool_id]
        due = pool.heard + self._plan.heartbeat_threshold
        if due > now:
            self._timers.set(f"silent:{pool_id}", due)
            return
        log.warning("node pool %s is silent; ending it", pool_id)
        pool.reason = (
            f"has been silent for {self._plan.heartbeat_threshold:g} seconds and was ended"
        )
        self._provider.kill(pool.block_id)

    def _watch_idle(self, pool_id: str, now: float) -> None:
        if self._scheduler.held(pool_id) == 0:
            self._timers.set(f"idle:{pool_id}", now + self._plan.max_idle_s)

    def _end_if_idle(self, pool_id: str) -> None:
        idle = self._scheduler.held(pool_id) == 0
        if idle and not self._closing and self._blocks.may_shrink():
            self._drain(pool_id)

    def _drain(self, pool_id: str) -> None:
        """Let it end what it runs, then itself; what it has not begun comes back."""
        self._feed(PoolHeld(pool_id))
        self._blocks.leaving(self._pools[pool_id].block_id)
        self._router.send(pool_id, talk.order("drain"))

    def _start_block(self, block_id: str) -> None:
        command = self._plan.command(block_id)
        try:
            self._provider.start(block_id, command, self._plan.environment)
        except OSError as error:
            self._bury(Ended(block_id, f"could not be started: {error}", "", exact=True))

    def _bury(self, ended: Ended) -> None:
        self._blocks.ended(ended.block_id)
        members = self._members(ended.block_id)
        for pool_id in members:
            pool = self._pools.pop(pool_id)
            reason = f"on {pool.node} {pool.reason or ended.how}"
            begun = read_begun(self._plan.directory, pool_id) if ended.exact else None
            self._feed(PoolLost(pool_id, reason, begun))
            self._timers.clear(f"silent:{pool_id}")
            self._timers.clear(f"idle:{pool_id}")
            self._timers.clear(f"drain:{pool_id}")
        if not members and not self._closing:
            log.warning("the node pool of block %s %s: %s", ended.block_id, ended.how, ended.stderr)
            self._give_up(ended)

    def _members(self, block_id: str) -> list[str]:
        return [pool_id for pool_id, pool in self._pools.items() if pool.block_id == block_id]

    def _give_up(self, ended: Ended) -> None:
        if not self._blocks.given_up or self._blocks.up:
            return
        message = f"No node pool came up; the last one {ended.how}. It wrote: {ended.stderr}"
        message = message[: limits.USER_MESSAGE]
        self._carry_out(self._ledger.fail_waiting(codes.ENGINE_FAILED, message, time.time()))

    def _feed(self, event: Event) -> None:
        self._carry_out(self._ledger.handle(event, time.time()))

    def _carry_out(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Place(pool_id):
                    self._send_tasks(pool_id, instruction)
                case CancelAt(pool_id, task_ids):
                    self._router.send(pool_id, talk.order("cancel", task_ids))
                case Recall(pool_id, task_ids):
                    self._router.send(pool_id, talk.order("recall", task_ids))
                case Report(results):
                    self._callbacks.ended(results)
                case Tell(changes):
                    self._callbacks.moved(changes)

    def _send_tasks(self, pool_id: str, place: Place) -> None:
        if place.functions:
            self._router.send(pool_id, talk.functions(place))
        for at in range(0, len(place.tasks), limits.BATCH_TASKS):
            self._router.send(pool_id, talk.tasks(place.tasks[at : at + limits.BATCH_TASKS]))

    def _to_all(self, message: list[bytes]) -> None:
        for pool_id in self._pools:
            self._router.send(pool_id, message)


def read_begun(directory: str, pool_id: str) -> int | None:
    """How many tasks a dead pool had handed to workers, see :class:`mep.worker.begun`."""
    try:
        with open(os.path.join(directory, "begun", pool_id), "rb") as file:
            return int.from_bytes(file.read(8), "little")
    except OSError:
        return None
