"""Blocks and their end: when one takes no more tasks."""

import time
from types import SimpleNamespace

import pytest

from mep.endpoint.interchange.block_keeper import BlockKeeper, Loop
from mep.endpoint.interchange.blocks import Blocks, Bounds
from mep.endpoint.interchange.events import PoolUp, Submitted
from mep.endpoint.interchange.ledger import Ledger
from mep.endpoint.interchange.peers import Peers
from mep.endpoint.interchange.slots import Slots
from mep.endpoint.interchange.talk import Hello, HelloInfo, order
from mep.endpoint.interchange.timers import Timers
from mep.wire import frames
from mep.wire.tasks import Function, Task

POOL = "0.n1.7"
SLACK_S = 10.0
"""What this process may be stopped for meanwhile."""


class Kept:
    """One block whose node pool has just said hello, at 0 of the loop's clock.

    Args:
        ends_in: seconds that its job has left; None: it has no end.
        drain_period: of the engine.
    """

    def __init__(self, ends_in=None, drain_period=None):
        ends_at = None if ends_in is None else time.time() + ends_in
        self.sent = []
        self.timers = Timers()
        dispatcher = Slots(0)
        self.ledger = Ledger(dispatcher, 0)
        peers = Peers(self.timers, threshold_s=1e9)
        self.blocks = blocks = Blocks(Bounds(1, 0, 1, 1.0), 1)
        blocks.first()
        info = HelloInfo(POOL, "0", "n1", 7, "3.11.2", 4, 4, ends_at=ends_at)
        peers.welcome(POOL, Hello(frames.PROTOCOL, info), blocks.all, 0.0)
        self.ledger.handle(PoolUp(POOL, 4, 4, ends_at=ends_at), 0.0)
        self.keeper = BlockKeeper(
            SimpleNamespace(drain_period=drain_period, max_idle_s=1e9),
            SimpleNamespace(),
            blocks,
            self.ledger,
            self.timers,
            peers,
            dispatcher.held,
            Loop(
                lambda event: self.ledger.handle(event, 0.0),
                lambda _: None,
                lambda pool_id, message: self.sent.append((pool_id, message)),
                lambda _: None,
            ),
        )
        self.keeper.joined(POOL, 0.0)

    def at(self, now):
        """The loop's time is this: whatever is due is done."""
        for name in self.timers.expired(now):
            self.keeper.due(name, now)

    def takes_a_task(self):
        self.ledger.handle(Submitted([Function("f", b"")], [Task("a", "f", "g", b"")]), 0.0)
        return bool(self.ledger.place(0.0))


@pytest.mark.parametrize(
    ("ends_in", "drain_period", "drains_at"),
    [
        (6000.0, None, 5940.0),  # the last minute
        (400.0, None, 360.0),  # the last tenth
        (6000.0, 1000.0, 1000.0),
        (6000.0, 9000.0, 5940.0),
        (None, 1000.0, 1000.0),
    ],
)
def test_a_block_near_its_end_takes_no_more_tasks_and_ends(ends_in, drain_period, drains_at):
    kept = Kept(ends_in, drain_period)
    kept.at(drains_at - SLACK_S)
    assert kept.sent == []
    kept.at(drains_at + SLACK_S)
    assert kept.sent == [(POOL, order("drain"))]
    assert not kept.takes_a_task()


def test_a_block_that_drains_is_replaced_if_tasks_wait_and_not_for_what_it_runs():
    kept = Kept(drain_period=1000.0)
    assert kept.takes_a_task()
    kept.at(1000.0 + SLACK_S)
    assert kept.blocks.wanted(*kept.ledger.demand, 0.0) == []
    kept.ledger.handle(Submitted([], [Task("b", "f", "g", b"")]), 0.0)
    assert kept.blocks.wanted(*kept.ledger.demand, 0.0) == ["1"]


def test_until_then_it_takes_them():
    kept = Kept(400.0)
    kept.at(360.0 - SLACK_S)
    assert kept.takes_a_task()


def test_a_block_without_an_end_serves_for_good():
    kept = Kept()
    kept.at(1e8)
    assert kept.sent == []
    assert kept.takes_a_task()
