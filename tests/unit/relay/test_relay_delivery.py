"""Every race of delivery, as events in and instructions out."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
from mep_cloud.delivery import events as e
from mep_cloud.delivery import instructions as i
from mep_cloud.delivery.machine import Delivery
from mep_cloud.delivery.state import MAX_EXITS, START_ATTEMPTS, START_TIMEOUT_S, Call

from mep.wire import limits
from mep.wire.tasks import Failure, Result, StateChange

SITE, ALICE, MANAGER = "site", "alice-endpoint", 1


class World:
    """A delivery, its clock, and short names for what happens to it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.nonces = 0
        self.machine = Delivery(self._nonce)

    def _nonce(self) -> str:
        self.nonces += 1
        return f"n{self.nonces}"

    def __call__(self, event: e.Event) -> list[i.Instruction]:
        return self.machine.handle(event, self.now)

    def manager(self, running: tuple[str, ...] = (), boot: str = "boot") -> list[i.Instruction]:
        return [*self(e.ManagerOpened(MANAGER, SITE)), *self(e.WardenUp(MANAGER, boot, running))]

    def submit(self, *task_ids: str, **fields: Any) -> list[i.Instruction]:
        calls = tuple(call(task_id, **fields) for task_id in task_ids)
        return self(e.TasksSubmitted(SITE, ALICE, calls))

    def link(
        self,
        connection: int = 10,
        *,
        nonce: str = "n1",
        credit: int = 100,
        held: Sequence[str] = (),
    ) -> list[i.Instruction]:
        return self(e.EndpointOpened(connection, SITE, ALICE, nonce, credit, tuple(held)))

    def result(self, *task_ids: str, connection: int = 10) -> list[i.Instruction]:
        return self(e.ResultsArrived(connection, tuple(success(each) for each in task_ids)))

    def exited(self, nonce: str, code: str = "", message: str = "") -> list[i.Instruction]:
        return self(e.Exited(MANAGER, ALICE, nonce, code, message, "signal 9"))

    def started(self) -> list[i.Instruction]:
        return self(e.Started(MANAGER, ALICE))

    def up(self, *task_ids: str, **fields: Any) -> list[i.Instruction]:
        """A world in which Alice's endpoint has these tasks."""
        self.manager()
        self.submit(*task_ids)
        self.started()
        return self.link(**fields)


def call(task_id: str, **fields: Any) -> Call:
    return Call(task_id, **{**CALL, **fields})


CALL = {
    "function_id": "f",
    "function_size": 10,
    "group_id": "g",
    "payload": b"x",
    "payload_size": 1,
}


def success(task_id: str, payload: bytes = b"y") -> Result:
    return Result(task_id, "success", payload)


def starts(out: list[i.Instruction]) -> list[str]:
    return [each.nonce for each in out if isinstance(each, i.SignStart)]


def sent(out: list[i.Instruction]) -> list[str]:
    return [c.task_id for each in out if isinstance(each, i.SendTasks) for c in each.calls]


def commits(out: list[i.Instruction]) -> list[i.CommitResults]:
    return [each for each in out if isinstance(each, i.CommitResults)]


def ended(out: list[i.Instruction]) -> dict[str, Result]:
    return {each.task_id: result for commit in commits(out) for each, result in commit.endings}


def failures(out: list[i.Instruction]) -> dict[str, str]:
    return {
        task_id: result.failure.code for task_id, result in ended(out).items() if result.failure
    }


# Starts


def test_one_start_for_many_submits() -> None:
    world = World()
    world.manager()
    assert starts(world.submit("a")) == ["n1"]
    assert starts(world.submit("b")) == []


def test_start_waits_for_the_manager_and_its_warden() -> None:
    world = World()
    assert world.submit("a") == []
    assert world(e.ManagerOpened(MANAGER, SITE)) == []
    (start,) = world(e.WardenUp(MANAGER, "boot", ()))
    assert start == i.SignStart(MANAGER, ALICE, "n1", "boot", ("a",))


def test_no_start_while_the_warden_says_that_it_runs() -> None:
    world = World()
    world.submit("a")
    assert world.manager(running=(ALICE,)) == []
    assert sent(world.link()) == ["a"]


