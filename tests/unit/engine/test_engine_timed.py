"""Tasks that say how long they take, and blocks that have an end."""

import pytest

from mep.endpoint.engines.resources import ResourcesError, read
from mep.endpoint.interchange.blocks import Blocks, Bounds
from mep.endpoint.interchange.dispatch import Waiter
from mep.endpoint.interchange.events import PoolUp, Report, Submitted
from mep.endpoint.interchange.ledger import Ledger
from mep.endpoint.interchange.packing import Packing
from mep.endpoint.interchange.request import Request
from mep.endpoint.interchange.slots import Slots
from mep.wire import codes
from mep.wire.tasks import Function, Task


def waiter(name, walltime_s=None):
    return Waiter(Task(name, "f", "group", b""), Request(walltime_s=walltime_s))


def placed(slots, now):
    found = []
    while (placing := slots.next(now)) is not None:
        found.append((placing[0].task.task_id, placing[1]))
    return found


def test_no_task_starts_on_a_pool_with_less_time_left():
    slots = Slots(0)
    slots.join(PoolUp("short", 4, 4, ends_at=100.0))
    slots.add(waiter("long", 60.0))
    slots.add(waiter("quick", 30.0))
    slots.add(waiter("any"))
    assert placed(slots, now=50.0) == [("quick", "short"), ("any", "short")]
    slots.join(PoolUp("next", 1, 1, ends_at=200.0))
    assert placed(slots, now=60.0) == [("long", "next")]


def test_a_pool_without_an_end_has_time_for_all():
    slots = Slots(0)
    slots.join(PoolUp("local", 1, 1))
    slots.add(waiter("long", 1e9))
    assert placed(slots, now=0.0) == [("long", "local")]


def test_a_task_with_a_walltime_is_never_put_behind_another_at_a_pool():
    slots = Slots(10)
    slots.join(PoolUp("p", 1, 11, ends_at=100.0))
    items = [waiter("a", 10.0), waiter("b", 10.0), waiter("c")]
    for item in items:
        slots.add(item)
    assert placed(slots, now=0.0) == [("a", "p")]
    slots.free("p", items[:1])
    assert placed(slots, now=0.0) == [("b", "p"), ("c", "p")]


def test_those_that_wait_for_time_come_first_come_first_served():
    slots = Slots(0)
    slots.join(PoolUp("p", 1, 1, ends_at=100.0))
    first = waiter("first", 10.0)
    slots.add(first)
    assert placed(slots, now=0.0) == [("first", "p")]
    for name in ("second", "third"):
        slots.add(waiter(name, 10.0))
    assert placed(slots, now=0.0) == []
    slots.free("p", [first])
    assert placed(slots, now=0.0) == [("second", "p")]


def order_on(slots, names, timed):
    """In which order tasks run on one worker, of which `timed` says that it takes 10 s."""
    items = {name: waiter(name, 10.0 if name == timed else None) for name in names}
    for item in items.values():
        slots.add(item)
    running, order = placed(slots, now=0.0), []
    while running:
        name, pool_id = running.pop(0)
        order.append(name)
        slots.free(pool_id, [items[name]])
        running += placed(slots, now=0.0)
    return order


def test_those_that_came_later_do_not_go_ahead_of_it_to_a_busy_worker():
    slots = Slots(2)
    slots.join(PoolUp("p", 1, 9, ends_at=100.0))
    assert order_on(slots, "abcTdefgh", "T") == list("abcTdefgh")


def test_where_no_pool_has_the_time_all_others_go_on_ahead():
    slots = Slots(2)
    slots.join(PoolUp("p", 1, 9, ends_at=5.0))
    assert order_on(slots, "aTbcd", "T") == list("abcd")


def test_what_is_owed_ends_with_the_task_that_waited():
    slots = Slots(2)
    slots.join(PoolUp("p", 1, 9, ends_at=100.0))
    items = [waiter("a"), waiter("T", 10.0), *(waiter(name) for name in "bcd")]
    for item in items:
        slots.add(item)
    assert placed(slots, now=0.0) == [("a", "p")]
    slots.remove(items[1])
    slots.free("p", items[:1])
    assert placed(slots, now=0.0) == [("b", "p"), ("c", "p"), ("d", "p")]


