"""What has begun is told once, and only if it lasts."""

import math

from hypothesis import given
from hypothesis import strategies as st

from mep.worker.untold import Untold


def test_what_is_over_soon_is_never_told():
    untold = Untold(5.0)
    untold.begins("a", 1.0)
    assert untold.due == 6.0
    untold.ends("a")
    assert untold.due == math.inf
    assert untold.take(99.0) == []


def test_what_lasts_is_told_once():
    untold = Untold(5.0)
    untold.begins("a", 1.0)
    assert untold.take(5.9) == []
    assert untold.take(6.0) == ["a"]
    assert untold.take(20.0) == []
    assert untold.due == math.inf
    untold.ends("a")


def test_a_worker_that_goes_on_to_its_next_task_begins_anew():
    untold = Untold(5.0)
    untold.begins("a", 1.0)
    untold.begins("b", 2.0)
    untold.begins("a", 3.0)
    assert untold.due == 7.0
    assert untold.take(7.0) == ["b"]
    assert untold.take(8.0) == ["a"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans())))
def test_due_is_when_there_is_something_to_tell(steps):
    untold, since, now = Untold(2.0), {}, 0.0
    for key, begins, look in steps:
        now += 1.0
        if begins:
            untold.begins(key, now)
            since[key] = now
        else:
            untold.ends(key)
            since.pop(key, None)
        assert untold.due == min((at + 2.0 for at in since.values()), default=math.inf)
        if look:
            told = untold.take(now)
            assert sorted(told) == sorted(k for k, at in since.items() if at + 2.0 <= now)
            for each in told:
                del since[each]
