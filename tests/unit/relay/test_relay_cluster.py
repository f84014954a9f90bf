"""Several relay processes: notes, homes and the census, without a database."""

import uuid

import msgspec
import pytest
from mep_cloud.cluster import notes, seal
from mep_cloud.cluster.census import Census, Findings, Row
from mep_cloud.cluster.homes import Homes
from mep_cloud.cluster.notes import AnyNote
from mep_cloud.errors import StoreError

from mep.wire.tasks import TaskState

NOTIFY_BYTES = 8000
"""PostgreSQL takes less than this in one notification."""
BIG = 2**31 - 1
UNIX = 1_700_000_000.123456


def ids(count: int) -> tuple[str, ...]:
    return tuple(str(uuid.uuid4()) for _ in range(count))


STATE: TaskState = "waiting-for-nodes"
MOVES = tuple(notes.Move(each, STATE, UNIX) for each in ids(notes.MOVES))
KNOWN = tuple(notes.Known(each, STATE, UNIX, UNIX, UNIX) for each in ids(notes.KNOWN))
LARGEST: list[AnyNote] = [
    notes.Gone(BIG, BIG),
    notes.Submitted(BIG, *ids(1), ids(notes.IDS)),
    notes.Cancelled(BIG, ids(notes.IDS)),
    notes.Ended(BIG, ids(notes.IDS)),
    notes.Moved(BIG, *ids(1), MOVES),
    notes.Removed(BIG, *ids(1)),
    notes.Forget(BIG, "functions", *ids(1)),
    notes.Forget(BIG, "tokens"),
    notes.Revoked(BIG, (), (b"\xff" * 32,) * notes.IDS),
    notes.Asked(BIG, BIG, ids(notes.KNOWN), last=True),
    notes.Told(BIG, BIG, BIG, KNOWN, last=False),
]


@pytest.mark.parametrize("note", LARGEST, ids=lambda note: type(note).__name__)
def test_a_note_arrives_and_is_never_too_long(note: AnyNote) -> None:
    payload = notes.encode(note)
    assert len(payload.encode()) < NOTIFY_BYTES
    assert notes.decode(payload) == note


def test_every_note_is_tried() -> None:
    assert {type(note) for note in LARGEST} == set(AnyNote.__args__)


@pytest.mark.parametrize("payload", ["", "x", "[]", '["Gone", 1]', '["Gone", 1, "2"]', '["No", 1]'])
def test_what_is_no_note_is_refused(payload: str) -> None:
    with pytest.raises(StoreError, match="another program"):
        notes.decode(payload)


def test_portions() -> None:
    assert list(notes.portions([], 2)) == []
    assert list(notes.portions([1, 2, 3], 2)) == [(1, 2), (3,)]
    assert msgspec.json.encode(notes.distinct("abac")) == b'["a","b","c"]'


def test_an_endpoint_is_here_once_it_is_read() -> None:
    homes = Homes(1)
    assert not homes.mine("e")
    homes.claimed("e")
    assert homes.mine("e")
    assert not homes.here("e")
    homes.loaded("e")
    assert homes.here("e")
    assert homes.mine("e")
    assert homes.count() == 1


def test_where_another_process_delivers() -> None:
    homes = Homes(1)
    assert homes.elsewhere("e") is None
    homes.found("e", 2, "http://two")
    homes.found("f", 3, "http://three")
    assert homes.elsewhere("e") == "http://two"
    assert homes.gone(2)
    assert not homes.gone(2)
    assert homes.elsewhere("e") is None
    assert homes.elsewhere("f") == "http://three"
    homes.claimed("f")
    assert homes.elsewhere("f") is None


def test_a_process_is_not_its_own_peer() -> None:
    homes = Homes(1)
    homes.joined(1, "http://one")
    homes.joined(2, "http://two")
    assert homes.peers == {2: "http://two"}


def test_an_address_has_a_seal_of_its_own() -> None:
    master, url = b"m" * 32, "https://relay1.example:8443"
    assert seal.genuine(master, url, seal.of(master, url))
    assert not seal.genuine(master, url, seal.of(b"n" * 32, url))
    assert not seal.genuine(master, url, seal.of(master, url + "1"))
    assert not seal.genuine(master, url, b"")


def row(number: int, age_s: float = 0.0, *, holds: bool = True) -> Row:
    return Row(number, f"http://{number}", b"", age_s, holds)


def test_who_cannot_write_is_dead_however_young() -> None:
    found = Census(1, 10).look([row(1), row(2), row(3, holds=False), row(4, 60, holds=False)])
    assert found == Findings((row(2),), (3, 4))


def test_who_shows_no_life_is_fenced_at_the_second_look() -> None:
    census = Census(1, 10)
    assert census.look([row(1), row(2, 10), row(3, 11)]).to_fence == ()
    assert census.look([row(1), row(2, 11), row(3, 12)]).to_fence == (3,)
    assert census.look([row(1), row(2, 0.1), row(3, holds=False)]).dead == (3,)
    assert census.look([row(1), row(2, 12)]).to_fence == ()


def test_after_a_pause_of_everything_nobody_is_fenced() -> None:
    census = Census(1, 10)
    assert census.look([row(1, 99), row(2, 99)]).to_fence == ()
    assert census.look([row(1), row(2, 0.5)]).to_fence == ()


def test_nobody_fences_itself() -> None:
    census = Census(1, 10)
    for _ in range(3):
        assert census.look([row(1, 99)]) == Findings()