def test_refusal_fails_the_waiting_tasks() -> None:
    world = World()
    world.manager()
    world.submit("a", "b")
    out = world(e.Refused(MANAGER, ALICE, "n1", "IDENTITY_NOT_MAPPED", "Nobody maps you."))
    assert failures(out) == {"a": "IDENTITY_NOT_MAPPED", "b": "IDENTITY_NOT_MAPPED"}
    assert world.machine.task_state("a") is not None
    world(e.ResultsCommitted(("a", "b")))
    assert world.machine.task_state("a") is None
    assert starts(world.submit("c")) == ["n2"]


def test_late_refusal_of_an_older_start_hits_nothing() -> None:
    world = World()
    world.manager()
    world.submit("a")
    assert starts(world(e.WardenUp(MANAGER, "boot2", ()))) == ["n2"]
    assert world(e.Refused(MANAGER, ALICE, "n1", "GRANT_REFUSED", "old")) == []
    assert failures(world(e.Refused(MANAGER, ALICE, "n2", "GRANT_REFUSED", "new")))


def test_refusal_after_the_link_opened_hits_nothing() -> None:
    world = World()
    world.up("a")
    assert world(e.Refused(MANAGER, ALICE, "n1", "START_FAILED", "late")) == []


def test_warden_restart_voids_the_start_under_way() -> None:
    world = World()
    world.manager()
    world.submit("a")
    world(e.WardenDown(MANAGER))
    (start,) = world(e.WardenUp(MANAGER, "boot2", ()))
    assert start == i.SignStart(MANAGER, ALICE, "n2", "boot2", ("a",))


def test_manager_lost_during_a_start_whose_process_came_up() -> None:
    world = World()
    world.manager()
    world.submit("a")
    world(e.ManagerClosed(MANAGER))
    assert world.manager(running=(ALICE,)) == []
    # It dies before its link ever opened: the tasks fail, they do not wait for ever.
    assert failures(world.exited("n1")) == {"a": "START_FAILED"}


def test_unanswered_start_is_asked_again_a_bounded_number_of_times() -> None:
    world = World()
    world.manager()
    out = world.submit("a")
    for attempt in range(START_ATTEMPTS):
        assert starts(out) == [f"n{attempt + 1}"]
        deadline = world.machine.next_deadline()
        assert deadline == world.now + START_TIMEOUT_S
        world.now = deadline - 1
        assert world(e.TimePassed()) == []
        world.now = deadline
        out = world(e.TimePassed())
    assert failures(out) == {"a": "START_FAILED"}
    assert world.machine.next_deadline() is None


def test_started_ends_the_waiting_for_an_answer() -> None:
    world = World()
    world.manager()
    world.submit("a")
    world.started()
    assert world.machine.next_deadline() is None


def test_no_retry_counts_while_the_warden_is_away() -> None:
    world = World()
    world.manager()
    world.submit("a")
    world(e.WardenDown(MANAGER))
    world.now += START_TIMEOUT_S
    assert world(e.TimePassed()) == []
    assert starts(world(e.WardenUp(MANAGER, "boot", ()))) == ["n2"]


def test_a_start_that_cannot_be_signed_fails_the_tasks() -> None:
    world = World()
    world.manager()
    world.submit("a")
    assert world(e.StartUnsigned(ALICE, "n0", "START_FAILED", "old")) == []
    assert failures(world(e.StartUnsigned(ALICE, "n1", "START_FAILED", "x"))) == {
        "a": "START_FAILED"
    }


def test_a_start_that_is_not_signed_yet_does_not_count_as_unanswered() -> None:
    world = World()
    world.manager()
    world.submit("a")
    for _ in range(10):
        world.now += START_TIMEOUT_S - 1
        assert world(e.StartPostponed(ALICE, "n1")) == []
        assert world(e.TimePassed()) == []
    assert world(e.StartPostponed(ALICE, "n0")) == []  # of an earlier one
    assert world.machine.next_deadline() == world.now + START_TIMEOUT_S
    assert world.machine.expects_start(ALICE, "n1")


def test_expects_start_until_it_is_answered() -> None:
    world = World()
    world.manager()
    world.submit("a")
    assert world.machine.expects_start(ALICE, "n1")
    assert not world.machine.expects_start(ALICE, "n0")
    world.started()
    assert not world.machine.expects_start(ALICE, "n1")


