"""The ledger: each way that a task can go, and then all of them at random."""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mep.endpoint.interchange.events import (
    CancelAsked,
    CancelAt,
    Finished,
    Place,
    PoolHeld,
    PoolLost,
    PoolUp,
    Recall,
    Report,
    Returned,
    Started,
    Submitted,
    Tell,
    Unplaced,
)
from mep.endpoint.interchange.ledger import FREE_LOSSES, Ledger
from mep.endpoint.interchange.slots import Slots
from mep.wire import codes
from mep.wire.tasks import Failure, Function, Result, Task

F = Function("f", b"body")


def task(task_id, function_id="f"):
    return Task(task_id, function_id, "group", b"")


def ok(task_id, took=0.001):
    return Result(task_id, "success", b"v", None, 1.0, 1.0 + took)


def lost(task_id):
    return Result(task_id, "failed", b"", Failure(codes.WORKER_LOST, "died"), 1.0, 1.1)


def ledger_with(*task_ids, retries=0, prefetch=0, workers=2, credit=100):
    ledger = Ledger(Slots(prefetch), retries)
    ledger.handle(Submitted([F], [task(i) for i in task_ids]), 0.0)
    ledger.handle(PoolUp("p", workers, credit), 0.0)
    return ledger, ledger.place(1.0)


def ids(instructions, kind):
    (one,) = [i for i in instructions if isinstance(i, kind)]
    match one:
        case Place():
            return [t.task_id for t in one.tasks]
        case Report():
            return [
                (r.task_id, r.outcome, r.failure.code if r.failure else "") for r in one.results
            ]
        case Tell():
            return [(c.task_id, c.state) for c in one.changes]
        case CancelAt() | Recall():
            return one.task_ids


def test_tasks_wait_for_a_pool_and_say_so():
    ledger = Ledger(Slots(0), 0)
    told = ledger.handle(Submitted([F], [task("a")]), 5.0)
    assert ids(told, Tell) == [("a", "waiting-for-nodes")]
    assert ledger.place(1.0) == []
    assert (ledger.waiting, ledger.placed) == (1, 0)


def test_a_pool_gets_what_its_workers_take_and_the_function_once():
    ledger, placed = ledger_with("a", "b", "c")
    assert placed == [Place("p", [F], [task("a"), task("b")])]
    ended = ledger.handle(Finished("p", [ok("a")]), 1.0)
    assert ids(ended, Report) == [("a", "success", "")]
    assert ledger.place(1.0) == [Place("p", [], [task("c")])]


def test_a_second_result_and_a_second_submit_are_dropped():
    ledger, _ = ledger_with("a")
    assert ledger.handle(Submitted([F], [task("a")]), 1.0) == []
    ledger.handle(Finished("p", [ok("a")]), 1.0)
    assert ledger.handle(Finished("p", [ok("a")]), 1.0) == []
    assert (ledger.waiting, ledger.placed) == (0, 0)


def test_a_function_that_never_came_fails_its_task():
    ledger = Ledger(Slots(0), 0)
    told = ledger.handle(Submitted([], [task("a", "unknown")]), 1.0)
    assert ids(told, Report) == [("a", "failed", codes.DESERIALIZATION_FAILED)]


def test_started_is_told_once():
    ledger, _ = ledger_with("a")
    assert ids(ledger.handle(Started("p", [("a", 3.0)]), 3.1), Tell) == [("a", "running")]
    assert ledger.handle(Started("p", [("a", 3.0)]), 3.1) == []


def test_a_lost_pool_requeues_what_had_not_begun_in_order():
    ledger, _ = ledger_with("a", "b", "c", "d", workers=2, prefetch=2)
    told = ledger.handle(PoolLost("p", "was ended by signal 9 (SIGKILL)", begun=range(2)), 2.0)
    assert ids(told, Report) == [
        ("a", "failed", codes.WORKER_LOST),
        ("b", "failed", codes.WORKER_LOST),
    ]
    assert ids(told, Tell) == [("c", "waiting-for-nodes"), ("d", "waiting-for-nodes")]
    ledger.handle(PoolUp("q", 4, 4), 3.0)
    assert ids(ledger.place(1.0), Place) == ["c", "d"]


def lose_by_walltime(ledger, number):
    ledger.handle(PoolLost(f"p{number}", "ended with its job", None, by_walltime=True), 2.0)
    ledger.handle(PoolUp(f"p{number + 1}", 1, 1), 3.0)
    return ledger.place(3.0)


