"""The pure parts: ledger, backlog, error classes, what is tried again, what is imported."""

import subprocess
import sys
import uuid
from collections.abc import Callable

import pytest
from mep_sdk import errors, oauth
from mep_sdk.auth import Credentials
from mep_sdk.backlog import Backlog, Call, Destination
from mep_sdk.bounds import Bounds, Sizes
from mep_sdk.functions import Functions, Known
from mep_sdk.future import ComputeFuture
from mep_sdk.ledger import REMEMBERED, Ledger
from mep_sdk.outage import Outage
from mep_sdk.outcome import exception_of
from mep_sdk.transport import retry_wait

from mep.wire import codes, limits
from mep.wire.tasks import Result


def result(task_id: str) -> Result:
    return Result(task_id, "success", b"")


class TestLedger:
    def test_a_result_after_the_answer(self) -> None:
        ledger, future = Ledger(), ComputeFuture()
        ledger.submitting()
        assert ledger.submitted([("t", future)]) == []
        assert ledger.waiting("t") is future
        assert ledger.ended(result("t")) == (future, True)
        assert len(ledger) == 0

    def test_a_result_before_the_answer_is_held(self) -> None:
        ledger, future = Ledger(), ComputeFuture()
        ledger.submitting()
        assert ledger.ended(result("t")) == (None, False)
        assert ledger.submitted([("t", future)]) == [(future, result("t"))]
        assert ledger.ended(result("t")) == (None, True)

    def test_a_result_of_another_session_is_let_go_and_not_acknowledged(self) -> None:
        ledger = Ledger()
        assert ledger.ended(result("theirs")) == (None, False)
        ledger.submitting()
        ledger.ended(result("theirs"))
        ledger.submitted([])
        ledger.submitting()
        assert ledger.submitted([("theirs", ComputeFuture())]) == []

    def test_two_submits_at_once_hold_until_both_are_answered(self) -> None:
        ledger, future = Ledger(), ComputeFuture()
        ledger.submitting()
        ledger.submitting()
        ledger.ended(result("t"))
        assert ledger.submitted([]) == []
        assert ledger.submitted([("t", future)]) == [(future, result("t"))]

    def test_a_repeated_result_is_acknowledged_again(self) -> None:
        ledger = Ledger()
        ledger.expect("t", ComputeFuture())
        ledger.ended(result("t"))
        assert ledger.ended(result("t")) == (None, True)

    def test_what_is_remembered_is_bounded(self) -> None:
        ledger = Ledger()
        for n in range(REMEMBERED + 1):
            ledger.expect(str(n), ComputeFuture())
            ledger.ended(result(str(n)))
        assert ledger.ended(result("0")) == (None, False)
        assert ledger.ended(result("1")) == (None, True)

    def test_all_lost(self) -> None:
        ledger, future = Ledger(), ComputeFuture()
        ledger.expect("t", future)
        assert ledger.all_lost() == [future]
        assert ledger.waiting_ids() == []

    def test_settled_another_way(self) -> None:
        ledger, future = Ledger(), ComputeFuture()
        ledger.expect("t", future)
        assert ledger.settled(["t", "u"]) == [future]
        assert ledger.ended(result("t")) == (None, True)


HERE, THERE = Destination("ep", "here"), Destination("ep", "there")


def call(destination: Destination = HERE, size: int = 1) -> Call:
    return Call(ComputeFuture(), destination, Known(function_id="f"), b"x" * size)


