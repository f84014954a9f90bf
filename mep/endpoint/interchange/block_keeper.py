"""Block keeping: blocks are started on demand, ended when idle, and buried with their node pools.

The part of the interchange's loop between :mod:`mep.endpoint.interchange.blocks`, which decides how
many blocks there should be, and the provider, which has them.
"""

import logging
import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mep.endpoint.engines.plan import Plan
from mep.endpoint.engines.start_block import end_block, start_block
from mep.endpoint.interchange import talk
from mep.endpoint.interchange.begun import read
from mep.endpoint.interchange.blocks import Blocks
from mep.endpoint.interchange.events import AwaitOver, Event, Instruction, PoolHeld, PoolLost
from mep.endpoint.interchange.ledger import Ledger
from mep.endpoint.interchange.peers import Peer, Peers
from mep.endpoint.interchange.timers import Timers
from mep.endpoint.providers.base import BlockState, Ended, Provider
from mep.wire import codes, limits

log = logging.getLogger(__name__)

_LATE_S: Final = 0.05
"""From the end of a block to the loss of its tasks: what it sent last may still be on its way."""
_END_S: Final = 2.0
"""From asking a block to end to ending it."""
_REST_S: Final = 15.0
"""From the end of a block's last node pool to ending its job, which should end by itself."""
_MARGIN_S: Final = 60.0
_MARGIN: Final = 0.1
"""A block takes no more tasks so long before its walltime ends, or in this last part of it."""
_BEHIND: Final = ("pending", "unknown")
_WORDS_S: Final = 5.0
"""For the scheduler to say why a job ended whose node pool took leave with tasks undone."""
_OVER_S: Final = 3.0
"""Batch systems end jobs a little before or after their time."""


@dataclass(frozen=True)
class Loop:
    """What block keeping needs of the interchange's loop."""

    feed: Callable[[Event], None]
    """Tell the ledger, and carry out what follows."""
    carry_out: Callable[[Sequence[Instruction]], None]
    """Do what the ledger says."""
    send: Callable[[str, list[bytes]], None]
    """Tell a node pool."""
    forget: Callable[[str], None]
    """The block has ended: keep nothing for its node pools."""


