"""How often the scheduler is asked."""

import itertools
import math

from mep.endpoint.providers.pace import FIRST_S, LONGEST_S, Pace


def questions(pace, until):
    asked = []
    while pace.due <= until:
        asked.append(pace.due)
        pace.asked(pace.due, jobs=1)
    return asked


def test_nothing_is_asked_without_a_job():
    assert Pace().due == math.inf
    pace = Pace()
    pace.hasten(0.0)
    pace.asked(1.0, jobs=0)
    assert pace.due == math.inf


def test_fast_at_first_and_slower_to_a_minute():
    pace = Pace()
    pace.hasten(0.0)
    asked = questions(pace, 3600.0)
    assert asked[0] == FIRST_S
    assert len([at for at in asked if at <= 10.0]) >= 4
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == LONGEST_S
    assert len(asked) < 75, "an hour's questions"


def test_news_make_it_fast_again_and_never_a_storm():
    pace = Pace()
    pace.hasten(0.0)
    last = questions(pace, 1000.0)[-1]
    for _ in range(100):
        pace.hasten(last + 5.0)
    assert pace.due == last + 5.0 + FIRST_S


def test_never_twice_within_a_second():
    pace = Pace()
    asked = []
    for tick in range(100):
        now = tick / 10
        pace.hasten(now)
        if pace.due <= now:
            pace.asked(now, jobs=1)
            asked.append(now)
    assert len(asked) == len(range(1, 10))
