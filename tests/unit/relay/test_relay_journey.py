"""The way to an identity provider and back: it ends in the browser where it began, in time."""

from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st
from mep_cloud.web.journey import JOURNEY_S, Journey, back, begin

MASTER, COOKIE = b"m" * 32, "c" * 43


def new(now: float = 1000.0) -> Journey:
    return begin(MASTER, COOKIE, "university", "BCDFGHJK", now)


def test_the_way_back_knows_what_the_way_there_knew() -> None:
    way = new()
    assert back(MASTER, COOKIE, "university", way.state, 1000.0 + JOURNEY_S) == way
    assert way.user_code == "BCDFGHJK"
    assert len({way.state.rpartition(".")[2], way.nonce, way.verifier}) == 3
    assert 43 <= len(way.verifier) <= 128, "RFC 7636, 4.1"


def test_no_two_are_the_same() -> None:
    one, two = new(), new()
    assert one.nonce != two.nonce
    assert one.verifier != two.verifier


def test_it_is_over_after_a_while() -> None:
    state = new().state
    assert back(MASTER, COOKIE, "university", state, 1001.0 + JOURNEY_S) is None
    assert back(MASTER, COOKIE, "university", state, 999.0) is None


def test_another_browser_relay_or_provider() -> None:
    state = new().state
    assert back(MASTER, "d" * 43, "university", state, 1000.0) is None
    assert back(b"n" * 32, COOKIE, "university", state, 1000.0) is None
    assert back(MASTER, COOKIE, "lab", state, 1000.0) is None
    forged = state.replace("university", "lab")
    assert back(MASTER, COOKIE, "lab", forged, 1000.0) is None


@given(st.text() | st.from_regex(r"university\.[A-Z]*\.[0-9]+\.[a-z]*\.[0-9a-f]*"))
@example("university.BCDFGHJK.1000.x.")
@example("university.BCDFGHJK.٣.x.y")
@example("....")
@example("\ud800")
def test_what_is_made_up(state: str) -> None:
    assert back(MASTER, COOKIE, "university", state, 1000.0) is None


def test_no_letter_of_a_state_can_be_changed() -> None:
    way = new()
    for place in range(len(way.state)):
        letter = "b" if way.state[place] != "b" else "c"
        changed = replace(way, state=way.state[:place] + letter + way.state[place + 1 :])
        assert back(MASTER, COOKIE, "university", changed.state, 1000.0) is None
