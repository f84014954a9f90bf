"""Which staged runtimes go."""

from hypothesis import given
from hypothesis import strategies as st

from mep.endpoint.runtime.unused import DAY_S, KEPT, LONG_S, unused

NOW = 2_000_000_000.0


def test_what_was_used_within_a_day_stays_however_many_there_are() -> None:
    assert unused({f"v{number}": NOW - DAY_S + 1 for number in range(10)}, NOW) == []


def test_what_was_not_used_for_long_goes() -> None:
    assert unused({"old": NOW - LONG_S - 1, "young": NOW - LONG_S + 1}, NOW) == ["old"]


def test_of_the_others_those_used_last_stay() -> None:
    used = {f"v{days}": NOW - days * DAY_S - 1 for days in (5, 2, 9, 3, 7)}
    assert unused(used, NOW) == ["v7", "v9"]


@given(st.dictionaries(st.text(min_size=1), st.floats(0, 2 * LONG_S)))
def test_the_number_of_those_that_stay_is_bounded(ages: dict[str, float]) -> None:
    gone = set(unused({name: NOW - age for name, age in ages.items()}, NOW))
    stay = [age for name, age in ages.items() if name not in gone]
    assert sum(age > DAY_S + 1 for age in stay) <= KEPT
    assert all(age <= LONG_S + 1 for age in stay)
