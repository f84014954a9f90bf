"""The interchange's thread: the socket, the provider and the clock around the pure parts.

Each turn waits for something to happen, takes in all of it, and lets out what follows from it: one
message a pool and a kind. Nothing is polled for.
"""

import logging
import os
import time
from collections.abc import Sequence
from typing import Final

import zmq

from mep.endpoint.engines.base import Callbacks, EngineStatus
from mep.endpoint.engines.plan import Plan
from mep.endpoint.interchange import talk
from mep.endpoint.interchange.blocks import Blocks
from mep.endpoint.interchange.inbox import Close, Command, Inbox
from mep.endpoint.interchange.ledger import (
    CancelAt,
    Event,
    Finished,
    Instruction,
    Ledger,
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
)
from mep.endpoint.interchange.scheduler import Scheduler
from mep.endpoint.interchange.timers import Timers
from mep.endpoint.providers.base import Ended, Provider
from mep.wire import codes, frames, limits
from mep.wire.codec import WireError

log = logging.getLogger(__name__)

_BIG: Final = 64 * 1024
_END_S: Final = 2.0
"""From asking a block to end to ending it."""


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
        self._heard: dict[str, float] = {}
        self._pools: dict[str, str] = {}
        self._nodes: dict[str, str] = {}
        self._reasons: dict[str, str] = {}
        self._polled: set[int] = set()
        self._poller = zmq.Poller()
        self._closing = False
        self._context = zmq.Context()
        self._directory = os.open(plan.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._socket = self._bind()

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
        self._socket.close(linger=0)
        self._context.term()
        os.close(self._directory)

    def fail_all(self, message: str) -> None:
        """The loop cannot go on: end every task and every block."""
        for block_id in self._blocks.all:
            self._provider.kill(block_id)
        now = time.time()
        self._ledger.closing = True
        for pool_id in list(self._ledger.pools()):
            self._carry_out(self._ledger.handle(PoolLost(pool_id, "was ended", None), now))
        self._carry_out(self._ledger.fail_waiting(codes.ENGINE_FAILED, message, now))

    # --- the loop's steps -----------------------------------------------------------------------

    def _wait(self) -> None:
        wanted = {*self._provider.descriptors(), self._inbox.fileno()}
        for descriptor in self._polled - wanted:
            self._poller.unregister(descriptor)
        for descriptor in wanted - self._polled:
            self._poller.register(descriptor, zmq.POLLIN)
        self._polled = wanted
        due = self._timers.next()
        if due is None:
            self._poller.poll()
        else:
            self._poller.poll(int(max(0.0, due - time.monotonic()) * 1000) + 1)

    def _take_commands(self) -> None:
        for command in self._inbox.take():
            self._obey(command)

    def _drain_socket(self) -> None:
        while True:
            try:
                peer, *message = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                self._hear(peer.decode("ascii", "replace"), message)
            except WireError as error:
                log.warning("a peer of the interchange sent something else: %s", error)

    def _bury_blocks(self) -> None:
        for ended in self._provider.ended():
            self._bury(ended)

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
        if starting:
            self._callbacks.starting(starting)
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

    # --- commands -------------------------------------------------------------------------------

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
        for block_id in self._blocks.all - set(self._pools.values()):
            self._provider.kill(block_id)
        for block_id in self._pools.values():
            self._blocks.leaving(block_id)
        self._to_all(talk.order("drain"))
        self._timers.set("stop", time.monotonic() + grace_s)

    def _stop_blocks(self, now: float) -> None:
        for pool_id, block_id in self._pools.items():
            self._reasons[pool_id] = "was stopped with the endpoint before the task had ended"
            self._provider.stop(block_id)
        self._timers.set("kill", now + _END_S)

    # --- pools ----------------------------------------------------------------------------------

    def _hear(self, pool_id: str, message: Sequence[bytes]) -> None:
        said = talk.hear(pool_id, message)
        now = time.monotonic()
        if isinstance(said, talk.Hello):
            self._welcome(pool_id, said, now)
            return
        if pool_id not in self._pools:
            raise WireError(f"{pool_id!r} has not said hello")
        self._heard[pool_id] = now
        match said:
            case Finished():
                self._feed(said)
                self._watch_idle(pool_id, now)
            case Started() | Returned():
                self._feed(said)
            case talk.Gone(reason):
                log.info("node pool %s ends: %s", pool_id, reason)
                self._reasons.setdefault(pool_id, f"ended: {reason}")

    def _welcome(self, pool_id: str, hello: talk.Hello, now: float) -> None:
        info = hello.info
        if hello.protocol != frames.PROTOCOL or info.pool_id != pool_id:
            raise WireError(f"hello of {info.pool_id!r}, protocol {hello.protocol}")
        if info.block_id not in self._blocks.all or pool_id in self._pools:
            raise WireError(f"hello of {pool_id!r}, which is not expected")
        if info.workers < 1 or info.credit < 1:
            raise WireError(f"hello of {pool_id!r} without workers or credit")
        log.info("node pool %s is up on %s, %d workers", pool_id, info.node, info.workers)
        self._pools[pool_id] = info.block_id
        self._nodes[pool_id] = info.node
        self._heard[pool_id] = now
        self._timers.set(f"silent:{pool_id}", now + self._plan.heartbeat_threshold)
        self._blocks.came_up(info.block_id)
        self._feed(PoolUp(pool_id, info.workers, info.credit))
        self._watch_idle(pool_id, now)
        if self._closing:
            self._provider.stop(info.block_id)

    def _check_heard(self, pool_id: str, now: float) -> None:
        due = self._heard[pool_id] + self._plan.heartbeat_threshold
        if due > now:
            self._timers.set(f"silent:{pool_id}", due)
            return
        log.warning("node pool %s is silent; ending it", pool_id)
        self._reasons[pool_id] = (
            f"has been silent for {self._plan.heartbeat_threshold:g} seconds and was ended"
        )
        self._provider.kill(self._pools[pool_id])

    def _watch_idle(self, pool_id: str, now: float) -> None:
        if self._scheduler.held(pool_id) == 0:
            self._timers.set(f"idle:{pool_id}", now + self._plan.max_idle_s)

    def _end_if_idle(self, pool_id: str) -> None:
        idle = self._scheduler.held(pool_id) == 0
        if idle and not self._closing and self._blocks.may_shrink():
            self._feed(PoolHeld(pool_id))
            self._blocks.leaving(self._pools[pool_id])
            self._send(pool_id, talk.order("drain"))

    # --- blocks ---------------------------------------------------------------------------------

    def _start_block(self, block_id: str) -> None:
        command = self._plan.command(block_id)
        try:
            self._provider.start(block_id, command, self._plan.environment)
        except OSError as error:
            self._bury(Ended(block_id, f"could not be started: {error}", "", exact=True))

    def _bury(self, ended: Ended) -> None:
        self._blocks.ended(ended.block_id)
        members = [pool for pool, block_id in self._pools.items() if block_id == ended.block_id]
        for pool_id in members:
            node = self._nodes.pop(pool_id)
            reason = f"on {node} {self._reasons.pop(pool_id, ended.how)}"
            begun = read_begun(self._plan.directory, pool_id) if ended.exact else None
            self._feed(PoolLost(pool_id, reason, begun))
            del self._pools[pool_id], self._heard[pool_id]
            self._timers.clear(f"silent:{pool_id}")
            self._timers.clear(f"idle:{pool_id}")
        if not members and not self._closing:
            log.warning("the node pool of block %s %s: %s", ended.block_id, ended.how, ended.stderr)
            self._give_up(ended)

    def _give_up(self, ended: Ended) -> None:
        if not self._blocks.given_up or self._blocks.up:
            return
        message = f"No node pool came up; the last one {ended.how}. It wrote: {ended.stderr}"
        message = message[: limits.USER_MESSAGE]
        self._carry_out(self._ledger.fail_waiting(codes.ENGINE_FAILED, message, time.time()))

    # --- out ------------------------------------------------------------------------------------

    def _feed(self, event: Event) -> None:
        self._carry_out(self._ledger.handle(event, time.time()))

    def _carry_out(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Place(pool_id):
                    self._send_tasks(pool_id, instruction)
                case CancelAt(pool_id, task_ids):
                    self._send(pool_id, talk.order("cancel", task_ids))
                case Recall(pool_id, task_ids):
                    self._send(pool_id, talk.order("recall", task_ids))
                case Report(results):
                    self._callbacks.ended(results)
                case Tell(changes):
                    self._callbacks.moved(changes)

    def _send_tasks(self, pool_id: str, place: Place) -> None:
        if place.functions:
            self._send(pool_id, talk.functions(place))
        for at in range(0, len(place.tasks), limits.BATCH_TASKS):
            self._send(pool_id, talk.tasks(place.tasks[at : at + limits.BATCH_TASKS]))

    def _to_all(self, message: list[bytes]) -> None:
        for pool_id in self._pools:
            self._send(pool_id, message)

    def _send(self, pool_id: str, message: list[bytes]) -> None:
        copy = sum(map(len, message)) < _BIG
        try:
            self._socket.send_multipart([pool_id.encode(), *message], zmq.NOBLOCK, copy=copy)
        except zmq.ZMQError as error:
            # It is no longer connected; the end of its block follows and settles its tasks.
            log.info("node pool %s cannot be reached: %s", pool_id, error)

    def _bind(self) -> "zmq.Socket[bytes]":
        sock = self._context.socket(zmq.ROUTER)
        for option in (zmq.SNDHWM, zmq.RCVHWM, zmq.LINGER):
            sock.setsockopt(option, 0)
        sock.setsockopt(zmq.ROUTER_MANDATORY, 1)
        # A path by descriptor: socket paths are limited to 107 bytes, home directories are not.
        sock.bind(f"ipc:///proc/self/fd/{self._directory}/interchange.sock")
        self._poller.register(sock, zmq.POLLIN)
        return sock


def read_begun(directory: str, pool_id: str) -> int | None:
    """How many tasks a dead pool had handed to workers, see :class:`mep.worker.node.Begun`."""
    try:
        with open(os.path.join(directory, "begun", pool_id), "rb") as file:
            return int.from_bytes(file.read(8), "little")
    except OSError:
        return None
