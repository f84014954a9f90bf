"""The ledger over the deaths of its process, and with node pools that come back, at random.

Around it a model of all that lasts: the journal, the relay, and node pools that go on meanwhile.
"""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mep.endpoint.inheritance import Left, judge
from mep.endpoint.interchange.events import (
    AwaitOver,
    CancelAsked,
    CancelAt,
    Finished,
    Inherited,
    Late,
    Lost,
    Place,
    PoolHeld,
    PoolLost,
    PoolUp,
    Recall,
    Release,
    Report,
    Returned,
    Started,
    Submitted,
    Tell,
    Unplaced,
)
from mep.endpoint.interchange.ledger import Ledger
from mep.endpoint.interchange.slots import Slots
from mep.wire import codes
from mep.wire.tasks import Failure, Function, Result, Task

F = Function("f", b"body")


def ok(task_id):
    return Result(task_id, "success", b"v", None, 1.0, 1.001)


def worker_lost(task_id):
    return Result(task_id, "failed", b"", Failure(codes.WORKER_LOST, "died"), 1.0, 1.1)


class Pool:
    """Runs what it has, whether somebody listens or not."""

    def __init__(self, workers, credit):
        self.workers = workers
        self.credit = credit
        self.queue = []
        self.running = []
        self.told = []
        """Results on their way, or kept until somebody listens."""
        self.known = True
        self.counted_as_lost = False

    @property
    def holds(self):
        return [*self.queue, *self.running, *(result.task_id for result in self.told)]