def test_a_newer_manager_replaces_the_older() -> None:
    world = World()
    world.manager()
    (close,) = world(e.ManagerOpened(2, SITE))
    assert isinstance(close, i.CloseLink)
    assert (close.connection, close.code) == (MANAGER, 4409)
    world(e.ManagerClosed(MANAGER))
    assert world.machine.site_online(SITE) == (True, False)
    assert world(e.WardenUp(MANAGER, "boot", ())) == []
    world(e.WardenUp(2, "boot", ()))
    assert world.machine.site_online(SITE) == (True, True)


# Exits


def test_exit_before_the_link_fails_with_what_the_process_said() -> None:
    world = World()
    world.manager()
    world.submit("a")
    world.started()
    out = world.exited("n1", "OPTIONS_REFUSED", "WALLTIME: too long")
    result = ended(out)["a"]
    assert result.outcome == "failed"
    assert result.failure == Failure("OPTIONS_REFUSED", "WALLTIME: too long")


def test_exit_before_the_link_without_a_word_names_the_log() -> None:
    world = World()
    world.manager()
    world.submit("a")
    world.started()
    failure = ended(world.exited("n1"))["a"].failure
    assert failure is not None
    assert failure.code == "START_FAILED"
    assert "signal 9" in failure.message
    assert f"~/.mep/{ALICE}/stderr.log" in failure.message


def test_exit_of_the_process_that_an_earlier_grant_started() -> None:
    # The answer to the first start was lost; the second is answered "runs already".
    world = World()
    world.manager()
    world.submit("a")
    world.now += START_TIMEOUT_S
    assert starts(world(e.TimePassed())) == ["n2"]
    world.started()
    assert failures(world.exited("n1", "ENGINE_FAILED", "no")) == {"a": "ENGINE_FAILED"}


def test_exit_of_an_older_process_while_a_start_is_under_way() -> None:
    world = World()
    world.manager()
    world.submit("a")
    assert world.exited("n0") == []
    assert world.exited("") == []
    assert world.machine.expects_start(ALICE, "n1")


def test_exit_after_the_link_starts_another_and_sends_again_what_it_lost() -> None:
    world = World()
    assert sent(world.up("a", "b")) == ["a", "b"]
    world(e.EndpointClosed(10))
    assert starts(world.exited("n1")) == ["n2"]
    world.started()
    assert sent(world.link(11, nonce="n2", held=["a"])) == ["b"]


def test_exit_told_before_the_link_closes() -> None:
    world = World()
    world.up("a")
    out = world.exited("n1")
    assert [each.connection for each in out if isinstance(each, i.CloseLink)] == [10]
    assert starts(out) == ["n2"]
    assert world(e.EndpointClosed(10)) == []


def test_exit_of_another_process_does_not_touch_a_live_link() -> None:
    world = World()
    world.up("a")
    assert world.exited("n0") == []
    assert ended(world.result("a"))


def test_exit_of_an_adopted_process() -> None:
    world = World()
    world.up("a")
    world(e.EndpointClosed(10))
    assert starts(world.exited("")) == ["n2"]


def test_exit_without_work_starts_nothing() -> None:
    world = World()
    world.up("a")
    world.result("a")
    world(e.ResultsCommitted(("a",)))
    world(e.EndpointClosed(10))
    assert world.exited("n1") == []


def test_three_exits_in_a_row_fail_the_tasks() -> None:
    world = World()
    world.up("a")
    for round_ in range(1, MAX_EXITS):
        world(e.EndpointClosed(9 + round_))
        assert starts(world.exited(f"n{round_}")) == [f"n{round_ + 1}"]
        world.started()
        world.link(10 + round_, nonce=f"n{round_ + 1}")
    out = world.exited(f"n{MAX_EXITS}")
    assert failures(out) == {"a": "ENDPOINT_LOST"}


def test_a_finished_task_resets_the_count_of_exits() -> None:
    world = World()
    world.up("a", "b", "c", "d")
    for round_, done in enumerate("abc", start=1):
        world.result(done, connection=9 + round_)
        out = world.exited(f"n{round_}")
        assert starts(out) == [f"n{round_ + 1}"]
        world.started()
        world.link(10 + round_, nonce=f"n{round_ + 1}", held=["d"])


def test_refused_after_a_crash_fails_what_the_crashed_process_had() -> None:
    world = World()
    world.up("a")
    world(e.EndpointClosed(10))
    world.exited("n1")
    out = world(e.Refused(MANAGER, ALICE, "n2", "ACCOUNT_REFUSED", "closed"))
    assert failures(out) == {"a": "ACCOUNT_REFUSED"}


