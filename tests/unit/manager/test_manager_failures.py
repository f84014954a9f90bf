"""User endpoints that keep ending at their start."""

from mep.manager.failures import FIRST_S, FREE, KEPT, LAST_S, QUICK_S, Failures


def fail(failures: Failures, times: int, name: str = "a", now: float = 0.0) -> None:
    for _ in range(times):
        failures.ended(name, 1.0, 1, now)


def test_a_few_failures_cost_nothing() -> None:
    failures = Failures()
    fail(failures, FREE - 1)
    assert failures.pause("a", 0.0) == 0


def test_pauses_double_up_to_a_bound() -> None:
    failures = Failures()
    fail(failures, FREE)
    seen = []
    for _ in range(10):
        seen.append(failures.pause("a", 0.0))
        fail(failures, 1)
    assert seen[:3] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S]
    assert seen[-1] == LAST_S


def test_a_pause_ends() -> None:
    failures = Failures()
    fail(failures, FREE)
    assert failures.pause("a", 4.0) == FIRST_S - 4.0
    assert failures.pause("a", FIRST_S) == 0
    assert failures.pause("b", 0.0) == 0


def test_a_good_end_or_a_long_life_begins_anew() -> None:
    for lived, status in ((1.0, 0), (QUICK_S, 1), (1.0, None)):
        failures = Failures()
        fail(failures, FREE)
        failures.ended("a", lived, status, 0.0)
        assert failures.pause("a", 0.0) == 0
        fail(failures, FREE - 1)
        assert failures.pause("a", 0.0) == 0


def test_what_is_known_is_bounded() -> None:
    failures = Failures()
    for number in range(KEPT + 5):
        fail(failures, FREE, str(number))
    assert failures.pause("0", 0.0) == 0
    assert failures.pause(str(KEPT + 4), 0.0) == FIRST_S
