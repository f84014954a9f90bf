"""The packing of tasks that take whole nodes: each rule, the figures of a mix, all at random."""

import itertools
import math
import statistics

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from packing_simulator import Mix, block, simulate, waiter

from mep.endpoint.interchange.backlog import MOST_PASSES
from mep.endpoint.interchange.packing import MAX_PASSES, Packing, filling

MIXES = [Mix.drawn(seed) for seed in range(40)]


def placed(packing, now=0.0):
    """Whatever begins now: task id to nodes."""
    begun = {}
    while (placing := packing.next(now)) is not None:
        item, _, spec = placing
        begun[item.task.task_id] = spec["nodes"]
    return begun


def packing_of(*blocks, max_passes=MAX_PASSES, nodes=4):
    packing = Packing(nodes, nodes, max_passes)
    for one in blocks:
        packing.join(one)
    return packing


def add(packing, *items):
    for item in items:
        packing.add(item)
    return items


def utilisation(max_passes):
    return statistics.mean(simulate(mix, max_passes).utilisation for mix in MIXES)


def test_a_mix_uses_nearly_all_nodes_and_keeps_the_bound():
    outcomes = [simulate(mix, MAX_PASSES) for mix in MIXES]
    assert statistics.mean(one.utilisation for one in outcomes) >= 0.95
    assert max(one.most_passes for one in outcomes) <= MAX_PASSES


def test_each_pass_that_is_allowed_is_worth_something():
    in_turn, few, some, any_number = (utilisation(bound) for bound in (0, 8, 20, 10_000))
    assert in_turn == pytest.approx(0.82, abs=0.02)
    assert few == pytest.approx(0.93, abs=0.02)
    assert some == pytest.approx(0.95, abs=0.02)
    assert any_number == pytest.approx(0.98, abs=0.02)


def test_declared_walltimes_fill_the_gaps_that_turns_leave():
    mixes = [(simulate(mix, 0), simulate(mix, 0, declared=True)) for mix in MIXES]
    gains = [told.utilisation - untold.utilisation for untold, told in mixes]
    assert statistics.mean(gains) > 0.08


def test_a_task_stays_within_one_block():
    packing = packing_of(block("p", 2), block("q", 2), nodes=2)
    add(packing, waiter("wide", 2), waiter("a", 1), waiter("b", 1), waiter("next", 2))
    begun = placed(packing)
    assert {name.split("-")[0] for name in begun["wide"]} in ({"p"}, {"q"})
    assert set(begun) == {"wide", "next"}


def test_the_tightest_block_is_filled_first():
    packing = packing_of(block("p", 4), block("q", 4))
    add(packing, waiter("a", 3))
    placed(packing)
    add(packing, waiter("b", 1))
    assert placed(packing)["b"][0].startswith("p-")
    add(packing, waiter("c", 4))
    assert len(placed(packing)["c"]) == 4


def test_a_block_runs_no_more_tasks_than_it_has_workers():
    packing = packing_of(block("p", 4, most=2))
    items = add(packing, *(waiter(f"t{n}", 1) for n in range(3)))
    assert set(placed(packing)) == {"t0", "t1"}
    packing.free("p", items[:1])
    assert set(placed(packing)) == {"t2"}


def test_the_more_urgent_go_first_and_the_rest_fill_up():
    packing = packing_of(block("p", 4))
    add(packing, waiter("plain", 1), waiter("urgent", 3, priority=-1))
    assert list(placed(packing)) == ["urgent", "plain"]


def test_groups_take_turns():
    packing = packing_of(block("p", 1), nodes=1)
    items = {i.task.task_id: i for i in add(packing, *(waiter(f"a{n}", 1) for n in range(5)))}
    items |= {
        i.task.task_id: i for i in add(packing, *(waiter(f"b{n}", 1, group="h") for n in range(2)))
    }
    order = []
    for _ in items:
        (task_id,) = placed(packing)
        order.append(task_id)
        packing.free("p", [items[task_id]])
    assert order == ["a0", "a1", "b0", "a2", "b1", "a3", "a4"]