class TestBacklog:
    def test_destinations_take_turns(self) -> None:
        backlog = Backlog(2, Bounds())
        calls = [call(HERE), call(THERE), call(HERE), call(HERE)]
        for each in calls:
            backlog.add(each)
        assert [backlog.take(), backlog.take(), backlog.take()] == [
            [calls[0], calls[2]],
            [calls[1]],
            [calls[3]],
        ]
        assert not backlog

    def test_a_batch_is_bounded_in_bytes_and_a_large_call_travels_alone(self) -> None:
        backlog = Backlog(10, Bounds(size=10))
        sizes = [4, 4, 4, 30, 2]
        for size in sizes:
            backlog.add(call(size=size))
        batches = []
        while backlog:
            batches.append([len(each.payload) for each in backlog.take()])
        assert batches == [[4, 4], [4], [30], [2]]

    def test_cancelled_calls_are_left_out(self) -> None:
        backlog = Backlog(10, Bounds())
        first, second = call(), call()
        backlog.add(first)
        backlog.add(second)
        first.future.cancel()
        assert backlog.take() == [second]

    def test_a_batch_that_was_too_much_comes_back_in_parts_and_in_order(self) -> None:
        bounds = Bounds()
        backlog = Backlog(10, bounds)
        calls = [call() for _ in range(5)]
        for each in calls[:4]:
            backlog.add(each)
        taken = backlog.take()
        backlog.add(calls[4])
        bounds.learn(Sizes(submit_tasks=3))
        backlog.put_back(taken)
        assert [backlog.take(), backlog.take()] == [calls[:3], calls[3:]]
        assert not backlog


class TestBounds:
    def test_a_relay_that_takes_more_changes_nothing(self) -> None:
        bounds = Bounds()
        bounds.learn(Sizes(submit_tasks=100_000, request=1 << 30, payload=limits.BLOB))
        assert bounds == Bounds()

    def test_a_queue_that_is_shorter_than_a_request_bounds_it(self) -> None:
        bounds = Bounds()
        bounds.learn(Sizes(submit_tasks=50, queue_depth=20))
        assert (bounds.fit([1] * 20), bounds.fit([1] * 21)) == (True, False)

    def test_bytes(self) -> None:
        bounds = Bounds()
        bounds.learn(Sizes(request=2000, payload=1500))
        assert bounds.fit([500, 500])
        assert not bounds.fit([500, 501])
        assert bounds.fit([1500])  # one alone cannot be made less


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "code", "kind"),
        [
            (401, "", errors.AuthenticationError),
            (403, codes.FUNCTION_NOT_PERMITTED, errors.FunctionNotPermitted),
            (403, codes.ENDPOINT_ACCESS_FORBIDDEN, errors.AccessForbidden),
            (404, codes.ENDPOINT_NOT_FOUND, errors.EndpointNotFound),
            (404, "", errors.NotFound),
            (413, codes.TASK_PAYLOAD_TOO_LARGE, errors.PayloadTooLarge),
            (422, "", errors.InvalidRequest),
            (500, "", errors.RelayError),
        ],
    )
    def test_refusals(self, status: int, code: str, kind: type) -> None:
        error = errors.refusal(status, code, "No.")
        assert type(error) is kind
        assert error.status == status
        assert code in str(error)

    def test_every_code_of_the_wire_has_a_class_or_is_the_user_s(self) -> None:
        every = {v for k, v in vars(codes).items() if k.isupper() and isinstance(v, str)}
        known = set(errors._REFUSALS) | set(errors._FAILURES)
        assert every - known == {codes.USER_EXCEPTION, codes.CANCELLED}

    def test_a_failure_shows_the_remote_text(self) -> None:
        error = exception_of(codes.WORKER_LOST, "The worker died.", "stderr says", b"")
        assert isinstance(error, errors.WorkerLost)
        assert str(error) == "The worker died. [WORKER_LOST]\n\nstderr says"

    def test_an_exception_that_could_not_be_carried(self) -> None:
        error = exception_of(codes.USER_EXCEPTION, "Odd: 1", "Traceback...", b"")
        assert type(error) is errors.TaskExecutionFailed
        assert error.code == codes.USER_EXCEPTION


