"""The queue of waiting tasks: order within a group, turns between groups."""

from mep.endpoint.interchange.events import Place, PoolUp, Submitted
from mep.endpoint.interchange.ledger import Ledger
from mep.endpoint.interchange.scheduler import Scheduler
from mep.endpoint.interchange.waiting import Waiting
from mep.wire.tasks import Function, Task


def drain(waiting):
    items = []
    while (following := waiting.peek()) is not None:
        items.append(waiting.pop())
        assert items[-1] == following
    return items


def test_groups_take_turns_and_keep_their_order():
    waiting = Waiting()
    for item in ("a1", "a2", "a3", "b1", "b2", "c1"):
        waiting.append(item[0], item)
    assert drain(waiting) == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert waiting.peek() is None


def test_what_comes_back_is_first_again():
    waiting = Waiting()
    for item in ("a2", "b2", "b3"):
        waiting.append(item[0], item)
    waiting.put_back("b", "b1")
    waiting.put_back("d", "d1")
    assert drain(waiting) == ["d1", "b1", "a2", "b2", "b3"]


def test_clear_takes_everything_out():
    waiting = Waiting()
    for item in ("a1", "b1", "a2"):
        waiting.append(item[0], item)
    assert sorted(waiting.clear()) == ["a1", "a2", "b1"]
    assert waiting.peek() is None


def test_a_large_group_does_not_hold_up_a_small_one():
    ledger = Ledger(Scheduler(0), 0)
    tasks = [Task(f"big-{n}", "f", "big", b"") for n in range(1000)]
    tasks += [Task(f"small-{n}", "f", "small", b"") for n in range(2)]
    ledger.handle(Submitted([Function("f", b"")], tasks), 0.0)
    ledger.handle(PoolUp("0.0", 4, 4), 0.0)
    (place,) = ledger.place()
    assert isinstance(place, Place)
    assert [task.task_id for task in place.tasks] == ["big-0", "small-0", "big-1", "small-1"]
