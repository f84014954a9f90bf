"""Every task of this engine: where it is, what it has been through, how it ends. Pure.

Events go in, instructions come out; no sockets, no clock. A task is *waiting* until the scheduler
has a slot for it, *placed* at one pool, *started* once a worker has it, and then ended: it leaves
the ledger with exactly one :class:`~mep.wire.tasks.Result`, whatever dies in between.
"""

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct, field

from mep.endpoint.interchange.events import (
    CancelAsked,
    CancelAt,
    Event,
    Finished,
    Instruction,
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
from mep.endpoint.interchange.scheduler import Scheduler
from mep.endpoint.interchange.waiting import Waiting
from mep.wire import codes
from mep.wire.tasks import Failure, Function, Outcome, Result, StateChange, Task


class _Entry(Struct, eq=False):
    task: Task
    losses: int = 0
    pool_id: str = ""
    place: int = 0
    started: bool = False
    cancelled: bool = False


class _Pool(Struct, eq=False):
    entries: dict[str, _Entry] = field(default_factory=dict)
    functions: set[str] = field(default_factory=set)
    given: int = 0


class Ledger:
    """The state of all tasks.

    Args:
        scheduler: the slots of the pools; the ledger alone talks to it.
        retries: how often a task may lose its worker or pool and be run again.
    """

    def __init__(self, scheduler: Scheduler, retries: int) -> None:
        self._scheduler = scheduler
        self._retries = retries
        self._functions: dict[str, Function] = {}
        self._entries: dict[str, _Entry] = {}
        self._waiting: Waiting[_Entry] = Waiting()
        self._pools: dict[str, _Pool] = {}
        self.waiting = 0
        """Tasks that no pool has."""
        self.closing = False
        """Nothing is placed any more, nothing is run again."""

    @property
    def placed(self) -> int:
        """Tasks that a pool has."""
        return len(self._entries) - self.waiting

    def knows(self, pool_id: str) -> bool:
        """Whether this pool is up."""
        return pool_id in self._pools

    def pools(self) -> Iterable[str]:
        """The pools that are up."""
        return self._pools.keys()

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """Take in one event at epoch time `now`.

        Raises:
            KeyError: an event of a pool that is not up.
        """
        match event:
            case Submitted(functions, tasks):
                return self._submitted(functions, tasks, now)
            case CancelAsked(task_ids):
                return self._cancel_asked(task_ids, now)
            case PoolUp(pool_id, workers, credit):
                self._pools[pool_id] = _Pool()
                self._scheduler.join(pool_id, workers, credit)
                return []
            case Started(pool_id, started):
                return self._started(self._pools[pool_id], started)
            case Finished(pool_id, results):
                return self._finished(pool_id, results, now)
            case Returned(pool_id, task_ids):
                return self._returned(pool_id, task_ids, now)
            case Unplaced(task_ids, code, message):
                return self._unplaced(task_ids, _failed(code, message), now)
            case PoolHeld(pool_id):
                self._scheduler.hold(pool_id)
                return []
            case PoolLost(pool_id, reason, begun):
                return self._pool_lost(pool_id, reason, begun, now)

    def place(self) -> list[Instruction]:
        """Give waiting tasks to free slots; ask for some back where workers are idle elsewhere."""
        batches: dict[str, Place] = {}
        while not self.closing and (entry := self._next_waiting()) is not None:
            pool_id = self._scheduler.take()
            if pool_id is None:
                break
            self._waiting.pop()
            batch = batches.get(pool_id)
            if batch is None:
                batch = batches[pool_id] = Place(pool_id, [], [])
            self._put(entry, batch)
        instructions: list[Instruction] = list(batches.values())
        if not self.waiting and not self.closing:
            instructions += self._recalls()
        return instructions

    def fail_waiting(self, code: str, message: str, now: float) -> list[Instruction]:
        """End all tasks that no pool has."""
        entries = [entry for entry in self._waiting.clear() if self._is_waiting(entry)]
        return [Report([self._end(entry, _failed(code, message), now) for entry in entries])]

    def _submitted(
        self, functions: Sequence[Function], tasks: Sequence[Task], now: float
    ) -> list[Instruction]:
        for function in functions:
            self._functions[function.function_id] = function
        fresh = []
        for task in tasks:
            if task.task_id not in self._entries:
                entry = self._entries[task.task_id] = _Entry(task)
                self._waiting.append(task.task_group_id, entry)
                fresh.append(entry)
        self.waiting += len(fresh)
        orphans = [entry for entry in fresh if entry.task.function_id not in self._functions]
        missing = _failed(codes.DESERIALIZATION_FAILED, "The body of the function never arrived.")
        instructions: list[Instruction] = []
        if orphans:
            instructions.append(Report([self._end(entry, missing, now) for entry in orphans]))
        if not self._pools:
            instructions += self._tell_waiting(fresh, now)
        return instructions

    def _cancel_asked(self, task_ids: Sequence[str], now: float) -> list[Instruction]:
        ended: list[Result] = []
        at: dict[str, list[str]] = {}
        for task_id in task_ids:
            entry = self._entries.get(task_id)
            if entry is None:
                continue
            entry.cancelled = True
            if entry.pool_id:
                at.setdefault(entry.pool_id, []).append(task_id)
            else:
                ended.append(self._end(entry, CANCELLED, now))
        orders: list[Instruction] = [CancelAt(pool_id, ids) for pool_id, ids in at.items()]
        return [*orders, Report(ended)] if ended else orders

    def _started(self, pool: _Pool, started: Sequence[tuple[str, float]]) -> list[Instruction]:
        changes = []
        for task_id, at in started:
            entry = pool.entries.get(task_id)
            if entry is not None and not entry.started:
                entry.started = True
                changes.append(StateChange(task_id, "running", at))
        return [Tell(changes)] if changes else []

    def _finished(self, pool_id: str, results: Sequence[Result], now: float) -> list[Instruction]:
        pool = self._pools[pool_id]
        ended: list[Result] = []
        again: list[_Entry] = []
        longest = 0.0
        taken = 0
        for result in results:
            entry = pool.entries.pop(result.task_id, None)
            if entry is None:
                continue  # it ended before, elsewhere or as cancelled
            taken += 1
            longest = max(longest, result.ended - result.began)
            lost = result.failure is not None and result.failure.code == codes.WORKER_LOST
            if lost and self._may_retry(entry):
                again.append(entry)
            elif lost and entry.cancelled:
                ended.append(self._end(entry, CANCELLED, now))
            else:
                del self._entries[result.task_id]
                ended.append(result)
        self._scheduler.free(pool_id, taken)
        if taken:
            self._scheduler.learn(pool_id, longest)
        instructions: list[Instruction] = [Report(ended)] if ended else []
        return instructions + self._again(again, now)

    def _returned(self, pool_id: str, task_ids: Sequence[str], now: float) -> list[Instruction]:
        pool = self._pools[pool_id]
        self._scheduler.recalled(pool_id)
        entries = [pool.entries.pop(task_id) for task_id in task_ids if task_id in pool.entries]
        self._scheduler.free(pool_id, len(entries))
        ended = [self._end(entry, CANCELLED, now) for entry in entries if entry.cancelled]
        instructions: list[Instruction] = [Report(ended)] if ended else []
        return instructions + self._again([e for e in entries if not e.cancelled], now)

    def _unplaced(self, task_ids: Sequence[str], how: "_End", now: float) -> list[Instruction]:
        entries = [self._entries[task_id] for task_id in task_ids]
        for entry in entries:
            pool = self._pools[entry.pool_id]
            del pool.entries[entry.task.task_id]
            pool.functions.discard(entry.task.function_id)
            pool.given -= 1
            self._scheduler.free(entry.pool_id, 1)
        return [Report([self._end(entry, how, now) for entry in entries])]

    def _pool_lost(
        self, pool_id: str, reason: str, begun: int | None, now: float
    ) -> list[Instruction]:
        self._scheduler.leave(pool_id)
        pool = self._pools.pop(pool_id)
        ended: list[Result] = []
        again: list[_Entry] = []
        lost = _failed(codes.WORKER_LOST, f"The node pool that ran this task {reason}.")
        for entry in pool.entries.values():
            seen = entry.started or begun is None or entry.place < begun
            if entry.cancelled:
                ended.append(self._end(entry, CANCELLED, now))
            elif not seen or self._may_retry(entry):
                again.append(entry)
            else:
                ended.append(self._end(entry, lost, now))
        instructions: list[Instruction] = [Report(ended)] if ended else []
        return instructions + self._again(again, now)

    def _next_waiting(self) -> _Entry | None:
        while (entry := self._waiting.peek()) is not None:
            if self._is_waiting(entry):
                return entry
            self._waiting.pop()
        return None

    def _is_waiting(self, entry: _Entry) -> bool:
        return self._entries.get(entry.task.task_id) is entry and not entry.pool_id

    def _put(self, entry: _Entry, batch: Place) -> None:
        pool = self._pools[batch.pool_id]
        task = entry.task
        entry.pool_id = batch.pool_id
        entry.place = pool.given
        pool.given += 1
        pool.entries[task.task_id] = entry
        self.waiting -= 1
        batch.tasks.append(task)
        if task.function_id not in pool.functions:
            pool.functions.add(task.function_id)
            batch.functions.append(self._functions[task.function_id])

    def _recalls(self) -> Iterator[Recall]:
        for pool_id, count in self._scheduler.recalls():
            latest: list[str] = []
            for task_id, entry in reversed(self._pools[pool_id].entries.items()):
                if len(latest) == count:
                    break
                if not entry.started and not entry.cancelled:
                    latest.append(task_id)
            yield Recall(pool_id, latest)

    def _may_retry(self, entry: _Entry) -> bool:
        entry.losses += 1
        return entry.losses <= self._retries and not entry.cancelled and not self.closing

    def _again(self, entries: list[_Entry], now: float) -> list[Instruction]:
        """Back to the head of the queue, in the order they had."""
        for entry in reversed(entries):
            entry.pool_id = ""
            entry.started = False
            self._waiting.put_back(entry.task.task_group_id, entry)
        self.waiting += len(entries)
        return self._tell_waiting(entries, now)

    @staticmethod
    def _tell_waiting(entries: Iterable[_Entry], now: float) -> list[Instruction]:
        changes = [StateChange(entry.task.task_id, "waiting-for-nodes", now) for entry in entries]
        return [Tell(changes)] if changes else []

    def _end(self, entry: _Entry, how: "_End", now: float) -> Result:
        del self._entries[entry.task.task_id]
        if not entry.pool_id:
            self.waiting -= 1
        return Result(entry.task.task_id, how.outcome, b"", how.failure, 0.0, now)


class _End(Struct, frozen=True):
    outcome: Outcome
    failure: Failure


def _failed(code: str, message: str) -> _End:
    return _End("failed", Failure(code, message))


CANCELLED = _End("cancelled", Failure(codes.CANCELLED, "The task was cancelled."))
