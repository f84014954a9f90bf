"""Every task of this engine: where it is, what it has been through, how it ends. Pure.

Events go in, instructions come out; no sockets, no clock. A task is *waiting* until the dispatcher
has room for it, *placed* at one pool, *started* once a worker has it, and then ended: it leaves
the ledger with exactly one :class:`~mep.wire.tasks.Result`, whatever dies in between.

A task is begun at most once for each time it is placed. It is placed again when its pool says that
it has not begun, when its pool has ended for sure and a count says so, and when a retry is spent.
So without retries none runs twice, whatever a pool does that is slow or cut off.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct, field

from mep.endpoint.inheritance import LOST
from mep.endpoint.interchange.dispatch import Dispatcher, Waiter
from mep.endpoint.interchange.events import (
    AwaitOver,
    CancelAsked,
    CancelAt,
    Event,
    Finished,
    FromPool,
    Inherited,
    Instruction,
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
from mep.endpoint.interchange.request import NOTHING_ASKED, Request
from mep.endpoint.interchange.too_much import too_much
from mep.wire import codes
from mep.wire.tasks import Failure, Function, Outcome, Result, StateChange, Task

FREE_LOSSES: Final = 3
"""Ends of blocks' walltimes that cost a task no retry; one that never fits must end some day."""


class Entry(Waiter, eq=False, gc=False):
    """One task. No part of a cycle: collecting garbage would mean looking at a million of them."""

    losses: int = 0
    spared: int = 0
    """Losses that cost no retry."""
    pool_id: str = ""
    place: int = 0
    started: bool = False
    cancelled: bool = False
    inherited: bool = False
    """An earlier process had it: its arguments are not here, and the relay alone can run it again.
    """


class _Pool(Struct, eq=False):
    entries: dict[str, Entry] = field(default_factory=dict)
    functions: set[str] = field(default_factory=set)
    given: int = 0


