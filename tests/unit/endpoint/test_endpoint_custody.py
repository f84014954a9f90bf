"""Tasks, credits, batches and the idle clock, without any I/O."""

import math

import pytest

from mep.endpoint.custody import WINDOW, Custody
from mep.endpoint.idle import IdleLimits, IdleWatch
from mep.endpoint.mailbox import Mailbox
from mep.endpoint.outbox import Outbox
from mep.endpoint.permits import Permits
from mep.wire import codes, limits
from mep.wire.tasks import Function, Result, StateChange, Task
from mep.wire.to_endpoint import Results, States


def task(task_id: str, function: str = "f") -> Task:
    return Task(task_id, function, "g", b"")


def result(task_id: str, payload: bytes = b"") -> Result:
    return Result(task_id, "success", payload)


def custody(allowed: bool = True) -> Custody:
    return Custody(Permits([None] if allowed else [[]]), ())


BODY = Function("f", b"body")


def test_a_task_is_held_until_its_result_is_committed() -> None:
    here = custody()
    taken = here.take([BODY], [task("a"), task("b")])
    assert [one.task_id for one in taken.tasks] == ["a", "b"]
    assert here.held == ("a", "b")
    assert here.end([result("a")]) == [result("a")]
    assert (here.active, here.unacknowledged, here.count) == (("b",), (result("a"),), 2)
    assert here.commit(["a", "zz"]) == ["a"]
    assert here.held == ("b",)
    assert here.all_acknowledged


def test_a_function_is_given_once() -> None:
    here = custody()
    assert here.take([BODY], [task("a"), task("b")]).functions == [BODY]
    assert here.take([BODY], [task("c")]).functions == []
    assert here.take([], [task("d")]).refused == []


def test_tasks_and_results_that_come_twice_count_once() -> None:
    here = custody()
    here.take([BODY], [task("a")])
    assert here.take([BODY], [task("a")]).tasks == []
    assert len(here.end([result("a"), result("a")])) == 1
    assert here.take([BODY], [task("a")]).tasks == []
    assert here.end([result("unknown")]) == []


def test_refusals() -> None:
    (refused,) = custody(allowed=False).take([BODY], [task("a")]).refused
    assert refused.failure is not None
    assert refused.failure.code == codes.FUNCTION_NOT_PERMITTED
    (refused,) = custody().take([], [task("a")]).refused
    assert refused.failure is not None
    assert refused.failure.code == codes.FUNCTION_NOT_FOUND


def test_a_result_above_the_relays_limit() -> None:
    kept: dict[str, bytes] = {}

    def keep(task_id: str, payload: bytes) -> str:
        kept[task_id] = payload
        return "it is kept in PLACE"

    here = Custody(Permits([]), (), keep=keep)
    here.max_result = 3
    here.take([BODY], [task("a"), task("b")])
    small, large = here.end([result("a", b"123"), result("b", b"1234")])
    assert small.outcome == "success"
    assert large.failure is not None
    assert (large.payload, large.failure.code) == (b"", codes.RESULT_TOO_LARGE)
    assert large.failure.message.endswith("; it is kept in PLACE")
    assert kept == {"b": b"1234"}


def test_credit_comes_back_in_portions() -> None:
    here = custody()
    assert here.opening_credit() == WINDOW
    names = [f"t{n}" for n in range(WINDOW)]
    here.take([BODY], map(task, names))
    assert here.opening_credit() == 0
    here.end(map(result, names[: WINDOW // 8 - 1]))
    assert here.credit_due() == 0
    here.end([result(names[-1])])
    assert here.credit_due() == WINDOW // 8
    assert here.credit_due() == 0
    here.end([result(names[-2])])
    assert here.opening_credit() == WINDOW // 8 + 1


def test_released_tasks_are_not_held() -> None:
    here = custody()
    here.take([BODY], [task("a")])
    here.release(["a", "unknown"])
    assert here.count == 0


def test_batches_are_bounded_by_count_and_bytes() -> None:
    outbox = Outbox()
    outbox.add_results(result(f"t{n}") for n in range(limits.BATCH_TASKS + 1))
    sizes = []
    while isinstance(batch := outbox.next_batch(), Results):
        sizes.append(len(batch.results))
    assert sizes == [limits.BATCH_TASKS, 1]
    large = b"x" * (limits.BATCH_BYTES // 2 + 1)
    outbox.add_results([result("a", large), result("b", large), result("c", large * 2)])
    sizes = []
    while isinstance(batch := outbox.next_batch(), Results):
        sizes.append(len(batch.results))
    assert sizes == [1, 1, 1]


def test_only_the_latest_state_of_a_task_that_has_not_ended_is_sent() -> None:
    outbox = Outbox()
    outbox.add_states(
        [StateChange("a", "waiting-for-nodes", 1.0), StateChange("b", "running", 1.0)]
    )
    outbox.add_states([StateChange("a", "running", 2.0)])
    outbox.add_results([result("b")])
    assert outbox.next_batch() == Results((result("b"),))
    assert outbox.next_batch() == States((StateChange("a", "running", 2.0),))
    assert outbox.next_batch() is None
    outbox.reconnect([result("b")])
    assert outbox.next_batch() == Results((result("b"),))
    assert outbox.next_batch() == States((StateChange("a", "running", 2.0),))


def test_soft_idle_counts_from_the_last_task() -> None:
    watch = IdleWatch(IdleLimits.of(30, 2, 10), now=0)
    assert watch.next_check() == 60
    watch.moved(50)
    watch.holding(1, 50)
    assert watch.verdict(120) == "stay"
    assert watch.next_check() == 350
    watch.moved(200)
    watch.holding(0, 200)
    assert (watch.verdict(259), watch.verdict(260)) == ("stay", "soft")


def test_hard_idle_counts_from_the_last_movement() -> None:
    watch = IdleWatch(IdleLimits.of(30, 2, 10), now=0)
    watch.moved(100)
    watch.holding(5, 100)
    assert (watch.verdict(399), watch.verdict(400)) == ("stay", "hard")


def test_idle_can_be_off() -> None:
    watch = IdleWatch(IdleLimits.of(30, 0, 10), now=0)
    assert math.isinf(watch.next_check())
    assert watch.verdict(10**9) == "stay"


@pytest.mark.parametrize("hard", [0, 10])
def test_hard_can_be_off_alone(hard: int) -> None:
    limits_ = IdleLimits.of(30, 2, hard)
    assert limits_.hard_s == (300 if hard else math.inf)


def test_the_mailbox_keeps_what_comes_before_a_loop_and_rings_once_per_batch() -> None:
    import asyncio

    mailbox = Mailbox()
    mailbox.ended([result("a")])

    async def run() -> list[list[str]]:
        seen: list[list[str]] = []
        rang = asyncio.Event()

        def drain() -> None:
            seen.append([one.task_id for one in mailbox.take()[1]])
            rang.set()

        loop = asyncio.get_running_loop()
        mailbox.attach(loop, drain)
        await rang.wait()
        rang.clear()
        await asyncio.to_thread(lambda: [mailbox.ended([result(name)]) for name in "bc"])
        await rang.wait()
        await asyncio.sleep(0)
        return seen

    seen = asyncio.run(run())
    assert seen[0] == ["a"]
    assert [name for batch in seen[1:] for name in batch] == ["b", "c"]
    assert mailbox.take() == ([], [], [], {})