def test_nodes_are_kept_for_a_task_that_was_passed_over_too_often():
    packing = packing_of(block("p", 4), max_passes=2)
    first, second = add(packing, waiter("first", 1), waiter("second", 1))
    placed(packing)
    add(packing, waiter("wide", 4), waiter("b", 1), waiter("c", 1), waiter("d", 1))
    assert set(placed(packing)) == {"b", "c"}
    packing.free("p", [first, second])
    assert placed(packing) == {}


def test_the_greatest_bound_is_kept_too():
    packing = packing_of(block("p", 2), max_passes=MOST_PASSES, nodes=2)
    (busy,) = add(packing, waiter("busy", 1))
    placed(packing)
    add(packing, waiter("wide", 2))
    for number in range(MOST_PASSES):
        (small,) = add(packing, waiter(f"s{number}", 1))
        assert placed(packing)
        packing.free("p", [small])
    add(packing, waiter("one too many", 1))
    assert placed(packing) == {}
    packing.free("p", [busy])
    assert set(placed(packing)) == {"wide"}


def test_only_what_is_shown_to_end_in_time_goes_into_kept_nodes():
    packing = packing_of(block("p", 4), max_passes=0)
    (running,) = add(packing, waiter("running", 2, walltime_s=10))
    assert set(placed(packing, 100.0)) == {"running"}
    add(packing, waiter("wide", 4), waiter("untold", 1), waiter("long", 1, walltime_s=6))
    add(packing, waiter("short", 1, walltime_s=5))
    assert set(placed(packing, 105.0)) == {"short"}
    packing.free("p", [running])
    assert placed(packing, 107.0) == {}


def test_where_an_end_is_not_known_nothing_goes_into_kept_nodes():
    packing = packing_of(block("p", 4), max_passes=0)
    add(packing, waiter("running", 2), waiter("wide", 4), waiter("short", 1, walltime_s=1))
    assert set(placed(packing)) == {"running"}


def test_nodes_that_the_kept_task_leaves_over_are_for_anybody():
    packing = packing_of(block("p", 4), max_passes=0)
    add(packing, waiter("running", 3, walltime_s=10), waiter("half", 2), waiter("untold", 1))
    assert set(placed(packing)) == {"running", "untold"}


def test_a_kept_task_begins_wherever_there_is_room_first():
    packing = packing_of(block("p", 2), max_passes=0, nodes=2)
    add(packing, waiter("running", 1), waiter("wide", 2))
    assert set(placed(packing)) == {"running"}
    packing.join(block("q", 2))
    assert placed(packing) == {"wide": ["q-n0", "q-n1"]}


def test_cancelling_the_task_that_nodes_are_kept_for_frees_them():
    packing = packing_of(block("p", 2), max_passes=0, nodes=2)
    _, wide, _ = add(packing, waiter("running", 1), waiter("wide", 2), waiter("small", 1))
    assert set(placed(packing)) == {"running"}
    packing.remove(wide)
    assert set(placed(packing)) == {"small"}


def test_losing_the_block_that_is_kept_loses_nobodys_place():
    packing = packing_of(block("p", 2), max_passes=0, nodes=2)
    add(packing, waiter("running", 1), waiter("wide", 2), waiter("small", 1))
    placed(packing)
    packing.leave("p")
    packing.join(block("q", 2))
    assert list(placed(packing)) == ["wide"]


def test_a_block_that_ends_too_soon_gets_no_task_that_says_so():
    packing = packing_of(block("p", 4, ends_at=100.0))
    add(packing, waiter("long", 1, walltime_s=60), waiter("short", 1, walltime_s=50))
    assert set(placed(packing, 50.0)) == {"short"}


def test_a_closed_block_gets_nothing():
    packing = packing_of(block("p", 4))
    packing.hold("p")
    add(packing, waiter("a", 1))
    assert placed(packing) == {}


def test_demand_is_in_nodes_and_counts_workers_where_they_are_scarcer():
    packing = Packing(8, 2)
    packing.join(block("p", 8, most=2))
    add(packing, waiter("a", 1), waiter("b", 6))
    assert packing.demand(2, 0) == (10, 0)
    placed(packing)
    assert packing.demand(0, 2) == (0, 8)