class House(RuleBasedStateMachine):
    """N tasks, N ends; no task runs more often than it may, whoever dies, stops or comes back."""

    RETRIES = 0

    def __init__(self):
        super().__init__()
        self.ledger = Ledger(Slots(None), self.RETRIES)
        self.pools = {}
        self.serial = 0
        self.submitted = set()
        self.ends = Counter()
        self.executions = Counter()
        self.started = {}
        self.losses = Counter()
        self.held_pools = set()
        self.disk_full = False

    # --- what the instructions do

    def obey(self, instructions):
        for instruction in instructions:
            match instruction:
                case Place(pool_id, _, tasks):
                    self.place_at(pool_id, [task.task_id for task in tasks])
                case CancelAt(pool_id, task_ids):
                    self.cancel_at(pool_id, task_ids)
                case Recall(pool_id, task_ids):
                    self.recall(pool_id, task_ids)
                case _:
                    self.endpoint_hears(instruction)

    def endpoint_hears(self, instruction):
        match instruction:
            case Report(results):
                for result in results:
                    self.ends[result.task_id] += 1
                    self.started.pop(result.task_id, None)
                    self.losses.pop(result.task_id, None)
            case Tell(changes):
                for change in changes:
                    if change.state == "waiting-for-nodes":
                        self.started.pop(change.task_id, None)
            case Lost(task_ids):
                self.losses.update(task_ids)
            case Release(task_ids):
                for task_id in task_ids:
                    self.started.pop(task_id, None)
                self.send(task_ids)

    def place_at(self, pool_id, task_ids):
        pool = self.pools[pool_id]
        assert pool.known
        assert pool_id not in self.held_pools
        for task_id in task_ids:
            assert not self.ends[task_id]
            if not self.RETRIES:
                assert not any(task_id in other.holds for other in self.pools.values())
        assert len(pool.queue) + len(pool.running) + len(task_ids) <= pool.credit
        self.started.update(dict.fromkeys(task_ids, pool_id))
        pool.queue += task_ids

    def cancel_at(self, pool_id, task_ids):
        pool = self.pools.get(pool_id)
        if pool is None or not pool.known:
            return
        gone = [one for one in (*pool.queue, *pool.running) if one in task_ids]
        pool.queue = [one for one in pool.queue if one not in task_ids]
        pool.running = [one for one in pool.running if one not in task_ids]
        failure = Failure(codes.CANCELLED, "cancelled")
        self.feed(Finished(pool_id, [Result(i, "cancelled", b"", failure) for i in gone]))

    def recall(self, pool_id, task_ids):
        pool = self.pools[pool_id]
        back = [one for one in pool.queue if one in task_ids]
        pool.queue = [one for one in pool.queue if one not in task_ids]
        self.feed(Returned(pool_id, back))

    def feed(self, event):
        self.obey(self.ledger.handle(event, 1.0))

    def send(self, task_ids):
        """The relay, to the user endpoint."""
        self.feed(Submitted([F], [Task(one, "f", "g", b"") for one in task_ids]))

    def some_pool(self, data, *, fits):
        return data.draw(st.sampled_from(sorted(i for i, one in self.pools.items() if fits(one))))

    # --- everyday life

    @rule(count=st.integers(1, 5))
    def submit(self, count):
        fresh = [f"t{self.serial + n}" for n in range(count)]
        self.serial += count
        self.submitted.update(fresh)
        self.send(fresh)

    @rule(workers=st.integers(1, 3), extra=st.integers(0, 6))
    def a_pool_comes(self, workers, extra):
        self.serial += 1
        pool_id = f"{self.serial}.n.1"
        self.pools[pool_id] = Pool(workers, workers + extra)
        self.feed(PoolUp(pool_id, workers, workers + extra))

    @rule()
    def place(self):
        instructions = self.ledger.place(1.0)
        starting = [t.task_id for i in instructions if isinstance(i, Place) for t in i.tasks]
        if self.disk_full and starting:
            self.feed(Unplaced(starting, codes.ENGINE_FAILED, "disk full"))
            instructions = [one for one in instructions if not isinstance(one, Place)]
        self.obey(instructions)

    @rule()
    def the_disk_fills_or_empties(self):
        self.disk_full = not self.disk_full

    @precondition(lambda self: any(pool.queue for pool in self.pools.values()))
    @rule(data=st.data(), told=st.booleans())
    def begin(self, data, told):
        """A pool that counts as lost has no lease any more, and begins nothing."""
        pool_id = self.some_pool(data, fits=lambda pool: pool.queue)
        pool = self.pools[pool_id]
        if pool.counted_as_lost:
            return
        while pool.queue and len(pool.running) < pool.workers:
            pool.running.append(pool.queue.pop(0))
            self.executions[pool.running[-1]] += 1
        if pool.known and told:
            self.feed(Started(pool_id, [(one, 1.0) for one in pool.running]))

    @precondition(lambda self: any(pool.running for pool in self.pools.values()))
    @rule(data=st.data(), dies=st.booleans())
    def end(self, data, dies):
        pool_id = self.some_pool(data, fits=lambda pool: pool.running)
        pool = self.pools[pool_id]
        task_id = pool.running.pop(0)
        pool.told.append(worker_lost(task_id) if dies else ok(task_id))

    @precondition(lambda self: any(pool.told for pool in self.pools.values()))
    @rule(data=st.data())
    def results_arrive(self, data):
        pool_id = self.some_pool(data, fits=lambda pool: pool.told)
        pool = self.pools[pool_id]
        if pool.known:
            told, pool.told = pool.told, []
            self.feed(Finished(pool_id, told))

    @precondition(lambda self: self.submitted)
    @rule(data=st.data())
    def cancel(self, data):
        some = st.lists(st.sampled_from(sorted(self.submitted)), max_size=4)
        self.feed(CancelAsked(data.draw(some)))

    @precondition(lambda self: any(pool.known for pool in self.pools.values()))
    @rule(data=st.data())
    def hold(self, data):
        pool_id = self.some_pool(data, fits=lambda pool: pool.known)
        self.held_pools.add(pool_id)
        self.feed(PoolHeld(pool_id))

    # --- trouble

    @precondition(lambda self: any(pool.known for pool in self.pools.values()))
    @rule(data=st.data())
    def a_pool_dies(self, data):
        pool_id = self.some_pool(data, fits=lambda pool: pool.known)
        del self.pools[pool_id]
        self.feed(PoolLost(pool_id, "died", None))

    @precondition(lambda self: any(pool.known for pool in self.pools.values()))
    @rule(data=st.data())
    def a_pool_is_silent(self, data):
        pool_id = self.some_pool(data, fits=lambda pool: pool.known)
        pool = self.pools[pool_id]
        pool.known, pool.counted_as_lost = False, True
        self.feed(PoolLost(pool_id, "is silent", None))

    @precondition(lambda self: any(pool.counted_as_lost for pool in self.pools.values()))
    @rule(data=st.data())
    def one_that_counts_as_lost_comes_back(self, data):
        """It delivers what it has, and is told to stop."""
        pool_id = self.some_pool(data, fits=lambda pool: pool.counted_as_lost)
        pool = self.pools.pop(pool_id)
        self.feed(Late(pool.told))

    @rule(data=st.data(), all_found=st.booleans(), none_gone=st.booleans())
    def the_endpoint_dies(self, data, all_found, none_gone):
        """Pools go on, or end with it; the next process finds some of them."""
        found, gone = set(self.pools), set()
        if found and not all_found:
            found = data.draw(st.sets(st.sampled_from(sorted(found))))
        if found and not none_gone:
            gone = data.draw(st.sets(st.sampled_from(sorted(found))))
        for pool_id in list(self.pools):
            pool = self.pools[pool_id]
            pool.known = False
            if pool_id not in found or pool_id in gone or pool.counted_as_lost:
                del self.pools[pool_id]
        left = Left((), dict(self.started), dict(self.losses))
        verdict = judge(left, self.RETRIES, found.__contains__)
        for task_id in verdict.lost:
            self.ends[task_id] += 1
        for task_id in (*verdict.lost, *verdict.again):
            del self.started[task_id]
        self.losses.update(verdict.again)
        self.held_pools.clear()
        self.ledger = Ledger(Slots(None), self.RETRIES)
        self.feed(Inherited(verdict.awaited, dict(self.losses)))
        self.send(sorted(self.submitted - self.ends.keys() - verdict.awaited.keys()))

    @precondition(lambda self: any(self.is_stranger(pool) for pool in self.pools.values()))
    @rule(data=st.data())
    def a_pool_says_hello_again(self, data):
        pool_id = self.some_pool(data, fits=self.is_stranger)
        pool = self.pools[pool_id]
        pool.known = True
        self.feed(PoolUp(pool_id, pool.workers, pool.credit, holds=pool.holds))

    @rule()
    def nobody_else_is_awaited(self):
        self.feed(AwaitOver(None))

    @staticmethod
    def is_stranger(pool):
        return not pool.known and not pool.counted_as_lost

    # --- what holds

    @invariant()
    def none_ends_twice_and_none_is_forgotten(self):
        assert set(self.ends) <= self.submitted
        assert not self.ends or max(self.ends.values()) == 1
        assert self.ledger.waiting + self.ledger.placed == len(self.submitted) - len(self.ends)

    @invariant()
    def none_runs_more_often_than_it_may(self):
        assert not self.executions or max(self.executions.values()) <= 1 + self.RETRIES

    def teardown(self):
        """All who are still there go, one good pool comes, and everything has its end."""
        self.disk_full = False
        for pool_id, pool in sorted(self.pools.items()):
            if pool.known:
                self.feed(PoolLost(pool_id, "died", None))
        self.pools = {"0.n.1": Pool(2, 4)}
        self.feed(AwaitOver(None))
        self.feed(PoolUp("0.n.1", 2, 4))
        pool = self.pools["0.n.1"]
        for _ in range(len(self.submitted) + 1):
            self.place()
            done, pool.queue = pool.queue, []
            self.executions.update(done)
            self.feed(Finished("0.n.1", [ok(one) for one in done]))
        assert set(self.ends) == self.submitted
        self.none_ends_twice_and_none_is_forgotten()
        self.none_runs_more_often_than_it_may()


class HouseWithRetries(House):
    RETRIES = 1


House.TestCase.settings = settings(max_examples=40, stateful_step_count=60, deadline=None)
HouseWithRetries.TestCase.settings = House.TestCase.settings
TestHouse = House.TestCase
TestHouseWithRetries = HouseWithRetries.TestCase