def test_lost_link_of_a_live_process_waits_for_it() -> None:
    world = World()
    world.up("a")
    assert world(e.EndpointClosed(10)) == []
    assert sent(world.link(11, held=["a"])) == []
    assert ended(world.result("a", connection=11))


def test_relay_restart_with_a_live_process() -> None:
    world = World()
    world.submit("a", "b")  # as recovered from the store
    assert sent(world.link(held=["a"])) == ["b"]
    assert list(ended(world.result("a", "b"))) == ["a", "b"]


# Links, credits, results


def test_credits_bound_what_is_sent() -> None:
    world = World()
    assert sent(world.up("a", "b", "c", credit=2)) == ["a", "b"]
    assert sent(world(e.CreditGranted(10, 0))) == []
    assert sent(world(e.CreditGranted(10, 5))) == ["c"]
    assert sent(world.submit(*"defghi")) == list("defg")


def test_function_bodies_once_a_connection() -> None:
    world = World()
    (first,) = world.up("a")
    assert isinstance(first, i.SendTasks)
    assert first.function_ids == ("f",)
    (second,) = world.submit("b")
    assert isinstance(second, i.SendTasks)
    assert second.function_ids == ()
    out = world.link(11)
    assert [each.function_ids for each in out if isinstance(each, i.SendTasks)] == [("f",)]


def test_frames_respect_the_limits() -> None:
    world = World()
    big = limits.BATCH_BYTES // 2
    world.up(credit=10_000)
    out = world.submit("a", "b", "c", payload=None, payload_size=big, function_size=0)
    assert [sent([each]) for each in out] == [["a", "b"], ["c"]]
    out = world.submit(*map(str, range(limits.BATCH_TASKS + 1)))
    assert [len(sent([each])) for each in out] == [limits.BATCH_TASKS, 1]
    out = world.submit("d", payload=None, payload_size=limits.PAYLOAD)
    assert sent(out) == ["d"]


def test_results_are_acknowledged_once_they_are_on_disk() -> None:
    world = World()
    world.up("a")
    (commit,) = world.result("a")
    assert isinstance(commit, i.CommitResults)
    assert world(e.ResultsCommitted(("a",))) == [i.SendCommitted(10, ("a",))]


def test_duplicate_result_after_the_commit_is_acknowledged_and_dropped() -> None:
    world = World()
    world.up("a")
    world.result("a")
    world(e.ResultsCommitted(("a",)))
    assert world.result("a") == [i.SendCommitted(10, ("a",))]


def test_duplicate_result_during_the_commit_is_acknowledged_after_it() -> None:
    world = World()
    world.up("a")
    world.result("a")
    world(e.EndpointClosed(10))
    world.link(11, held=["a"])
    assert world.result("a", connection=11) == []
    assert world(e.ResultsCommitted(("a",))) == [i.SendCommitted(11, ("a",))]


def test_first_result_in_a_batch_wins() -> None:
    world = World()
    world.up("a")
    out = world(e.ResultsArrived(10, (success("a", b"1"), success("a", b"2"))))
    assert ended(out)["a"].payload == b"1"
    assert world(e.ResultsCommitted(("a",))) == [i.SendCommitted(10, ("a",))]


def test_nobody_can_end_a_task_of_another_user_endpoint() -> None:
    world = World()
    world.up("a")
    world(e.EndpointOpened(20, SITE, "mallory-endpoint", "m1", 5, ()))
    assert world.result("a", connection=20) == [i.SendCommitted(20, ("a",))]
    assert world.machine.task_state("a") == "queued"


def test_result_that_is_too_large_becomes_a_failure() -> None:
    world = World()
    world.up("a")
    out = world(e.ResultsArrived(10, (success("a", bytes(limits.PAYLOAD + 1)),)))
    assert failures(out) == {"a": "RESULT_TOO_LARGE"}


def test_failure_texts_are_bounded() -> None:
    world = World()
    world.up("a")
    failure = Failure("C" * 100, "m" * 9999, "t" * (limits.FAILURE_TEXT + 1))
    out = world(e.ResultsArrived(10, (Result("a", "failed", b"", failure),)))
    bounded = ended(out)["a"].failure
    assert bounded is not None
    assert len(bounded.message) == limits.USER_MESSAGE
    assert len(bounded.traceback) == limits.FAILURE_TEXT


