"""What waits at a node pool beyond its workers is bounded by bytes too."""

from hypothesis import given
from hypothesis import strategies as st

from mep.endpoint.interchange.events import PoolUp
from mep.endpoint.interchange.ledger import Entry
from mep.endpoint.interchange.scheduler import STOCK_BYTES, Scheduler
from mep.endpoint.interchange.slots import Slots
from mep.wire.tasks import Task

LARGE = STOCK_BYTES // 2


def taken(scheduler, size):
    count = 0
    while scheduler.take(size):
        count += 1
    return count


def test_large_tasks_do_not_pile_up_at_a_pool():
    scheduler = Scheduler(100)
    scheduler.join("a", 2, 102)
    assert taken(scheduler, LARGE) == 2 + 2
    scheduler.free("a", 1)
    assert taken(scheduler, LARGE) == 1


def test_every_worker_has_a_task_however_large_they_are():
    scheduler = Scheduler(0)
    scheduler.join("a", 8, 8)
    assert taken(scheduler, STOCK_BYTES) == 8


def test_one_that_exceeds_the_bound_alone_waits_alone():
    scheduler = Scheduler(100)
    scheduler.join("a", 1, 101)
    assert taken(scheduler, 2 * STOCK_BYTES) == 1 + 1


def test_small_ones_follow_when_the_large_have_gone_to_workers():
    scheduler = Scheduler(10)
    scheduler.join("a", 1, 11)
    assert taken(scheduler, STOCK_BYTES) == 2
    scheduler.free("a", 1)
    assert taken(scheduler, 10) == 10


def test_the_bytes_are_those_of_the_arguments():
    slots = Slots(100)
    slots.join(PoolUp("p", 1, 101))
    for number in range(10):
        slots.add(Entry(Task(str(number), "f", "g", bytes(LARGE))))
    placed = []
    while (placing := slots.next(0.0)) is not None:
        placed.append(placing[0])
    assert len(placed) == 1 + 2
    slots.free("p", placed[:2])
    assert slots.next(0.0) is not None
    assert slots.next(0.0) is not None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, STOCK_BYTES))))
def test_it_is_never_more_than_the_bound_and_one_task(steps):
    scheduler = Scheduler(50)
    scheduler.join("a", 3, 53)
    sizes: list[int] = []
    for takes, size in steps:
        waiting = sum(sizes[3:])
        if not takes and sizes:
            scheduler.free("a", 1)
            del sizes[0]
        elif scheduler.take(size):
            assert len(sizes) < 3 or waiting < STOCK_BYTES
            sizes.append(size)
        else:
            assert waiting >= STOCK_BYTES or len(sizes) == 53
        assert scheduler.held("a") == len(sizes)