def test_nodes_that_no_waiting_task_can_have_meet_no_demand():
    packing = packing_of(block("p", 4), block("q", 4))
    add(packing, waiter("a", 2), waiter("b", 3))
    placed(packing)
    assert packing.demand(0, 2) == (0, 5)
    add(packing, waiter("wide", 3))
    assert placed(packing) == {}
    assert packing.demand(1, 2) == (3, 8)


def test_what_runs_on_a_block_that_gets_nothing_more_is_no_demand():
    packing = packing_of(block("p", 4))
    add(packing, waiter("a", 2))
    placed(packing)
    packing.hold("p")
    assert packing.demand(0, 1) == (0, 0)


def test_clearing_takes_what_nodes_are_kept_for_too():
    packing = packing_of(block("p", 2), max_passes=0, nodes=2)
    add(packing, waiter("running", 1), waiter("wide", 2), waiter("small", 1))
    placed(packing)
    left = packing.clear()
    assert [item.task.task_id for item in left] == ["wide", "small"]
    for item in left:
        packing.remove(item)
    assert packing.demand(0, 1) == (0, 1)


@given(
    free=st.integers(1, 24),
    slots=st.integers(1, 8),
    counts=st.dictionaries(st.integers(1, 24), st.integers(1, 3), min_size=1, max_size=4),
)
@example(free=10, slots=2, counts={1: 1, 5: 2, 6: 1})  # no slot is left, and yet there is better
def test_no_filling_leaves_fewer_nodes_idle(free, slots, counts):
    counts = {size: count for size, count in counts.items() if size <= free}
    chosen = filling(free, slots, counts) if counts else []
    assert len(chosen) <= slots
    assert all(chosen.count(size) <= counts[size] for size in chosen)
    tasks = [size for size, count in counts.items() for _ in range(count)]
    every = itertools.chain.from_iterable(
        itertools.combinations(tasks, number) for number in range(min(slots, len(tasks)) + 1)
    )
    assert sum(chosen) == max((sum(one) for one in every if sum(one) <= free), default=0)


