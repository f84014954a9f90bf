"""Node pools that have said hello: who each is, when it was last heard, why it ends. Pure."""

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Final

from mep.endpoint.interchange.talk import Hello, HelloInfo
from mep.endpoint.interchange.timers import Timers
from mep.wire import frames
from mep.wire.codec import WireError

_NODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,255}")
"""Names of nodes."""
_STALL_S: Final = 1.0
"""A timer that comes up so late says that this process has been stopped or starved."""


@dataclass(slots=True)
class Peer:
    """One node pool."""

    block_id: str
    node: str
    heard: float
    """When it last said something."""
    reason: str = ""
    """Why it ends, as far as we know it better than its exit status does."""
    gone: bool = False
    """It has said its last word."""
    workers: int = 0
    nodes: int = 0
    """That its tasks may be spread over; 0: they take a worker each."""
    ends_at: float | None = None
    """Epoch seconds at which the batch system ends its job; None: not known."""


class Peers:
    """The node pools of an interchange, by id.

    One that was counted as lost does not come back.

    Args:
        timers: where ``silent:POOL`` comes up when a pool may have been silent for too long.
        threshold_s: seconds of silence after which a pool counts as lost.
    """

    def __init__(self, timers: Timers, threshold_s: float) -> None:
        self._timers = timers
        self._threshold_s = threshold_s
        self._peers: dict[str, Peer] = {}
        self._lost: set[str] = set()

    def __getitem__(self, pool_id: str) -> Peer:
        return self._peers[pool_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._peers)

    def __contains__(self, pool_id: str) -> bool:
        return pool_id in self._peers

    def __len__(self) -> int:
        return len(self._peers)

    def all(self) -> list[Peer]:
        """Every node pool."""
        return list(self._peers.values())

    def members(self, block_id: str) -> list[str]:
        """The ids of a block's node pools."""
        return [pool_id for pool_id, peer in self._peers.items() if peer.block_id == block_id]

    def welcome(self, pool_id: str, hello: Hello, blocks: Container[str], now: float) -> None:
        """A pool says hello; it must belong to one of these blocks.

        Raises:
            WireError: it is not expected, or says something impossible.
        """
        info = hello.info
        if hello.protocol != frames.PROTOCOL or info.pool_id != pool_id:
            raise WireError(f"hello of {info.pool_id!r}, protocol {hello.protocol}")
        expected = info.block_id in blocks and pool_id not in self._lost
        if not expected or pool_id in self._peers or not pool_name_fits(info):
            raise WireError(f"hello of {pool_id!r}, which is not expected")
        if info.workers < 1 or info.credit < 1:
            raise WireError(f"hello of {pool_id!r} without workers or credit")
        self._peers[pool_id] = Peer(
            info.block_id,
            info.node,
            now,
            workers=info.workers,
            nodes=len(info.nodes),
            ends_at=info.ends_at,
        )
        self._timers.set(f"silent:{pool_id}", now + self._threshold_s)

    def heard(self, pool_id: str, now: float) -> Peer:
        """A pool has said something.

        Raises:
            WireError: it has not said hello before.
        """
        peer = self._peers.get(pool_id)
        if peer is None:
            raise WireError(f"{pool_id!r} has not said hello")
        peer.heard = now
        return peer

    def is_silent(self, pool_id: str, now: float) -> bool:
        """Whether it has said nothing for too long; if not, ``silent:POOL`` comes up again."""
        peer = self._peers[pool_id]
        due = peer.heard + self._threshold_s
        if now > due + _STALL_S:
            # We were away ourselves, so that it may have spoken all the time: listen first.
            peer.heard += now - due + _STALL_S
            due = now + _STALL_S
        if due > now:
            self._timers.set(f"silent:{pool_id}", due)
            return False
        peer.reason = f"has been silent for {self._threshold_s:g} seconds and was ended"
        return True

    def was_lost(self, pool_id: str) -> bool:
        """Whether :meth:`lose` was said of it."""
        return pool_id in self._lost

    def lose(self, pool_id: str) -> Peer:
        """A pool counts as lost, though it may live."""
        self._lost.add(pool_id)
        return self.leave(pool_id)

    def leave(self, pool_id: str) -> Peer:
        """A pool is gone for good."""
        self._timers.clear(f"silent:{pool_id}")
        return self._peers.pop(pool_id)


def pool_name_fits(info: HelloInfo) -> bool:
    """Whether a pool calls itself what its block, node and process make of it.

    Files bear this name, so that it must be no path.
    """
    if not _NODE.fullmatch(info.node):
        return False
    return info.pool_id == f"{info.block_id}.{info.node}.{info.pid}"