class TestTransport:
    @pytest.mark.parametrize("once", [True, False])
    @pytest.mark.parametrize("status", [408, 429, 503])
    def test_what_was_not_taken_is_tried_again(self, status: int, once: bool) -> None:
        assert retry_wait(status, 0.0, iter([0.5]), once=once) == 0.5
        assert retry_wait(status, 7.0, iter([0.5]), once=once) == 7.0

    def test_patience_ends(self) -> None:
        assert retry_wait(503, 0.0, iter([]), once=False) is None

    @pytest.mark.parametrize("status", [502, 504])
    def test_a_proxy_s_word_is_not_enough_for_a_submit(self, status: int) -> None:
        assert retry_wait(status, 0.0, iter([0.5]), once=False) == 0.5
        assert retry_wait(status, 0.0, iter([0.5]), once=True) is None

    @pytest.mark.parametrize("status", [400, 401, 404, 500])
    def test_a_refusal_is_final(self, status: int) -> None:
        assert retry_wait(status, 0.0, iter([0.5]), once=False) is None


class TestOutage:
    def outage(self, caplog: pytest.LogCaptureFixture) -> Callable[[float, Exception | None], str]:
        """At this second, the relay fails in this way, or answers: what is told then."""
        now = 0.0
        outage = Outage(lambda: now)

        def at(second: float, failure: Exception | None) -> str:
            nonlocal now
            now = second
            caplog.clear()
            if failure is None:
                outage.is_over()
            else:
                outage.goes_on(failure)
            assert all(record.levelname == "WARNING" for record in caplog.records)
            return "\n".join(caplog.messages)

        return at

    def test_one_that_lasts_is_told_once_and_so_is_its_end(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        at = self.outage(caplog)
        failure = errors.RelayUnreachable("no route")
        assert [at(0, failure), at(9.9, failure)] == ["", ""]
        assert at(10, failure) == "waiting for the relay, and trying again: no route"
        assert [at(20, failure), at(100, failure)] == ["", ""]
        assert [at(101, None), at(102, None)] == ["the relay answers again", ""]
        assert [at(103, failure), at(112, failure)] == ["", ""]
        assert "no route" in at(113, failure)

    def test_a_short_one_is_not_told(self, caplog: pytest.LogCaptureFixture) -> None:
        at = self.outage(caplog)
        failure = errors.RelayUnreachable("no route")
        assert [at(0, failure), at(9, failure), at(9.5, None), at(12, failure)] == [""] * 4

    def test_failures_far_apart_are_none(self, caplog: pytest.LogCaptureFixture) -> None:
        at = self.outage(caplog)
        failure = errors.RelayUnreachable("no route")
        assert [at(0, failure), at(120, failure), at(300, failure)] == [""] * 3


def test_functions_are_known_by_identity_and_forgotten_with_them() -> None:
    functions = Functions()
    known = Known(function_id=str(uuid.uuid4()))

    def make() -> object:
        return lambda: None

    one, two = make(), make()
    functions.keep(one, known)  # type: ignore[arg-type]
    assert functions.get(one) is known  # type: ignore[arg-type]
    assert functions.get(two) is None  # type: ignore[arg-type]
    del one
    assert not functions._kept


def test_cancelled_elsewhere_the_relay_is_not_told() -> None:
    future, told = ComputeFuture(), []
    future.on_cancel = told.append
    future.cancelled_remotely()
    assert future.cancelled()
    assert future.cancel()
    assert told == []


@pytest.mark.parametrize("status", [400, 401, 408, 429, 500, 503])
def test_a_login_is_over_where_the_relay_says_so_alone(status: int) -> None:
    refused = oauth._refusal(Credentials("https://relay.example", ""), status, b"{}")
    over = status in (400, 401)
    assert type(refused) is (oauth.OAuthRefused if over else errors.RelayUnreachable)


def test_importing_the_sdk_is_cheap() -> None:
    program = """
import sys
from mep_sdk import Client, ComputeFuture, Executor
heavy = {"requests", "asyncio", "websockets", "dill", "ssl", "click", "rich"} & set(sys.modules)
sys.exit(f"imported at once: {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