class PackingMachine(RuleBasedStateMachine):
    """No node is given twice, none is lost, nobody is passed over too often, all begin."""

    NODES = 5
    MOST = 4
    MAX_PASSES = 3

    def __init__(self):
        super().__init__()
        self.packing = Packing(self.NODES, self.MOST, self.MAX_PASSES)
        self.serial = 0
        self.now = 0.0
        self.blocks = {}
        self.closed = set()
        self.waiting = {}
        self.running = {}
        self.passes = {}

    def kept(self):
        """Pool id to task, as the policy itself has it."""
        rooms = self.packing._rooms.values()
        return {room.pool_id: room.kept_for for room in rooms if room.kept_for is not None}

    def opening(self, pool_id, nodes, besides=()):
        """When so many nodes of a block are free, if every task ends when it says."""
        runs = [(end, len(names)) for at, _, names, end in self.running.values() if at == pool_id]
        runs = sorted([*runs, *besides])
        free = self.NODES - sum(count for _, count in runs)
        slots = self.MOST - len(runs)
        for end, count in runs:
            free, slots = free + count, slots + 1
            if free >= nodes and slots:
                return end
        return math.inf

    def take_one(self):
        before = self.kept()
        placing = self.packing.next(self.now)
        if placing is None:
            return False
        item, pool_id, spec = placing
        nodes, names = item.request.num_nodes, spec["nodes"]
        task_id = item.task.task_id
        walltime_s = item.request.walltime_s
        ends = math.inf if walltime_s is None else self.now + walltime_s
        assert len(names) == len(set(names)) == nodes
        assert set(names) <= set(self.blocks[pool_id].nodes)
        assert pool_id not in self.closed
        holder = before.get(pool_id)
        if holder is not None and holder is not item:
            promised = self.opening(pool_id, holder.request.num_nodes)
            assert promised < math.inf
            assert self.opening(pool_id, holder.request.num_nodes, [(ends, nodes)]) <= promised
        elif item not in before.values():
            for other in self.waiting.values():
                if other.order > item.order or other in self.kept().values():
                    continue
                self.passes[other.task.task_id] += other is not item
        del self.waiting[task_id]
        self.running[task_id] = (pool_id, item, names, ends)
        return True

    @rule(nodes=st.integers(1, 5), walltime_s=st.none() | st.integers(1, 9), group=st.booleans())
    def submit(self, nodes, walltime_s, group):
        self.serial += 1
        item = waiter(f"t{self.serial}", nodes, walltime_s, group="gh"[group])
        self.waiting[item.task.task_id] = item
        self.passes[item.task.task_id] = 0
        self.packing.add(item)

    @precondition(lambda self: len(self.blocks) < 3)
    @rule()
    def block_comes(self):
        self.serial += 1
        self.blocks[f"p{self.serial}"] = block(f"p{self.serial}", self.NODES, self.MOST)
        self.packing.join(self.blocks[f"p{self.serial}"])

    @rule(seconds=st.integers(0, 5))
    def place(self, seconds):
        self.now += seconds
        while self.take_one():
            pass
        kept = self.kept()
        for pool_id in self.blocks.keys() - self.closed - kept.keys():
            mine = [names for at, _, names, _ in self.running.values() if at == pool_id]
            free = self.NODES - sum(map(len, mine))
            left = [i for i in self.waiting.values() if i not in kept.values()]
            if len(mine) < self.MOST:
                assert all(item.request.num_nodes > free for item in left)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), again=st.booleans())
    def end(self, data, again):
        task_id = data.draw(st.sampled_from(sorted(self.running)))
        pool_id, item, _, _ = self.running.pop(task_id)
        self.packing.free(pool_id, [item])
        if again:
            self.wait_again(item)

    def wait_again(self, item):
        self.waiting[item.task.task_id] = item
        self.passes[item.task.task_id] = 0
        self.packing.put_back(item)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data):
        task_id = data.draw(st.sampled_from(sorted(self.waiting)))
        self.packing.remove(self.waiting.pop(task_id))

    @precondition(lambda self: self.blocks.keys() - self.closed)
    @rule(data=st.data())
    def close(self, data):
        pool_id = data.draw(st.sampled_from(sorted(self.blocks.keys() - self.closed)))
        self.closed.add(pool_id)
        self.packing.hold(pool_id)

    @precondition(lambda self: self.blocks)
    @rule(data=st.data(), again=st.booleans())
    def block_dies(self, data, again):
        pool_id = data.draw(st.sampled_from(sorted(self.blocks)))
        del self.blocks[pool_id]
        self.closed.discard(pool_id)
        self.packing.leave(pool_id)
        lost = [task_id for task_id, run in self.running.items() if run[0] == pool_id]
        items = [self.running.pop(task_id)[1] for task_id in lost]
        for item in items if again else ():
            self.wait_again(item)

    @invariant()
    def no_node_is_given_twice(self):
        given = [name for _, _, names, _ in self.running.values() for name in names]
        assert len(given) == len(set(given))

    @invariant()
    def no_block_runs_too_many(self):
        for pool_id in self.blocks:
            assert self.packing.held(pool_id) <= self.MOST

    @invariant()
    def nobody_is_passed_over_too_often(self):
        assert all(self.passes[task_id] <= self.MAX_PASSES for task_id in self.waiting)

    @invariant()
    def demand_is_what_there_is(self):
        waiting = sum(max(2, item.request.num_nodes) for item in self.waiting.values())
        assert self.packing.demand(0, 0)[0] == waiting

    def teardown(self):
        """Whatever happened: with a block that lives on, everything begins."""
        self.block_comes()
        while self.waiting or self.running:
            self.place(1)
            assert self.running
            for pool_id, item, _, _ in self.running.values():
                self.packing.free(pool_id, [item])
            self.running.clear()


PackingMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPackingMachine = PackingMachine.TestCase