def test_workers_without_the_time_for_what_waits_meet_no_demand():
    slots = Slots(0)
    slots.join(PoolUp("short", 4, 4, ends_at=5.0))
    long = waiter("long", 10.0)
    slots.add(long)
    assert placed(slots, now=0.0) == []
    assert slots.demand(1, 0) == (1, 4)
    slots.hold("short")
    assert slots.demand(1, 0) == (1, 0)
    slots.remove(long)
    assert slots.demand(0, 0) == (0, 0)


def test_workers_that_are_only_busy_count_as_what_they_run():
    slots = Slots(0)
    slots.join(PoolUp("p", 1, 1, ends_at=100.0))
    slots.add(waiter("first", 10.0))
    slots.add(waiter("second", 10.0))
    assert len(placed(slots, now=0.0)) == 1
    assert slots.demand(1, 1) == (1, 1)


def test_one_that_was_cancelled_or_failed_with_the_rest_is_gone():
    slots = Slots(0)
    slots.join(PoolUp("p", 2, 2, ends_at=100.0))
    items = [waiter("a", 500.0), waiter("b", 500.0)]
    for item in items:
        slots.add(item)
    assert placed(slots, now=0.0) == []
    slots.remove(items[0])
    assert slots.clear() == [items[1]]
    slots.join(PoolUp("q", 2, 2))
    assert placed(slots, now=0.0) == []


def test_a_walltime_is_read():
    assert read(b'{"walltime": 90}').walltime_s == 90
    assert read(b'{"walltime": null}').walltime_s is None
    assert read(b'{"walltime": 600}', longest_s=600.0).walltime_s == 600


@pytest.mark.parametrize(
    ("specification", "words"),
    [
        (b'{"walltime": "1h"}', "walltime .* must be a number, not '1h'"),
        (b'{"walltime": true}', "walltime .* must be a number"),
        (b'{"walltime": 0}', "must be more than 0"),
        (b'{"walltime": 601}', "so that none could ever run it"),
    ],
)
def test_a_walltime_that_cannot_be(specification, words):
    with pytest.raises(ResourcesError, match=words):
        read(specification, longest_s=600.0)


REQUESTS = {
    "long": Request(walltime_s=599),
    "wide": Request(num_nodes=2),
    "good": Request(walltime_s=500),
}


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("dispatcher", [lambda: Slots(0), lambda: Packing(2, 2)])
def test_what_a_new_block_cannot_hold_fails_and_all_else_runs(dispatcher, new):
    """An older block has less time left than the next one will."""
    ledger = Ledger(dispatcher(), 0)
    tasks = [Task(name, "f", "group", b"") for name in (*REQUESTS, "plain")]
    ledger.handle(Submitted([Function("f", b"")], tasks, REQUESTS), 0.0)
    up = PoolUp("p", 4, 4, nodes=["n1"], ends_at=610.0, new=new)
    reports = [one for one in ledger.handle(up, 12.0) if isinstance(one, Report)]
    ended = {r.task_id: r.failure for report in reports for r in report.results}
    if not new:
        assert ended == {}
        return
    assert ended.keys() == {"long", "wide"}
    assert {failure.code for failure in ended.values()} == {codes.RESOURCES_REFUSED}
    assert "599 seconds (its walltime), and a new block" in ended["long"].message
    assert "had 598 left" in ended["long"].message
    assert "asks for 2 nodes, and a new block of this endpoint has come up with 1" in (
        ended["wide"].message
    )
    assert ledger.waiting == 2
    ledger.place(12.0)
    assert ledger.placed


def test_a_new_block_is_one_that_this_process_has_started_until_a_pool_is_up():
    blocks = Blocks(Bounds(2, 0, 2, 1.0), 1, first=8)
    blocks.adopt("7")
    blocks.first()
    assert [blocks.is_new(one) for one in ("7", "8", "9")] == [False, True, False]
    blocks.came_up("8", 1)
    assert not blocks.is_new("8")