def on_first_pool(retries):
    ledger = Ledger(Slots(0), retries)
    ledger.handle(Submitted([F], [task("a")]), 0.0)
    ledger.handle(PoolUp("p0", 1, 1), 0.0)
    ledger.place(0.0)
    return ledger


def test_the_end_of_a_blocks_walltime_costs_no_retry_a_few_times():
    ledger = on_first_pool(retries=1)
    for number in range(FREE_LOSSES + 1):
        assert ids(lose_by_walltime(ledger, number), Place) == ["a"], number
    last = PoolLost(f"p{FREE_LOSSES + 1}", "ended with its job", None, by_walltime=True)
    assert ids(ledger.handle(last, 2.0), Report) == [("a", "failed", codes.WORKER_LOST)]


def test_where_nothing_may_run_twice_the_end_of_a_walltime_is_the_end():
    ledger = on_first_pool(retries=0)
    told = ledger.handle(PoolLost("p0", "x", None, by_walltime=True), 2.0)
    assert ids(told, Report) == [("a", "failed", codes.WORKER_LOST)]


def test_what_a_lost_job_wrote_comes_with_its_tasks():
    ledger = on_first_pool(retries=0)
    told = ledger.handle(PoolLost("p0", "ended", None, stderr="slurmstepd: killed"), 2.0)
    (report,) = [one for one in told if isinstance(one, Report)]
    assert report.results[0].failure.traceback == "slurmstepd: killed"


def test_what_had_begun_need_not_have_come_first():
    ledger, _ = ledger_with("a", "b", "c", "d", workers=2, prefetch=2)
    told = ledger.handle(PoolLost("p", "died", begun={0, 2}), 2.0)
    assert [task_id for task_id, *_ in ids(told, Report)] == ["a", "c"]
    ledger.handle(PoolUp("q", 4, 4), 3.0)
    assert ids(ledger.place(1.0), Place) == ["b", "d"]


def test_a_pool_lost_without_a_count_may_have_begun_everything():
    ledger, _ = ledger_with("a", "b", prefetch=2, workers=1)
    told = ledger.handle(PoolLost("p", "fell silent", begun=None), 2.0)
    assert len(ids(told, Report)) == 2


def test_a_started_task_has_begun_whatever_the_count_says():
    ledger, _ = ledger_with("a")
    ledger.handle(Started("p", [("a", 1.0)]), 1.0)
    told = ledger.handle(PoolLost("p", "died", begun=range(0)), 2.0)
    assert ids(told, Report) == [("a", "failed", codes.WORKER_LOST)]


def test_retries_are_counted():
    ledger, _ = ledger_with("a", retries=1)
    told = ledger.handle(Finished("p", [lost("a")]), 1.0)
    assert ids(told, Tell) == [("a", "waiting-for-nodes")]
    assert ids(ledger.place(1.0), Place) == ["a"]
    told = ledger.handle(Finished("p", [lost("a")]), 1.0)
    assert ids(told, Report) == [("a", "failed", codes.WORKER_LOST)]


def test_cancel_where_the_task_is():
    ledger, _ = ledger_with("a", "b", workers=1)
    told = ledger.handle(CancelAsked(["a", "b", "nobody"]), 1.0)
    assert ids(told, CancelAt) == ["a"]
    assert ids(told, Report) == [("b", "cancelled", codes.CANCELLED)]
    told = ledger.handle(Finished("p", [lost("a")]), 1.0)
    assert ids(told, Report) == [("a", "cancelled", codes.CANCELLED)]


def test_a_cancelled_task_is_not_run_again():
    ledger, _ = ledger_with("a", "b", retries=5, workers=1, prefetch=1)
    ledger.handle(CancelAsked(["a", "b"]), 1.0)
    told = ledger.handle(Returned("p", ["b"]), 1.0)
    assert ids(told, Report) == [("b", "cancelled", codes.CANCELLED)]
    told = ledger.handle(PoolLost("p", "died", begun=range(1)), 1.0)
    assert ids(told, Report) == [("a", "cancelled", codes.CANCELLED)]


def test_a_result_that_was_faster_than_the_cancel_counts():
    ledger, _ = ledger_with("a")
    ledger.handle(CancelAsked(["a"]), 1.0)
    assert ids(ledger.handle(Finished("p", [ok("a")]), 1.0), Report) == [("a", "success", "")]


