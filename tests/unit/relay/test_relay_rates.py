"""Token buckets, with the time as an argument."""

import pytest
from mep_cloud.errors import Refusal
from mep_cloud.rates import Rates


def test_so_many_at_once_then_the_rest_as_time_passes() -> None:
    rates = Rates(20, 10.0)
    assert [rates.take("alice", 100.0) for _ in range(20)] == [0.0] * 20
    assert rates.take("alice", 100.0) == pytest.approx(0.5)
    assert rates.take("alice", 100.4) == pytest.approx(0.1)
    assert rates.take("alice", 100.6) == 0.0
    assert rates.take("alice", 100.6) > 0.0


def test_one_user_does_not_slow_another() -> None:
    rates = Rates(1, 10.0)
    assert rates.take("alice", 0.0) == 0.0
    assert rates.take("alice", 0.0) > 0.0
    assert rates.take("bob", 0.0) == 0.0


def test_patience_saves_up_no_more_than_one_period() -> None:
    rates = Rates(2, 10.0)
    assert rates.take("alice", 0.0) == 0.0
    assert [rates.take("alice", 1e6) for _ in range(2)] == [0.0, 0.0]
    assert rates.take("alice", 1e6) == pytest.approx(5.0)


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    rates = Rates(1, 10.0)
    assert rates.take("alice", 100.0) == 0.0
    assert rates.take("alice", 50.0) == pytest.approx(10.0)


def test_no_bound() -> None:
    rates = Rates(0, 10.0)
    assert all(rates.take("alice", 0.0) == 0.0 for _ in range(1000))


def test_many_users_are_not_remembered_for_ever() -> None:
    rates = Rates(1, 1.0)
    for number in range(30_000):
        assert rates.take(f"user {number}", float(number)) == 0.0
    assert len(rates._buckets) <= 10_001


def test_the_refusal_says_how_long_to_wait() -> None:
    rates = Rates(1, 30.0)
    rates.check("alice", 0.0)
    with pytest.raises(Refusal, match="1 requests of one user in 30 s") as refused:
        rates.check("alice", 10.0)
    assert (refused.value.status, refused.value.retry_after_s) == (429, pytest.approx(20.0))