def test_results_that_the_disk_refused_are_sent_again() -> None:
    world = World()
    world.up("a")
    world.result("a")
    (close,) = world(e.ResultsNotCommitted(("a",)))
    assert isinstance(close, i.CloseLink)
    assert close.code == 1013
    world(e.EndpointClosed(10))
    assert sent(world.link(11, held=["a"])) == []
    assert ended(world.result("a", connection=11))


def test_results_that_the_disk_refused_of_a_process_that_ended_are_asked_for() -> None:
    """They are in its spool, and the next process sends them."""
    world = World()
    world.up("a")
    world.result("a")
    assert starts(world.exited("n1")) == []
    assert starts(world(e.ResultsNotCommitted(("a",)))) == ["n2"]


def test_who_made_an_end_is_told() -> None:
    world = World()
    world.up("a")
    (sent_by_endpoint,) = world.result("a")
    assert isinstance(sent_by_endpoint, i.CommitResults)
    assert not sent_by_endpoint.own
    world.submit("b")
    (made_here,) = commits(world(e.TasksExpired(("b",))))
    assert made_here.own


@pytest.mark.parametrize("kind", [e.TasksExpired, e.CancelRequested])
def test_what_ends_here_at_once_is_written_at_once(
    kind: type[e.TasksExpired | e.CancelRequested],
) -> None:
    """A disk that takes nothing is asked once for all of them, again and again."""
    world = World()
    world.submit("a", "b", "c")
    world(e.TasksSubmitted(SITE, "bob", (call("d"),)))
    out = world(kind(("a", "b", "d", "a", "unknown")))
    assert [[each.task_id for each, _ in commit.endings] for commit in commits(out)] == [
        ["a", "b"],
        ["d"],
    ]
    assert world(e.ResultsCommitted(("a", "b", "d"))) == []
    assert world.machine.unfinished() == 1


def test_a_newer_connection_replaces_the_older() -> None:
    world = World()
    world.up("a")
    out = world.link(11, held=["a"])
    assert [each.code for each in out if isinstance(each, i.CloseLink)] == [4409]
    assert world.result("a", connection=10) == []
    assert world(e.EndpointClosed(10)) == []
    assert ended(world.result("a", connection=11))


def test_states_reach_the_stream_and_the_status() -> None:
    world = World()
    world.up("a")
    change = StateChange("a", "running", 5.0)
    other = StateChange("zz", "running", 5.0)
    assert world(e.StatesArrived(10, (change, other))) == [i.PublishStates("g", (change,))]
    assert world.machine.task_state("a") == "running"


@pytest.mark.parametrize("moment", [math.nan, math.inf, -math.inf])
def test_a_state_whose_moment_is_no_time_came_now(moment: float) -> None:
    world = World()
    world.up("a")
    (told,) = world(e.StatesArrived(10, (StateChange("a", "running", moment),)))
    assert told == i.PublishStates("g", (StateChange("a", "running", world.now),))
    known = world.machine.task_call("a")
    assert known is not None
    assert known.running == world.now


def test_first_dispatch_is_kept() -> None:
    world = World()
    world.up("a")
    world.now += 50
    world.link(11)
    (commit,) = world.result("a", connection=11)
    assert isinstance(commit, i.CommitResults)
    assert commit.endings[0][0].dispatched == 1000.0


# Cancel


def test_cancel_of_a_waiting_task_ends_it_here() -> None:
    world = World()
    world.submit("a", "b")
    out = world(e.CancelRequested(("a",)))
    assert failures(out) == {"a": "CANCELLED"}
    assert ended(out)["a"].outcome == "cancelled"
    assert sent(world.link()) == ["b"]


def test_cancel_of_a_sent_task_goes_to_the_endpoint() -> None:
    world = World()
    world.up("a")
    assert world(e.CancelRequested(("a", "unknown"))) == [i.SendCancel(10, ("a",))]
    assert ended(world.result("a"))["a"].outcome == "success"


def test_cancel_while_the_link_is_lost_ends_it_and_tells_the_process_later() -> None:
    world = World()
    world.up("a")
    world(e.EndpointClosed(10))
    assert failures(world(e.CancelRequested(("a",)))) == {"a": "CANCELLED"}
    world(e.ResultsCommitted(("a",)))
    assert world.link(11, held=["a"]) == [i.SendCancel(11, ("a",))]
    assert world.result("a", connection=11) == [i.SendCommitted(11, ("a",))]