class BlockKeeper:
    """Starts blocks, ends them when they are idle, and tells the ledger what went with them.

    Args:
        plan: the engine's.
        provider: where blocks come from.
        blocks: how many there should be.
        ledger: the tasks.
        timers: of the loop; all but ``awaited`` and ``silent`` come up in :meth:`due`.
        peers: the node pools that are up; buried ones are taken out.
        held: how many tasks a pool has.
        loop: the interchange.
    """

    def __init__(
        self,
        plan: Plan,
        provider: Provider,
        blocks: Blocks,
        ledger: Ledger,
        timers: Timers,
        peers: Peers,
        held: Callable[[str], int],
        loop: Loop,
    ) -> None:
        self._plan = plan
        self._provider = provider
        self._blocks = blocks
        self._ledger = ledger
        self._timers = timers
        self._peers = peers
        self._held = held
        self._loop = loop
        self._late: dict[str, Ended] = {}
        self._last: Ended | None = None
        self._idle_since: dict[str, float] = {}
        self._changed = True
        self._detail: dict[str, Any] = {}

    def scale(self) -> None:
        """Start the blocks that demand asks for."""
        if self._ledger.closing:
            return
        if self._blocks.over and self._ledger.waiting:
            self._fail_waiting("No block is left, and no other comes (strategy: none)", self._last)
        now = time.monotonic()
        for block_id in self._blocks.wanted(*self._ledger.demand, now):
            self._start_block(block_id)
        if self._blocks.given_up and self._ledger.waiting and self._blocks.try_at > now:
            self._timers.set("try", self._blocks.try_at)

    def bury_ended(self) -> None:
        """See which blocks have ended; the provider has news."""
        self._changed = True
        for ended in self._provider.ended():
            members = self._peers.members(ended.block_id)
            if all(self._peers[pool_id].gone for pool_id in members):
                self._bury(ended)
                continue
            self._late[ended.block_id] = ended
            self._timers.set(f"late:{ended.block_id}", time.monotonic() + _LATE_S)
            for pool_id in members:
                self._loop.feed(PoolHeld(pool_id))

    def detail(self) -> dict[str, Any]:
        """Every block with its node pools, for ``mep status``; the same object until it changes."""
        if self._changed:
            self._changed = False
            self._detail = {
                "blocks": describe(self._provider.states(), self._peers.all()),
                "node_pools": len(self._peers),
            }
        return self._detail

    def joined(self, pool_id: str, now: float) -> None:
        """A pool has come up."""
        peer = self._peers[pool_id]
        self._changed = True
        self._blocks.came_up(peer.block_id, peer.nodes or peer.workers)
        self._limit_life(pool_id, peer.ends_at, now)
        self.watch_idle(pool_id, now)
        if self._ledger.closing:
            self._provider.stop(peer.block_id)

    def due(self, name: str, now: float) -> None:
        """The time of one of our timers has come."""
        match name.split(":"):
            case ["idle", pool_id]:
                self.end_if_idle(pool_id, now)
            case ["drain", pool_id]:
                self.drain(pool_id)
            case ["late", block_id]:  # what it sent last has had time to arrive
                self._bury(self._late.pop(block_id))
            case ["words", pool_id]:
                self._lose_gone(pool_id)
            case ["rest", block_id]:
                self._end_rest(block_id)
            case ["stop"]:
                self.stop_all(now)
            case ["kill"]:
                self.kill_all()
            case ["try"]:
                pass  # the end of a pause: scaling comes in the same turn

    def watch_idle(self, pool_id: str, now: float) -> None:
        """The clock of a pool without tasks begins anew."""
        if self._held(pool_id) == 0:
            self._idle_since[pool_id] = now
            self._timers.set(f"idle:{pool_id}", now + self._plan.max_idle_s)

    def end_if_idle(self, pool_id: str, now: float) -> None:
        """Its clock has run down: its block ends, if all of that has been idle for as long."""
        members = self._peers.members(self._peers[pool_id].block_id)
        if any(self._held(member) for member in members):
            return  # the last of them to be idle looks again
        due = max(self._idle_since[member] for member in members) + self._plan.max_idle_s
        if due > now:
            self._timers.set(f"idle:{pool_id}", due)
        elif not self._ledger.closing and self._blocks.may_shrink():
            self.drain(pool_id)

    def _limit_life(self, pool_id: str, ends_at: float | None, now: float) -> None:
        """Its job ends at this epoch time: its block drains before that."""
        left = math.inf if self._plan.drain_period is None else self._plan.drain_period
        if ends_at is not None:
            ahead = ends_at - time.time()
            left = min(left, ahead - min(_MARGIN_S, _MARGIN * ahead))
        if left < math.inf:
            self._timers.set(f"drain:{pool_id}", now + max(left, 0))

    def drain(self, pool_id: str) -> None:
        """Let its block end what it runs, then itself; what it has not begun comes back."""
        block_id = self._peers[pool_id].block_id
        self._blocks.leaving(block_id)
        for member in self._peers.members(block_id):
            self._loop.feed(PoolHeld(member))
            self._loop.send(member, talk.order("drain"))

    def gone(self, pool_id: str) -> None:
        """A pool has said its last word."""
        if not self._provider.apart:
            return  # the end of its block follows
        self._loop.feed(PoolHeld(pool_id))
        if self._held(pool_id) and not self._ledger.closing:
            # Tasks are lost with it: the scheduler may know why, if it is asked now. It ends a job
            # on all nodes at once; what another node does not say yet shall not cost them twice.
            self.drain(pool_id)
            self._provider.look(self._peers[pool_id].block_id)
            self._timers.set(f"words:{pool_id}", time.monotonic() + _WORDS_S)
        else:
            self._lose_gone(pool_id)

    def silent(self, pool_id: str) -> None:
        """A pool has said nothing for too long."""
        peer = self._peers[pool_id]
        if not self._provider.apart:
            self._provider.kill(peer.block_id)
            return
        # Should it hear this after all, it ends: its tasks are not its own any more.
        self._loop.send(pool_id, talk.order("stop"))
        self._lose(pool_id, peer.reason, by_walltime=self._is_over(peer))
        if not self._peers.members(peer.block_id):
            self._blocks.leaving(peer.block_id)
            self._provider.kill(peer.block_id)

    def _lose_gone(self, pool_id: str) -> None:
        peer = self._peers[pool_id]
        self._lose(pool_id, peer.reason, by_walltime=self._is_over(peer))
        self._see_to_rest(peer.block_id)

    def _end_rest(self, block_id: str) -> None:
        if block_id in self._blocks.all and not self._peers.members(block_id):
            self._provider.stop(block_id)

    def _see_to_rest(self, block_id: str) -> None:
        """A block none of whose pools is left ends by itself, very soon, or is ended."""
        if self._peers.members(block_id):
            return
        self._blocks.leaving(block_id)
        if self._ledger.closing:
            self._provider.stop(block_id)
        else:
            self._provider.look(block_id)
            self._timers.set(f"rest:{block_id}", time.monotonic() + _REST_S)

    @staticmethod
    def _is_over(peer: Peer) -> bool:
        return peer.ends_at is not None and time.time() > peer.ends_at - _OVER_S

    def stop_all(self, now: float) -> None:
        """The grace of the endpoint is over."""
        for peer in self._peers.all():
            peer.reason = "was stopped with the endpoint before the task had ended"
            self._provider.stop(peer.block_id)
        self._timers.set("kill", now + _END_S)

    def kill_all(self) -> None:
        """End every block without asking."""
        for block_id in self._blocks.all:
            self._provider.kill(block_id)

    def _start_block(self, block_id: str) -> None:
        self._changed = True
        try:
            start_block(self._plan, self._provider, block_id)
        except OSError as error:
            self._bury(Ended(block_id, f"could not be started: {error}", "", exact=True))

    def _bury(self, ended: Ended) -> None:
        self._last = ended
        was_up = self._blocks.has_been_up(ended.block_id)
        self._blocks.ended(ended.block_id, time.monotonic())
        self._timers.clear(f"rest:{ended.block_id}")
        for pool_id in self._peers.members(ended.block_id):
            peer = self._peers[pool_id]
            if ended.exact:
                places = read_begun(self._plan.directory, pool_id)
                self._lose(pool_id, peer.reason or ended.how, begun=places)
            else:
                how = f"{ended.how}; {peer.reason}" if peer.reason else ended.how
                over = ended.by_walltime or self._is_over(peer)
                self._lose(pool_id, how, by_walltime=over, stderr=ended.stderr)
        self._loop.feed(AwaitOver(ended.block_id))
        end_block(self._plan, ended.block_id)
        self._loop.forget(ended.block_id)
        if not was_up and not self._ledger.closing:
            log.warning("the node pool of block %s %s: %s", ended.block_id, ended.how, ended.stderr)
            if self._blocks.given_up and not self._blocks.up:
                self._fail_waiting("No node pool came up", ended)

    def _lose(
        self,
        pool_id: str,
        how: str,
        *,
        begun: Collection[int] | None = None,
        by_walltime: bool = False,
        stderr: str = "",
    ) -> None:
        self._changed = True
        peer = self._peers.lose(pool_id)
        reason = f"on {peer.node} {how}"
        self._loop.feed(PoolLost(pool_id, reason, begun, by_walltime, stderr))
        _begun_file(self._plan.directory, pool_id).unlink(missing_ok=True)
        self._idle_since.pop(pool_id, None)
        self._timers.clear(f"idle:{pool_id}")
        self._timers.clear(f"drain:{pool_id}")
        self._timers.clear(f"words:{pool_id}")

    def _fail_waiting(self, why: str, last: Ended | None) -> None:
        message = f"{why}; the last one {last.how}." if last else f"{why}."
        if last and last.stderr:
            message += f" It wrote: {last.stderr}"
        message = message[: limits.USER_MESSAGE]
        self._loop.carry_out(self._ledger.fail_waiting(codes.ENGINE_FAILED, message, time.time()))


def describe(states: Sequence[BlockState], peers: Sequence[Peer]) -> list[dict[str, Any]]:
    """Blocks as plain data: what their provider says of them, and what their pools do."""
    rows = []
    for state in states:
        pools = [peer for peer in peers if peer.block_id == state.block_id]
        ends = [peer.ends_at for peer in pools if peer.ends_at is not None]
        # Whoever talks to its pools knows sooner than the scheduler is asked.
        ahead = pools and state.state in _BEHIND
        rows.append(
            {
                **state.plain(),
                "state": "running" if ahead else state.state,
                "reason": "" if ahead else state.reason,
                "pools": len(pools),
                "workers": sum(peer.workers for peer in pools),
                "ends_at": min(ends, default=None),
            }
        )
    return rows


def read_begun(directory: str, pool_id: str) -> Collection[int] | None:
    """The places of a dead pool's tasks that may have begun; None: nobody knows."""
    try:
        return read(_begun_file(directory, pool_id).read_bytes())
    except (OSError, ValueError):
        return None


def _begun_file(directory: str, pool_id: str) -> Path:
    return Path(directory, "begun", pool_id)