class Ledger:
    """The state of all tasks.

    Args:
        dispatcher: the queue, and the room of the pools.
        retries: how often a task may lose its worker or pool and be run again.
    """

    def __init__(self, dispatcher: Dispatcher[Entry], retries: int) -> None:
        self._dispatcher = dispatcher
        self._retries = retries
        self._functions: dict[str, Function] = {}
        self._entries: dict[str, Entry] = {}
        self._pools: dict[str, _Pool] = {}
        self._awaited: dict[str, list[Entry]] = {}
        """By the pool that has not said hello yet."""
        self._losses: dict[str, int] = {}
        """Of tasks that are not here, and may come again."""
        self.waiting = 0
        """Tasks that no pool has."""
        self.closing = False
        """Nothing is placed any more, nothing is run again."""

    @property
    def placed(self) -> int:
        """Tasks that a pool has."""
        return len(self._entries) - self.waiting

    @property
    def demand(self) -> tuple[int, int]:
        """What waiting tasks need, and what placed ones have; as the dispatcher counts."""
        return self._dispatcher.demand(self.waiting, self.placed)

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
        if isinstance(event, FromPool):
            return self._of_pool(event, now)
        match event:
            case Submitted(functions, tasks, requests):
                return self._submitted(functions, tasks, requests, now)
            case CancelAsked(task_ids):
                return self._cancel_asked(task_ids, now)
            case Unplaced(task_ids, code, message):
                return self._unplaced(task_ids, _failed(code, message), now)
            case Inherited(awaited, losses):
                return self._inherited(awaited, losses)
            case AwaitOver(block_id):
                return self._await_over(block_id, now)

    def _of_pool(self, event: FromPool, now: float) -> list[Instruction]:
        match event:
            case PoolUp():
                return self._pool_up(event, now)
            case Started(pool_id, started):
                return self._started(pool_id, started)
            case Finished(pool_id, results):
                return self._finished(pool_id, results, now)
            case Late(results):
                return self._late(results)
            case Returned(pool_id, task_ids):
                return self._returned(pool_id, task_ids, now)
            case PoolHeld(pool_id):
                self._dispatcher.hold(pool_id)
                return []
            case PoolLost():
                return self._pool_lost(event, now)

    def place(self, now: float) -> list[Instruction]:
        """Give waiting tasks to free slots; ask for some back where workers are idle elsewhere."""
        batches: dict[str, Place] = {}
        while not self.closing and (placing := self._dispatcher.next(now)) is not None:
            entry, pool_id, spec = placing
            batch = batches.get(pool_id)
            if batch is None:
                batch = batches[pool_id] = Place(pool_id, [], [])
            self._put(entry, batch, spec)
        instructions: list[Instruction] = list(batches.values())
        if not self.waiting and not self.closing:
            instructions += self._recalls()
        return instructions

    def fail_waiting(self, code: str, message: str, now: float) -> list[Instruction]:
        """End all tasks that no pool has."""
        entries = self._dispatcher.clear()
        return [Report([self._end(entry, _failed(code, message), now) for entry in entries])]

    def _submitted(
        self,
        functions: Sequence[Function],
        tasks: Sequence[Task],
        requests: Mapping[str, Request],
        now: float,
    ) -> list[Instruction]:
        for function in functions:
            self._functions[function.function_id] = function
        fresh = []
        for task in tasks:
            if task.task_id not in self._entries:
                entry = Entry(task, requests.get(task.task_id, NOTHING_ASKED))
                entry.losses = self._losses.pop(task.task_id, 0)
                self._entries[task.task_id] = entry
                self._dispatcher.add(entry)
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
            if entry.pool_id in self._pools:
                at.setdefault(entry.pool_id, []).append(task_id)
            else:
                ended.append(self._end(entry, CANCELLED, now))
        orders: list[Instruction] = [CancelAt(pool_id, ids) for pool_id, ids in at.items()]
        return [*orders, Report(ended)] if ended else orders

    def _started(self, pool_id: str, started: Sequence[tuple[str, float]]) -> list[Instruction]:
        changes, pool = [], self._pools[pool_id]
        for task_id, at in started:
            entry = pool.entries.get(task_id)
            if entry is not None and not entry.started:
                entry.started = True
                changes.append(StateChange(task_id, "running", at))
        return [Tell(changes, pool_id)] if changes else []

    def _finished(self, pool_id: str, results: Sequence[Result], now: float) -> list[Instruction]:
        pool = self._pools[pool_id]
        ended: list[Result] = []
        again: list[Entry] = []
        longest = 0.0
        freed: list[Entry] = []
        retried: list[str] = []
        for result in results:
            entry = pool.entries.pop(result.task_id, None)
            if entry is None:
                self._dispatcher.stray(pool_id, result.task_id)
                continue  # it ended before, elsewhere or as cancelled
            freed.append(entry)
            if not self._is_open(entry):
                continue
            longest = max(longest, result.ended - result.began)
            lost = result.failure is not None and result.failure.code == codes.WORKER_LOST
            if lost and self._may_retry(entry):
                again.append(entry)
                retried.append(result.task_id)
            elif lost and entry.cancelled:
                ended.append(self._end(entry, CANCELLED, now))
            else:
                del self._entries[result.task_id]
                ended.append(result)
        self._dispatcher.free(pool_id, freed)
        if freed:
            self._dispatcher.learn(pool_id, longest)
        instructions: list[Instruction] = [Report(ended, pool_id)] if ended else []
        return instructions + _noted(retried) + self._again(again, now)

    def _late(self, results: Sequence[Result]) -> list[Instruction]:
        """The first result counts, wherever the task is by now."""
        ended: list[Result] = []
        at: list[Instruction] = []
        for result in results:
            entry = self._entries.get(result.task_id)
            if entry is None or not _is_own(result):
                continue
            del self._entries[result.task_id]
            ended.append(result)
            if entry.pool_id:
                at.append(CancelAt(entry.pool_id, [result.task_id]))
            else:
                self._dispatcher.remove(entry)
                self.waiting -= 1
        return [*at, Report(ended)] if ended else []

    def _returned(self, pool_id: str, task_ids: Sequence[str], now: float) -> list[Instruction]:
        pool = self._pools[pool_id]
        self._dispatcher.recalled(pool_id)
        entries = [pool.entries.pop(task_id) for task_id in task_ids if task_id in pool.entries]
        self._dispatcher.free(pool_id, entries)
        entries = [entry for entry in entries if self._is_open(entry)]
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
            self._dispatcher.free(entry.pool_id, [entry])
        return [Report([self._end(entry, how, now) for entry in entries])]

    def _pool_lost(self, event: PoolLost, now: float) -> list[Instruction]:
        self._dispatcher.leave(event.pool_id)
        pool = self._pools.pop(event.pool_id)
        begun = event.begun
        ended: list[Result] = []
        again: list[Entry] = []
        message = f"The node pool that ran this task {event.reason}."
        lost = _failed(codes.WORKER_LOST, message, event.stderr)
        retried: list[str] = []
        for entry in pool.entries.values():
            if not self._is_open(entry):
                continue
            seen = entry.started or begun is None or entry.place in begun
            losses = entry.losses
            if entry.cancelled:
                ended.append(self._end(entry, CANCELLED, now))
            elif not seen:
                again.append(entry)
            elif self._may_retry(entry, free=event.by_walltime):
                again.append(entry)
                retried += [entry.task.task_id] if entry.losses > losses else []
            else:
                ended.append(self._end(entry, lost, now))
        instructions: list[Instruction] = [Report(ended)] if ended else []
        return instructions + _noted(retried) + self._again(again, now)

    def _inherited(
        self, awaited: Mapping[str, str], losses: Mapping[str, int]
    ) -> list[Instruction]:
        self._losses.update(losses)
        for task_id, pool_id in awaited.items():
            entry = Entry(Task(task_id, "", "", b""), pool_id=pool_id, inherited=True)
            entry.losses = self._losses.pop(task_id, 0)
            entry.started = True
            self._entries[task_id] = entry
            self._awaited.setdefault(pool_id, []).append(entry)
        return []

    def _pool_up(self, up: PoolUp, now: float) -> list[Instruction]:
        """What it holds is its own from now on; what it was given and does not hold never came."""
        pool = self._pools[up.pool_id] = _Pool()
        self._dispatcher.join(up)
        awaited = self._awaited.pop(up.pool_id, [])
        holds = set(up.holds)
        missing = []
        for entry in filter(self._is_open, awaited):
            if entry.task.task_id not in holds:
                missing.append(entry)
                continue
            pool.entries[entry.task.task_id] = entry
            self._dispatcher.adopt(up.pool_id, entry)
        unwanted = [task_id for task_id in up.holds if task_id not in pool.entries]
        instructions: list[Instruction] = [CancelAt(up.pool_id, unwanted)] if unwanted else []
        instructions += self._again(missing, now)
        return instructions + (self._end_hopeless(up, now) if up.new else [])

    def _end_hopeless(self, up: PoolUp, now: float) -> list[Instruction]:
        """Those that wait for more than any block will ever have."""
        asking = [
            entry
            for entry in self._entries.values()
            if not entry.pool_id and entry.request is not NOTHING_ASKED
        ]
        found = [(entry, too_much(entry.request, up, now)) for entry in asking]
        refused = [(entry, _failed(codes.RESOURCES_REFUSED, why)) for entry, why in found if why]
        ended = [self._end(entry, how, now) for entry, how in refused]
        return [Report(ended)] if ended else []

    def _await_over(self, block_id: str | None, now: float) -> list[Instruction]:
        over = [p for p in self._awaited if block_id in (None, p.partition(".")[0])]
        entries = [e for pool_id in over for e in self._awaited.pop(pool_id) if self._is_open(e)]
        again = [entry for entry in entries if self._may_retry(entry)]
        retried = [entry.task.task_id for entry in again]
        ended = [self._end(e, _End("failed", LOST), now) for e in entries if e not in again]
        instructions: list[Instruction] = [Report(ended)] if ended else []
        return instructions + _noted(retried) + self._again(again, now)

    def _put(self, entry: Entry, batch: Place, spec: Mapping[str, Any] | None) -> None:
        pool = self._pools[batch.pool_id]
        task = entry.task
        entry.pool_id = batch.pool_id
        entry.place = pool.given
        pool.given += 1
        pool.entries[task.task_id] = entry
        self.waiting -= 1
        batch.tasks.append(task)
        if spec is not None:
            batch.specs[task.task_id] = spec
        if task.function_id not in pool.functions:
            pool.functions.add(task.function_id)
            batch.functions.append(self._functions[task.function_id])

    def _recalls(self) -> Iterator[Recall]:
        for pool_id, count in self._dispatcher.recalls():
            latest: list[str] = []
            for task_id, entry in reversed(self._pools[pool_id].entries.items()):
                if len(latest) == count:
                    break
                if not entry.started and not entry.cancelled:
                    latest.append(task_id)
            yield Recall(pool_id, latest)

    def _may_retry(self, entry: Entry, *, free: bool = False) -> bool:
        """Whether a task that a worker may have seen is run again, and what that costs it.

        The end of a block's walltime costs no retry, a few times. Where nothing may run twice,
        nothing does.
        """
        if free and self._retries and entry.spared < FREE_LOSSES:
            entry.spared += 1
        else:
            entry.losses += 1
        return entry.losses <= self._retries and not entry.cancelled and not self.closing

    def _is_open(self, entry: Entry) -> bool:
        """Whether it has not ended; a pool may have a task that has ended elsewhere."""
        return self._entries.get(entry.task.task_id) is entry

    def _again(self, entries: list[Entry], now: float) -> list[Instruction]:
        """Back to the head of the queue, in the order they had; to the relay, if inherited."""
        if not entries:
            return []
        released = [entry.task.task_id for entry in entries if entry.inherited]
        if released:
            entries = [entry for entry in entries if not entry.inherited]
            return [self._release(released), *self._again(entries, now)]
        for entry in reversed(entries):
            entry.pool_id = ""
            entry.started = False
            self._dispatcher.put_back(entry)
        self.waiting += len(entries)
        return self._tell_waiting(entries, now)

    def _release(self, task_ids: list[str]) -> Release:
        for task_id in task_ids:
            entry = self._entries.pop(task_id)
            if entry.losses:
                self._losses[task_id] = entry.losses
        return Release(task_ids)

    @staticmethod
    def _tell_waiting(entries: Iterable[Entry], now: float) -> list[Instruction]:
        changes = [StateChange(entry.task.task_id, "waiting-for-nodes", now) for entry in entries]
        return [Tell(changes)] if changes else []

    def _end(self, entry: Entry, how: "_End", now: float) -> Result:
        del self._entries[entry.task.task_id]
        if not entry.pool_id:
            self._dispatcher.remove(entry)
            self.waiting -= 1
        return Result(entry.task.task_id, how.outcome, b"", how.failure, 0.0, now)


class _End(Struct, frozen=True):
    outcome: Outcome
    failure: Failure


def _is_own(result: Result) -> bool:
    """Whether it is what the task came to, not what came over it."""
    lost = result.failure is not None and result.failure.code == codes.WORKER_LOST
    return result.outcome != "cancelled" and not lost


def _noted(retried: list[str]) -> list[Instruction]:
    return [Lost(retried)] if retried else []


def _failed(code: str, message: str, stderr: str = "") -> _End:
    return _End("failed", Failure(code, message, stderr))


CANCELLED = _End("cancelled", Failure(codes.CANCELLED, "The task was cancelled."))
