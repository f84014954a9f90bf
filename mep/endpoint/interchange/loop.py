"""The interchange's thread: the socket, the provider and the clock around the pure parts.

Each turn waits for something to happen, takes in all of it, and lets out what follows from it: one
message a pool and a kind. Nothing is polled for.
"""

import logging
import select
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mep.endpoint.engines.base import Callbacks, EngineError, EngineStatus
from mep.endpoint.engines.plan import Plan
from mep.endpoint.interchange import talk
from mep.endpoint.interchange.block_keeper import BlockKeeper, Loop
from mep.endpoint.interchange.blocks import Blocks
from mep.endpoint.interchange.dispatch import Dispatcher
from mep.endpoint.interchange.events import (
    AwaitOver,
    CancelAt,
    Event,
    Finished,
    Inherited,
    Instruction,
    Late,
    Lost,
    Place,
    PoolLost,
    PoolUp,
    Recall,
    Release,
    Report,
    Returned,
    Started,
    Tell,
    Unplaced,
)
from mep.endpoint.interchange.inbox import Close, Command, Inbox, Safe
from mep.endpoint.interchange.ledger import Entry, Ledger
from mep.endpoint.interchange.noise import GARBAGE
from mep.endpoint.interchange.packing import Packing
from mep.endpoint.interchange.peers import Peers
from mep.endpoint.interchange.receipts import Receipts
from mep.endpoint.interchange.slots import Slots
from mep.endpoint.interchange.timers import Timers
from mep.endpoint.providers.base import Provider
from mep.wire import codes
from mep.wire.codec import WireError
from mep.wire.frames import Piece
from mep.wire.tasks import Result, StateChange

log = logging.getLogger(__name__)


