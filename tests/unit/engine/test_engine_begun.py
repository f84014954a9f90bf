"""Which tasks of a dead node pool had begun: the file, written by several, read afterwards."""

import os
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mep.endpoint.interchange.begun import read
from mep.worker.begun import Begun, Ring


def ring_of(begun, worker):
    return Ring(os.dup(begun.descriptor), worker)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "pool"


def test_a_new_pool_has_begun_nothing(path):
    path.write_bytes(b"left by another" * 100)
    Begun(str(path), 2, 4)
    assert set(read(path.read_bytes())) == set()


def test_workers_note_what_they_begin(path):
    begun = Begun(str(path), 2, 4)
    ring_of(begun, 0).note(7)
    ring_of(begun, 1).note(3)
    assert set(read(path.read_bytes())) == {3, 7}


def test_a_worker_goes_on_where_the_one_before_it_stopped(path):
    begun = Begun(str(path), 1, 4)
    for place in (5, 6, 9):
        ring_of(begun, 0).note(place)
    assert set(read(path.read_bytes())) == {5, 6, 9}


def test_without_rings_the_pool_counts_and_takes_nothing_back(path):
    begun = Begun(str(path), 0, 4)
    begun.hand_over(5)
    begun.hand_over(2)
    assert not begun.by_workers
    assert list(read(path.read_bytes())) == [0, 1, 2, 3, 4, 5]


def test_a_pool_with_too_much_to_note_counts(path):
    assert not Begun(str(path), 500, 10_000).by_workers
    assert path.stat().st_size < 4096


@pytest.mark.parametrize("content", [b"", b"x" * 23, b"\1" + bytes(7) + b"\1" + bytes(15) + b"z"])
def test_a_file_that_is_cut_off_says_nothing(content):
    with pytest.raises(ValueError, match="not a whole file"):
        read(content)


def test_a_ring_that_is_cut_off_says_nothing(path):
    Begun(str(path), 2, 4)
    with pytest.raises(ValueError, match="not a whole file"):
        read(path.read_bytes()[:-8])


@given(
    workers=st.integers(1, 4),
    extra=st.integers(0, 6),
    steps=st.lists(st.tuples(st.sampled_from("gbet"), st.integers(0, 3)), max_size=200),
)
def test_of_the_tasks_whose_end_is_untold_those_noted_are_those_begun(
    tmp_path_factory, workers, extra, steps
):
    """The pool is given tasks, any worker begins any, ends its own in order, all told in order."""
    path = tmp_path_factory.mktemp("begun") / "pool"
    credit = workers + extra
    begun = Begun(str(path), workers, credit)
    rings = [ring_of(begun, worker) for worker in range(workers)]
    queued, running, ended, untold = deque(), {}, deque(), set()
    really, given_ = set(), 0
    for step, worker in steps:
        worker %= workers
        if step == "g" and len(queued) + len(untold) < credit:
            queued.appendleft(given_) if worker % 2 else queued.append(given_)
            given_ += 1
        elif step == "b" and queued and worker not in running:
            running[worker] = queued.popleft()
            rings[worker].note(running[worker])
            really.add(running[worker])
            untold.add(running[worker])
        elif step == "e" and worker in running:
            ended.append(running.pop(worker))
        elif step == "t" and ended:
            untold.discard(ended.popleft())
    noted = set(read(path.read_bytes()))
    assert noted <= really
    assert untold <= noted
    assert noted.isdisjoint(queued)