def test_idle_workers_get_what_waits_at_another_pool():
    ledger, _ = ledger_with("a", "b", "c", "d", workers=1, prefetch=3)
    ledger.handle(PoolUp("q", 2, 10), 1.0)
    assert ids(ledger.place(1.0), Recall) == ["d", "c"]
    assert ledger.place(1.0) == []
    ledger.handle(Returned("p", ["c", "d"]), 1.0)
    (placed,) = ledger.place(1.0)
    assert (placed.pool_id, [t.task_id for t in placed.tasks]) == ("q", ["c", "d"])


def test_a_held_pool_gets_nothing():
    ledger, _ = ledger_with()
    ledger.handle(PoolHeld("p"), 1.0)
    ledger.handle(Submitted([F], [task("a")]), 1.0)
    assert ledger.place(1.0) == []


def test_tasks_that_may_not_leave_end_and_leave_no_trace_at_the_pool():
    ledger, _ = ledger_with()
    ledger.handle(Submitted([F], [task("a"), task("b")]), 1.0)
    assert ids(ledger.place(1.0), Place) == ["a", "b"]
    told = ledger.handle(Unplaced(["a", "b"], codes.ENGINE_FAILED, "disk full"), 1.0)
    assert ids(told, Report) == [
        ("a", "failed", codes.ENGINE_FAILED),
        ("b", "failed", codes.ENGINE_FAILED),
    ]
    ledger.handle(Submitted([F], [task("c")]), 2.0)
    assert ledger.place(1.0) == [Place("p", [F], [task("c")])]
    told = ledger.handle(PoolLost("p", "died", begun=range(0)), 3.0)
    assert ids(told, Tell) == [("c", "waiting-for-nodes")]


def test_closing_places_and_retries_nothing():
    ledger, _ = ledger_with("a", "b", retries=3, workers=1)
    ledger.closing = True
    told = ledger.handle(PoolLost("p", "was stopped", begun=range(1)), 1.0)
    assert ids(told, Report) == [("a", "failed", codes.WORKER_LOST)]
    ledger.handle(PoolUp("q", 1, 1), 1.0)
    assert ledger.place(1.0) == []
    assert ledger.waiting == 1


def test_failing_what_waits_spares_what_is_placed():
    ledger, _ = ledger_with("a", "b", workers=1)
    told = ledger.fail_waiting(codes.ENGINE_FAILED, "no node pool came up", 1.0)
    assert ids(told, Report) == [("b", "failed", codes.ENGINE_FAILED)]
    assert (ledger.waiting, ledger.placed) == (0, 1)


def test_an_event_of_an_unknown_pool_is_an_error():
    with pytest.raises(KeyError):
        Ledger(Slots(0), 0).handle(Finished("p", []), 1.0)


class _FakePool:
    """A node pool that does everything right, until it dies."""

    def __init__(self, workers, credit):
        self.workers = workers
        self.credit = credit
        self.queue = []
        self.running = []
        self.given = 0
        self.places = {}
        self.begun = set()
        self.functions = set()