class Interchange:
    """Runs tasks on node pools.

    Made and run in a thread of its own; only the inbox is shared. The first blocks have been
    started before it exists.
    """

    def __init__(
        self,
        plan: Plan,
        provider: Provider,
        blocks: Blocks,
        callbacks: Callbacks,
        inbox: Inbox,
        inherited: Inherited,
    ) -> None:
        self._plan = plan
        self._provider = provider
        self._blocks = blocks
        self._callbacks = callbacks
        self._inbox = inbox
        self._dispatcher: Dispatcher[Entry] = dispatcher_of(plan)
        self._ledger = Ledger(self._dispatcher, plan.retries)
        self._timers = Timers()
        self._peers = Peers(self._timers, plan.heartbeat_threshold)
        self._blocks_polled: Sequence[int] = ()
        self._ready: set[int] = set()
        self._poll = select.poll()
        self._closing = False
        self._reports: list[Report] = []
        """What is still to be told of this turn."""
        self._told: Mapping[str, Any] = {}
        """What was last told of blocks; another object when they change."""
        self._router = plan.transport.open()
        for descriptor in (inbox.fileno(), *self._router.descriptors):
            self._poll.register(descriptor, select.POLLIN)
        self._keeper = BlockKeeper(
            plan,
            provider,
            blocks,
            self._ledger,
            self._timers,
            self._peers,
            self._dispatcher.held,
            Loop(self._feed, self._carry_out, self._router.send, self._router.forget),
        )
        self._receipts = Receipts()
        self._feed(inherited)
        if inherited.awaited:
            self._timers.set("awaited", time.monotonic() + plan.heartbeat_threshold)

    def run(self) -> None:
        """The loop, until it has been told to close and no block is left."""
        while not (self._closing and not self._blocks.all):
            self._wait()
            self._take_commands()
            self._drain_socket()
            if not self._ready.isdisjoint(self._blocks_polled):
                self._keeper.bury_ended()
            self._watch_time(time.monotonic())
            self._place()
            self._keeper.scale()
            self._report()
            self._tell_changes()

    def status(self) -> EngineStatus:
        """A snapshot; from any thread."""
        return EngineStatus(
            self._ledger.waiting,
            self._ledger.placed,
            self._dispatcher.workers,
            {**self._told, "noise": self._router.noise.count},
        )

    def close(self) -> None:
        """Give the socket back, whatever way :meth:`run` ended."""
        self._router.close()

    def fail_all(self, message: str) -> None:
        """The loop cannot go on: end every task and every block."""
        self._report()
        self._keeper.kill_all()
        now = time.time()
        self._ledger.closing = True
        for pool_id in list(self._ledger.pools()):
            self._carry_out(self._ledger.handle(PoolLost(pool_id, "was ended", None), now))
        self._carry_out(self._ledger.fail_waiting(codes.ENGINE_FAILED, message, now))
        self._report()

    def _wait(self) -> None:
        blocks = self._provider.descriptors()
        if blocks != self._blocks_polled:
            self._poll_blocks(blocks)
        due = self._timers.next()
        wait_ms = None if due is None else int(max(0.0, due - time.monotonic()) * 1000) + 1
        if self._router.pending():
            wait_ms = 0
        self._ready = {descriptor for descriptor, _ in self._poll.poll(wait_ms)}

    def _poll_blocks(self, descriptors: Sequence[int]) -> None:
        for descriptor in set(self._blocks_polled) - set(descriptors):
            self._poll.unregister(descriptor)
        for descriptor in set(descriptors) - set(self._blocks_polled):
            self._poll.register(descriptor, select.POLLIN)
        self._blocks_polled = descriptors

    def _take_commands(self) -> None:
        if self._inbox.fileno() in self._ready:
            for command in self._inbox.take():
                self._obey(command)

    def _drain_socket(self) -> None:
        for peer, message in self._router.messages(self._ready):
            try:
                self._hear(peer, message)
            except WireError as error:
                self._router.noise.note(GARBAGE, f"{peer}: {error}", time.monotonic())

    def _watch_time(self, now: float) -> None:
        for name in self._timers.expired(now):
            match name.split(":"):
                case ["awaited"]:
                    self._feed(AwaitOver(None))
                case ["silent", pool_id]:
                    self._check_heard(pool_id, now)
                case _:
                    self._keeper.due(name, now)

    def _place(self) -> None:
        """Until nothing more can go: what may not leave makes room, and nobody else will say so."""
        while not self._place_once():
            pass

    def _place_once(self) -> bool:
        """Whether all could leave that had room."""
        instructions = self._ledger.place(time.time())
        starting = [
            task.task_id
            for instruction in instructions
            if isinstance(instruction, Place)
            for task in instruction.tasks
        ]
        try:
            if starting and self._plan.outlives:
                self._callbacks.starting(starting, self._pools_of(instructions))
            elif starting:
                self._callbacks.starting(starting)
        except EngineError as error:
            self._feed(Unplaced(starting, codes.ENGINE_FAILED, str(error)))
            self._carry_out([one for one in instructions if not isinstance(one, Place)])
            return False
        self._carry_out(instructions)
        return True

    @staticmethod
    def _pools_of(instructions: Sequence[Instruction]) -> list[str]:
        """The pool of each task that is to be placed."""
        places = [one for one in instructions if isinstance(one, Place)]
        return [place.pool_id for place in places for _ in place.tasks]

    def _tell_changes(self) -> None:
        detail = self._keeper.detail()
        if detail is not self._told:
            self._told = detail
            self._callbacks.changed()

    def _obey(self, command: Command) -> None:
        if isinstance(command, Close):
            self._close(command.grace_s)
            return
        if isinstance(command, Safe):
            self._send_receipts(self._receipts.safe(command.task_ids))
            return
        self._feed(command)

    def _close(self, grace_s: float) -> None:
        self._closing = True
        self._ledger.closing = True
        self._feed(AwaitOver(None))
        for block_id in self._blocks.all - {peer.block_id for peer in self._peers.all()}:
            self._provider.kill(block_id)
        for peer in self._peers.all():
            self._blocks.leaving(peer.block_id)
        self._to_all(talk.order("drain"))
        self._timers.set("stop", time.monotonic() + grace_s)

    def _hear(self, pool_id: str, message: Sequence[Piece]) -> None:
        said = talk.hear(pool_id, message)
        now = time.monotonic()
        if isinstance(said, talk.Hello):
            self._welcome(pool_id, said, now)
        elif pool_id in self._peers or not self._plan.outlives:
            self._hear_peer(pool_id, said, now)
        else:
            self._hear_stranger(pool_id, said)

    def _hear_peer(self, pool_id: str, said: talk.FromPool, now: float) -> None:
        peer = self._peers.heard(pool_id, now)
        match said:
            case Finished():
                self._take_results(said)
                self._keeper.watch_idle(pool_id, now)
            case Started() | Returned():
                self._feed(said)
            case talk.Beat(at):
                self._router.send(pool_id, talk.order("beat", at))
            case talk.Gone(reason):
                log.info("node pool %s ends: %s", pool_id, reason)
                peer.reason = peer.reason or f"ended: {reason}"
                peer.gone = True
                self._keeper.gone(pool_id)

    def _hear_stranger(self, pool_id: str, said: talk.FromPool) -> None:
        """A pool that has been counted as lost shall end; any other may be of an earlier process.

        What the other has said is lost by this, and said again after its hello.
        """
        if not self._peers.was_lost(pool_id):
            self._router.send(pool_id, talk.order("who"))
            return
        if isinstance(said, Finished):
            self._feed(Late(said.results))
        self._router.send(pool_id, talk.order("stop"))

    def _take_results(self, said: Finished) -> None:
        instructions = self._ledger.handle(said, time.time())
        self._carry_out(instructions)
        if self._plan.outlives:
            reports = [one.results for one in instructions if isinstance(one, Report)]
            reported = [result.task_id for results in reports for result in results]
            came = [result.task_id for result in said.results]
            self._send_receipts(self._receipts.came(said.pool_id, came, reported))

    def _send_receipts(self, due: Mapping[str, list[str]]) -> None:
        for pool_id, task_ids in due.items():
            self._router.send(pool_id, talk.order("received", task_ids))

    def _welcome(self, pool_id: str, hello: talk.Hello, now: float) -> None:
        if self._plan.outlives and pool_id in self._peers:
            return  # it was asked more than once
        try:
            self._peers.welcome(pool_id, hello, self._blocks.all, now)
        except WireError:
            if self._plan.outlives:
                self._router.send(pool_id, talk.order("stop"))
            raise
        info = hello.info
        log.info("node pool %s is up on %s, %d workers", pool_id, info.node, info.workers)
        up = PoolUp(
            pool_id,
            info.workers,
            info.credit,
            nodes=info.nodes,
            ends_at=info.ends_at,
            holds=info.holds,
            placed=info.placed,
            new=self._blocks.is_new(info.block_id),
        )
        self._feed(up)
        self._keeper.joined(pool_id, now)

    def _check_heard(self, pool_id: str, now: float) -> None:
        if self._peers.is_silent(pool_id, now):
            log.warning("node pool %s is silent; ending it", pool_id)
            self._keeper.silent(pool_id)

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
                case Report():
                    self._reports.append(instruction)
                case Tell(changes, pool_id):
                    self._locate(pool_id, changes)
                    self._callbacks.moved(changes)
                case Lost(task_ids):
                    self._callbacks.lost(task_ids)
                case Release(task_ids):
                    self._callbacks.released(task_ids)

    def _report(self) -> None:
        """After placing: node pools wait for tasks, while nobody waits for a turn's results."""
        if not self._reports:
            return
        reports, self._reports = self._reports, []
        for report in reports:
            self._locate(report.pool_id, report.results)
        self._callbacks.ended([result for report in reports for result in report.results])

    def _locate(self, pool_id: str, of: Sequence[Result | StateChange]) -> None:
        if pool_id:
            self._callbacks.located(pool_id, [each.task_id for each in of])

    def _send_tasks(self, pool_id: str, place: Place) -> None:
        if place.functions:
            self._router.send(pool_id, talk.functions(place))
        for batch in talk.batches(place.tasks):
            self._router.send(pool_id, talk.tasks(batch, place.specs))

    def _to_all(self, message: list[bytes]) -> None:
        for pool_id in self._peers:
            self._router.send(pool_id, message)


def dispatcher_of(plan: Plan) -> Dispatcher[Entry]:
    """The policy of the engine."""
    if plan.mpi is None:
        return Slots(plan.prefetch)
    return Packing(plan.mpi.nodes, plan.mpi.workers, plan.mpi.max_passes)