def test_cancel_that_got_lost_with_the_link() -> None:
    world = World()
    world.up("a", "b")
    world(e.CancelRequested(("a", "b")))
    world(e.EndpointClosed(10))
    out = world.link(11, held=["a"])
    assert failures(out) == {"b": "CANCELLED"}
    assert i.SendCancel(11, ("a",)) in out
    assert sent(out) == []


def test_cancel_of_a_task_that_the_dead_process_had() -> None:
    world = World()
    world.up("a")
    world(e.CancelRequested(("a",)))
    world(e.EndpointClosed(10))
    out = world.exited("n1")
    assert failures(out) == {"a": "CANCELLED"}
    assert starts(out) == []


def test_cancel_after_the_result() -> None:
    world = World()
    world.up("a")
    world.result("a")
    assert world(e.CancelRequested(("a",))) == []
    world(e.ResultsCommitted(("a",)))
    assert world(e.CancelRequested(("a",))) == []


def test_cancel_wish_survives_a_relay_restart() -> None:
    world = World()
    assert failures(world.submit("a", "b", cancel_wanted=True)) == dict.fromkeys("ab", "CANCELLED")
    assert world.link(held=["a"]) == [i.SendCancel(10, ("a",))]


def test_recovered_cancelled_tasks_start_nothing() -> None:
    world = World()
    world.manager()
    assert starts(world.submit("a", cancel_wanted=True)) == []


# Leaving


def test_leaving_when_nothing_is_on_its_way() -> None:
    world = World()
    world.up("a")
    world.result("a")
    world(e.ResultsCommitted(("a",)))
    assert world(e.LeavingWished(10)) == [i.SendMayLeave(10)]
    assert world.submit("b") == []
    assert world(e.CreditGranted(10, 5)) == []
    world(e.EndpointClosed(10))
    assert starts(world.exited("n1")) == ["n2"]


def test_leaving_while_a_task_is_on_its_way_is_void() -> None:
    world = World()
    world.up("a")
    world.result("a")
    world(e.ResultsCommitted(("a",)))
    assert sent(world.submit("b")) == ["b"]
    assert world(e.LeavingWished(10)) == []


def test_leaving_while_tasks_lack_credit_is_void() -> None:
    world = World()
    world.up("a", credit=0)
    assert world(e.LeavingWished(10)) == []
    assert sent(world(e.CreditGranted(10, 1))) == ["a"]


def test_consented_exits_are_no_crashes() -> None:
    world = World()
    world.up()
    for round_ in range(1, MAX_EXITS + 2):
        world(e.LeavingWished(9 + round_))
        world.submit(f"t{round_}")
        out = world.exited(f"n{round_ - 1}" if round_ > 1 else "n1")
        assert not failures(out)
        (nonce,) = starts(out)
        world.started()
        world.link(10 + round_, nonce=nonce)
        world.result(f"t{round_}", connection=10 + round_)
        world(e.ResultsCommitted((f"t{round_}",)))


# Deleted endpoints, memory


def test_deleting_an_endpoint_fails_its_tasks_and_closes_its_links() -> None:
    world = World()
    world.up("a")
    out = world(e.EndpointRemoved(SITE))
    assert failures(out) == {"a": "ENDPOINT_NOT_FOUND"}
    closed = {each.connection: each.code for each in out if isinstance(each, i.CloseLink)}
    assert closed == {MANAGER: 4404, 10: 4404}


def test_nothing_is_kept_of_user_endpoints_without_work() -> None:
    world = World()
    world.up("a")
    world.result("a")
    world(e.ResultsCommitted(("a",)))
    world(e.EndpointClosed(10))
    assert world.machine.unfinished() == 0
    assert not world.machine._state.sites[SITE].members
    assert not world.machine._state.homes
    assert not world.machine._state.links


def test_events_of_closed_connections_change_nothing() -> None:
    world = World()
    for event in (
        e.ManagerClosed(77),
        e.WardenUp(77, "boot", ()),
        e.WardenDown(77),
        e.Started(77, ALICE),
        e.Refused(77, ALICE, "n1", "X", "x"),
        e.Exited(77, ALICE, "n1", "", "", ""),
        e.EndpointClosed(77),
        e.CreditGranted(77, 1),
        e.ResultsArrived(77, (success("a"),)),
        e.StatesArrived(77, ()),
        e.LeavingWished(77),
        e.TimePassed(),
        e.EndpointRemoved("nowhere"),
    ):
        assert world(event) == []
