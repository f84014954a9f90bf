"""The queue of waiting tasks: by priority, order within a group, turns between groups."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from mep.endpoint.interchange.events import Place, PoolUp, Submitted
from mep.endpoint.interchange.ledger import Ledger
from mep.endpoint.interchange.request import Request
from mep.endpoint.interchange.slots import Slots
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
    ledger = Ledger(Slots(0), 0)
    tasks = [Task(f"big-{n}", "f", "big", b"") for n in range(1000)]
    tasks += [Task(f"small-{n}", "f", "small", b"") for n in range(2)]
    ledger.handle(Submitted([Function("f", b"")], tasks), 0.0)
    ledger.handle(PoolUp("0.0", 4, 4), 0.0)
    (place,) = ledger.place(1.0)
    assert isinstance(place, Place)
    assert [task.task_id for task in place.tasks] == ["big-0", "small-0", "big-1", "small-1"]


def test_a_lower_number_runs_first_and_none_last():
    waiting = Waiting()
    waiting.append("a", "none")
    waiting.append("a", "five", 5)
    waiting.append("b", "minus", -1)
    waiting.append("a", "half", 0.5)
    waiting.append("a", "five again", 5)
    assert drain(waiting) == ["minus", "half", "five", "five again", "none"]


def test_a_priority_that_comes_later_goes_first():
    waiting = Waiting()
    waiting.append("a", "low", 9)
    assert waiting.peek() == "low"
    waiting.append("a", "high", 1)
    waiting.put_back("b", "back", 9)
    assert drain(waiting) == ["high", "back", "low"]


ITEMS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from([-1, 0, 2.5, None]), st.booleans()),
    max_size=60,
)


@given(ITEMS)
def test_order_and_turns_hold_for_any_mixture(items):
    """True in an item: something is taken out after it came."""
    waiting = Waiting()
    model = {}  # priority -> group -> items, in order
    turn = {}  # priority -> groups, the one that has waited longest for its turn first

    def take():
        priority = min(model)
        expected = turn[priority].popleft()
        queue = model[priority][expected]
        item = queue.popleft()
        if queue:
            turn[priority].append(expected)
        else:
            del model[priority][expected]
        if not model[priority]:
            del model[priority], turn[priority]
        assert waiting.peek() == item
        assert waiting.pop() == item

    for number, (group, priority, taken) in enumerate(items):
        rank = float("inf") if priority is None else priority
        item = (group, priority, number)
        if priority is None:
            waiting.append(group, item)
        else:
            waiting.append(group, item, priority)
        groups = model.setdefault(rank, {})
        if group not in groups:
            turn.setdefault(rank, deque()).append(group)
        groups.setdefault(group, deque()).append(item)
        if taken:
            take()
    while model:
        take()
    assert waiting.peek() is None


@given(st.integers(1, 5), st.integers(1, 30))
def test_no_group_starves_beside_one_that_never_ends(groups, pops):
    """Each pop of one group is answered by a new item of it: the others still get their turns."""
    waiting = Waiting()
    for group in range(groups):
        waiting.append(f"small-{group}", f"small-{group}", 3)
    waiting.append("endless", "endless", 3)
    seen = []
    for _ in range(pops):
        item = waiting.pop()
        seen.append(item)
        if item == "endless":
            waiting.append("endless", "endless", 3)
        if waiting.peek() is None:
            break
    assert set(seen) >= {f"small-{group}" for group in range(min(groups, pops))}


def test_priorities_reach_the_pools_in_their_order():
    ledger = Ledger(Slots(0), 0)
    tasks = [Task(f"t{n}", "f", "g", b"") for n in range(4)]
    requests = {"t2": Request(priority=1), "t3": Request(priority=-5)}
    ledger.handle(Submitted([Function("f", b"")], tasks, requests), 0.0)
    ledger.handle(PoolUp("0.0", 4, 4), 0.0)
    (place,) = ledger.place(0.0)
    assert [task.task_id for task in place.tasks] == ["t3", "t2", "t0", "t1"]
