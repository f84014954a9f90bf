"""Leases, receipts, verdicts and silent pools: the small pure parts of losing no task."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mep.endpoint.inheritance import Left, judge
from mep.endpoint.interchange.peers import Peers
from mep.endpoint.interchange.receipts import Receipts
from mep.endpoint.interchange.talk import Hello, HelloInfo
from mep.endpoint.interchange.timers import Timers
from mep.wire import PROTOCOL
from mep.wire.codec import WireError
from mep.worker.lease import Lease


def test_a_lease_counts_from_when_the_beat_was_sent():
    lease = Lease(10.0, 100.0)
    assert lease.may_begin(109.9)
    assert not lease.may_begin(110.0)
    assert lease.ends == 120.0
    lease.answered(105.0, 114.0)  # the answer was nine seconds late
    assert lease.may_begin(114.9)
    assert not lease.may_begin(115.0)
    lease.answered(101.0, 116.0)  # an older one came after it
    assert lease.ends == 125.0


def test_an_answer_from_the_future_counts_as_now():
    lease = Lease(10.0, 100.0)
    lease.answered(10_000.0, 103.0)
    assert lease.ends == 123.0


def peers(threshold_s=10.0):
    timers = Timers()
    made = Peers(timers, threshold_s)
    info = HelloInfo("0.n.1", "0", "n", 1, "3.11", 1, 2)
    made.welcome("0.n.1", Hello(PROTOCOL, info), {"0"}, 100.0)
    return made, timers, Hello(PROTOCOL, info)


def test_a_pool_is_silent_after_the_threshold_and_not_before():
    made, timers, _ = peers()
    made.heard("0.n.1", 104.0)
    assert list(timers.expired(110.0)) == ["silent:0.n.1"]
    assert not made.is_silent("0.n.1", 110.0)
    assert list(timers.expired(113.9)) == []
    assert list(timers.expired(114.0)) == ["silent:0.n.1"]
    assert made.is_silent("0.n.1", 114.0)
    assert made["0.n.1"].reason == "has been silent for 10 seconds and was ended"


def test_an_interchange_that_was_away_itself_listens_first():
    made, timers, _ = peers()
    assert list(timers.expired(500.0)) == ["silent:0.n.1"]
    assert not made.is_silent("0.n.1", 500.0)
    assert list(timers.expired(501.0)) == ["silent:0.n.1"]
    assert made.is_silent("0.n.1", 501.0)


def test_a_pool_that_spoke_meanwhile_is_not_silent():
    made, timers, _ = peers()
    assert not made.is_silent("0.n.1", 500.0)
    made.heard("0.n.1", 500.5)
    assert list(timers.expired(501.0)) == ["silent:0.n.1"]
    assert not made.is_silent("0.n.1", 501.0)


def test_one_that_counts_as_lost_is_not_welcome_again():
    made, _, hello = peers()
    made.lose("0.n.1")
    assert made.was_lost("0.n.1")
    assert "0.n.1" not in made
    with pytest.raises(WireError, match="not expected"):
        made.welcome("0.n.1", hello, {"0"}, 200.0)


@given(
    st.floats(1, 100), st.lists(st.tuples(st.floats(0, 50), st.floats(0, 200), st.floats(0, 50)))
)
def test_no_delay_lets_a_pool_begin_what_counts_as_lost(threshold_s, beats):
    """Each beat: sent so long after the last, so long on its way, so long the answer's way back.

    The two clocks do not agree; they go equally fast.
    """
    lease = Lease(threshold_s, 0.0)
    heard = 0.0  # the hello, as early as it can be
    sent = 0.0
    for after, way, back in beats:
        sent += after
        if sent + way > heard + threshold_s:
            break  # it counts as lost by then, and is not answered any more
        heard = max(heard, sent + way)
        lease.answered(sent, sent + way + back)
    lost_at = heard + threshold_s
    assert not lease.may_begin(lost_at + 1e-6)


def test_receipts_follow_what_is_safe():
    receipts = Receipts()
    assert receipts.came("p", ["a", "b", "old"], ["a", "b"]) == {"p": ["old"]}
    assert receipts.came("q", ["c"], ["c"]) == {}
    assert receipts.safe(["a", "c", "unknown"]) == {"p": ["a"], "q": ["c"]}
    assert receipts.safe(["a", "b"]) == {"p": ["b"]}


def test_verdicts():
    left = Left((), {"a": "1.n.1", "b": "2.n.1", "c": "", "d": "1.n.1"}, {"b": 1})
    verdict = judge(left, 0, lambda pool_id: pool_id == "1.n.1")
    assert (verdict.awaited, verdict.again) == ({"a": "1.n.1", "d": "1.n.1"}, [])
    assert verdict.lost == ["b", "c"]
    verdict = judge(left, 1, lambda _: False)
    assert (verdict.awaited, verdict.again, verdict.lost) == ({}, ["a", "c", "d"], ["b"])