class LedgerMachine(RuleBasedStateMachine):
    """N submitted, N ended once; credits are kept; without retries nothing runs twice."""

    RETRIES = 0

    def __init__(self):
        super().__init__()
        self.ledger = Ledger(Slots(None), self.RETRIES)
        self.pools = {}
        self.serial = 0
        self.submitted = set()
        self.cancelled = set()
        self.ended = Counter()
        self.executions = Counter()

    def obey(self, instructions):
        for instruction in instructions:
            match instruction:
                case Place(pool_id, functions, tasks):
                    pool = self.pools[pool_id]
                    pool.functions |= {f.function_id for f in functions}
                    assert {t.function_id for t in tasks} <= pool.functions
                    pool.queue += [t.task_id for t in tasks]
                    pool.places |= {t.task_id: n for n, t in enumerate(tasks, pool.given)}
                    pool.given += len(tasks)
                    assert len(pool.queue) + len(pool.running) <= pool.credit
                case CancelAt(pool_id, task_ids):
                    self.cancel_at(pool_id, task_ids)
                case Recall(pool_id, task_ids):
                    pool = self.pools[pool_id]
                    back = [i for i in pool.queue if i in task_ids]
                    pool.queue = [i for i in pool.queue if i not in task_ids]
                    self.feed(Returned(pool_id, back))
                case Report(results):
                    self.ended.update(r.task_id for r in results)
                    for result in results:
                        assert result.outcome != "cancelled" or result.task_id in self.cancelled

    def cancel_at(self, pool_id, task_ids):
        pool = self.pools[pool_id]
        gone = [i for i in (*pool.queue, *pool.running) if i in task_ids]
        pool.queue = [i for i in pool.queue if i not in task_ids]
        pool.running = [i for i in pool.running if i not in task_ids]
        failure = Failure(codes.CANCELLED, "cancelled")
        self.feed(Finished(pool_id, [Result(i, "cancelled", b"", failure) for i in gone]))

    def feed(self, event):
        self.obey(self.ledger.handle(event, 1.0))

    @rule(count=st.integers(1, 20))
    def submit(self, count):
        fresh = [f"t{self.serial + n}" for n in range(count)]
        self.serial += count
        self.submitted.update(fresh)
        self.feed(Submitted([F], [task(i) for i in fresh]))

    @rule(workers=st.integers(1, 4), extra=st.integers(0, 12))
    def pool_comes(self, workers, extra):
        self.serial += 1
        pool_id = f"p{self.serial}"
        self.pools[pool_id] = _FakePool(workers, workers + extra)
        self.feed(PoolUp(pool_id, workers, workers + extra))

    @rule()
    def place(self):
        self.obey(self.ledger.place(1.0))

    @precondition(lambda self: self.pools)
    @rule(data=st.data(), told=st.booleans())
    def start_some(self, data, told):
        pool_id = data.draw(st.sampled_from(sorted(self.pools)))
        pool = self.pools[pool_id]
        fresh = []
        while pool.queue and len(pool.running) < pool.workers:
            fresh.append(pool.queue.pop(data.draw(st.integers(0, len(pool.queue) - 1))))
        pool.begun |= {pool.places[i] for i in fresh}
        pool.running += fresh
        self.executions.update(fresh)
        if told:
            self.feed(Started(pool_id, [(i, 1.0) for i in fresh]))

    @precondition(lambda self: any(pool.running for pool in self.pools.values()))
    @rule(data=st.data(), worker_dies=st.booleans(), took=st.sampled_from([0.001, 0.02, 1.0]))
    def end_some(self, data, worker_dies, took):
        busy = sorted(pool_id for pool_id, pool in self.pools.items() if pool.running)
        pool_id = data.draw(st.sampled_from(busy))
        pool = self.pools[pool_id]
        some = data.draw(st.lists(st.sampled_from(pool.running), min_size=1, unique=True))
        pool.running = [i for i in pool.running if i not in some]
        self.feed(Finished(pool_id, [lost(i) if worker_dies else ok(i, took) for i in some]))

    @precondition(lambda self: self.pools)
    @rule(data=st.data())
    def pool_dies(self, data):
        pool_id = data.draw(st.sampled_from(sorted(self.pools)))
        self.feed(PoolLost(pool_id, "died", self.pools.pop(pool_id).begun))

    @precondition(lambda self: self.submitted)
    @rule(data=st.data())
    def cancel(self, data):
        some = data.draw(st.lists(st.sampled_from(sorted(self.submitted)), max_size=5))
        self.cancelled.update(some)
        self.feed(CancelAsked(some))

    @invariant()
    def none_ends_twice_and_none_is_forgotten(self):
        assert set(self.ended) <= self.submitted
        assert not self.ended or max(self.ended.values()) == 1
        assert self.ledger.waiting + self.ledger.placed == len(self.submitted) - len(self.ended)
        at_pools = sum(len(pool.queue) + len(pool.running) for pool in self.pools.values())
        assert self.ledger.placed == at_pools

    @invariant()
    def none_runs_more_often_than_it_may(self):
        assert not self.executions or max(self.executions.values()) <= 1 + self.RETRIES

    def teardown(self):
        """One good pool, and everything comes to its end."""
        for pool_id in list(self.pools):
            self.feed(PoolLost(pool_id, "died", self.pools.pop(pool_id).begun))
        self.pools["last"] = _FakePool(2, 4)
        self.feed(PoolUp("last", 2, 4))
        for _ in range(len(self.submitted) + 1):
            self.place()
            pool = self.pools["last"]
            done, pool.queue = pool.queue, []
            if done:
                self.executions.update(done)
                self.feed(Finished("last", [ok(i) for i in done]))
        assert set(self.ended) == self.submitted
        self.none_ends_twice_and_none_is_forgotten()
        self.none_runs_more_often_than_it_may()


class LedgerMachineWithRetries(LedgerMachine):
    RETRIES = 2


LedgerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
LedgerMachineWithRetries.TestCase.settings = LedgerMachine.TestCase.settings
TestLedger = LedgerMachine.TestCase
TestLedgerWithRetries = LedgerMachineWithRetries.TestCase
