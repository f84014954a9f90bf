"""The executor against relays that behave, and relays that do not."""

import concurrent.futures
import gc
import hashlib
import itertools
import os
import queue
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from mep_sdk import Client, ComputeFuture, Executor, MEPError, Serializer
from mep_sdk.auth import Credentials
from mep_sdk.bounds import Sizes
from mep_sdk.errors import (
    AuthenticationError,
    CredentialsError,
    DeserializationFailed,
    EndpointNotFound,
    FunctionNotFound,
    NoRoom,
    PayloadTooLarge,
    RelayUnreachable,
    SerializationError,
    SubmissionUncertain,
)
from mep_sdk.large import Large
from mep_sdk.ledger import Ledger
from mep_sdk.outage import Outage
from mep_sdk.polling import Polling
from mep_sdk.transport import Transport
from relays import (
    TOKEN,
    WAIT_S,
    BusyLibraryRelay,
    BusyRelay,
    DeafStreamRelay,
    EagerRelay,
    EchoRelay,
    ForgetfulRelay,
    HoardingRelay,
    ImpatientRelay,
    LateStreamRelay,
    LibraryRelay,
    LosingRelay,
    NoSuchEndpointRelay,
    NoUpgradeRelay,
    OnceRelay,
    RefusingRelay,
    RepeatingRelay,
    ReticentRelay,
    SlowRelay,
    hanging_up,
)

from mep.wire import codes, limits
from mep.wire.rest import Submit, Uploaded
from mep.wire.tasks import Blob

EP = str(uuid.uuid4())
ClientOf = Callable[[EchoRelay], Client]


def hello(name: str) -> str:
    return f"Hello {name}"


def div0() -> float:
    return 42 / 0


class OwnError(Exception):
    pass


def fail_own_way() -> None:
    raise OwnError("in its own way")


# --- the ordinary way -----------------------------------------------------------------------------


def test_a_task_comes_back(client_of: ClientOf) -> None:
    relay = EchoRelay()
    with Executor(EP, client=client_of(relay)) as ex:
        future = ex.submit(hello, "World")
        assert isinstance(future, ComputeFuture)
        assert future.result(WAIT_S) == "Hello World"
        assert future.task_id in relay.results
        assert future.function_id in relay.functions
        assert future.task_group_id == ex.task_group_id
        assert future.task_id in repr(future)
        assert "success" in repr(future)
    relay.until(lambda: not relay.unacknowledged and not relay.streams)


def test_keyword_arguments_and_map(client_of: ClientOf) -> None:
    with Executor(EP, client=client_of(EchoRelay())) as ex:
        assert ex.submit(hello, name="k").result(WAIT_S) == "Hello k"
        assert list(ex.map(pow, range(10), [2] * 10)) == [n * n for n in range(10)]


def test_a_function_is_registered_once(client_of: ClientOf) -> None:
    relay = EchoRelay()
    with Executor(EP, client=client_of(relay)) as ex:
        futures = [ex.submit(hello, str(n)) for n in range(50)]
        done = [future.result(WAIT_S) for future in futures]
    assert done == [f"Hello {n}" for n in range(50)]
    assert relay.requests.count("register") == 1


def test_the_function_s_exception_is_raised_with_the_remote_lines(client_of: ClientOf) -> None:
    with Executor(EP, client=client_of(EchoRelay())) as ex:
        with pytest.raises(ZeroDivisionError) as caught:
            ex.submit(div0).result(WAIT_S)
        assert "return 42 / 0" in str(caught.value.__cause__)
        with pytest.raises(OwnError, match="in its own way") as own:
            ex.submit(fail_own_way).result(WAIT_S)
        assert 'raise OwnError("in its own way")' in str(own.value.__cause__)


def test_a_module_that_is_missing_over_there(client_of: ClientOf) -> None:
    def importer() -> None:
        import no_such_module_anywhere  # noqa: F401

    with Executor(EP, client=client_of(EchoRelay())) as ex:
        with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
            ex.submit(importer).result(WAIT_S)


def test_what_gathers_while_a_request_is_under_way_leaves_together(client_of: ClientOf) -> None:
    relay = SlowRelay()
    with Executor(EP, client=client_of(relay)) as ex:
        first = ex.submit(hello, "first")
        relay.until(lambda: len(relay.submits) == 1)
        later = [ex.submit(hello, str(n)) for n in range(100)]
        relay.go.set()
        assert first.result(WAIT_S) == "Hello first"
        assert [future.result(WAIT_S) for future in later] == [f"Hello {n}" for n in range(100)]
    assert [sum(map(len, submit.tasks.values())) for submit in relay.submits] == [1, 100]


def test_tasks_go_with_what_was_set_when_they_were_submitted(client_of: ClientOf) -> None:
    relay = EchoRelay()
    config: dict[str, Any] = {"WALLTIME": "00:20:00", "list": [1]}
    with Executor(EP, client=client_of(relay), user_endpoint_config=config) as ex:
        config["list"].append(2)
        first = ex.submit(hello, "a")
        ex.user_endpoint_config = {"WALLTIME": "00:30:00"}
        ex.resource_specification = {"num_nodes": 2}
        ex.result_serializers = ["JSONData", "00"]
        second = ex.submit(hello, "b")
        assert (first.result(WAIT_S), second.result(WAIT_S)) == ("Hello a", "Hello b")
    one, two = relay.submits
    assert one.user_endpoint_config == {"WALLTIME": "00:20:00", "list": [1]}
    assert one.resource_specification is None
    assert two.user_endpoint_config == {"WALLTIME": "00:30:00"}
    assert two.resource_specification == {"num_nodes": 2}
    assert two.result_serializers == ["11", "00"]
    assert two.user_runtime is not None
    assert two.user_runtime["python"]["version_tuple"] == list(os.sys.version_info[:3])  # type: ignore[attr-defined]


def test_a_batch_is_as_large_as_was_set_then(client_of: ClientOf) -> None:
    relay = SlowRelay()
    with Executor(EP, client=client_of(relay), batch_size=100) as ex:
        first = ex.submit(hello, "first")
        relay.until(lambda: len(relay.submits) == 1)
        later = [ex.submit(hello, str(n)) for n in range(5)]
        ex.batch_size = 2
        relay.go.set()
        assert first.result(WAIT_S) == "Hello first"
        assert [future.result(WAIT_S) for future in later] == [f"Hello {n}" for n in range(5)]
        for wrong in (0, "many"):
            with pytest.raises(ValueError, match="batch_size is a number of tasks, at least 1"):
                ex.batch_size = wrong  # type: ignore[assignment]
    assert [sum(map(len, each.tasks.values())) for each in relay.submits] == [1, 2, 2, 1]


def test_a_function_is_written_as_was_set_then(client_of: ClientOf) -> None:
    relay = EchoRelay()
    with Executor(EP, client=client_of(relay)) as ex:
        assert ex.submit(hello, "a").result(WAIT_S) == "Hello a"
        named = ex.register_function(div0)
        ex.serializer = Serializer(code="DillCode")
        other = ex.submit(hello, "b")
        assert other.result(WAIT_S) == "Hello b"
        failing = ex.submit(div0)
        assert isinstance(failing.exception(WAIT_S), ZeroDivisionError)
        assert failing.function_id == named, "which was registered by the user"
    forms = [each.function_code.split("\n")[1] for each in relay.functions.values()]
    assert (forms[0], forms[2]) == ("st", "01")


def test_the_group_of_an_executor_that_is_done_is_streamed_no_more(client_of: ClientOf) -> None:
    """One that goes on keeps the stream open, which takes so many groups and no more."""
    relay = EchoRelay()
    client = client_of(relay)
    with Executor(EP, client=client) as lasting:
        assert lasting.submit(hello, "Ann").result(WAIT_S) == "Hello Ann"
        for name in ("Bob", "Cid"):
            with Executor(EP, client=client) as brief:
                assert brief.submit(hello, name).result(WAIT_S) == f"Hello {name}"
        relay.until(lambda: list(relay.streams.values()) == [{lasting.task_group_id}])
        again = Executor(EP, client=client, task_group_id=brief.task_group_id)
        with again:
            assert again.submit(hello, "Cid").result(WAIT_S) == "Hello Cid"
        assert relay.hellos == 1


def test_a_map_that_takes_too_long_cancels_all_that_has_not_ended(client_of: ClientOf) -> None:
    relay = HoardingRelay()
    with Executor(EP, client=client_of(relay)) as ex:
        results = ex.map(hello, "abc", timeout=0.1)
        ex.flush(WAIT_S)
        with pytest.raises(concurrent.futures.TimeoutError):
            next(results)
        relay.until(lambda: sorted(relay.cancelled) == sorted(relay.groups[ex.task_group_id]))
    assert len(relay.cancelled) == 3


def test_registered_functions(client_of: ClientOf) -> None:
    with Executor(client=client_of(EchoRelay())) as ex:
        fid = ex.register_function(hello)
        with pytest.raises(ValueError, match=r"executor\.endpoint_id = "):
            ex.submit(hello, "x")
        ex.endpoint_id = EP
        submit = ex.submit_to_registered_function
        assert submit(fid, "one").result(WAIT_S) == "Hello one"
        assert submit(fid, ("tuple",)).result(WAIT_S) == "Hello tuple"
        assert submit(fid, args=("args",)).result(WAIT_S) == "Hello args"
        assert submit(function_id=fid, kwargs={"name": "k"}).result(WAIT_S) == "Hello k"
        assert submit(fid, ["a", "list"]).result(WAIT_S) == "Hello ['a', 'list']"
        with pytest.raises(TypeError, match="not a str"):
            submit(fid, args="x")
        source = "import math\nSIDE = math.sqrt(4)\n\ndef area():\n    return SIDE**2\n"
        area = ex.register_source_code(source, function_name="area")
        assert submit(area).result(WAIT_S) == 4.0


def test_a_function_registered_first_is_submitted_by_that_id(client_of: ClientOf) -> None:
    relay = EchoRelay()
    with Executor(EP, client=client_of(relay)) as ex:
        fid = ex.register_function(hello)
        future = ex.submit(hello, "x")
        assert future.result(WAIT_S) == "Hello x"
        assert future.function_id == fid
    assert relay.requests.count("register") == 1


def test_executors_of_one_client_share_a_stream(client_of: ClientOf) -> None:
    relay = EchoRelay()
    client = client_of(relay)
    with Executor(EP, client=client) as one, Executor(EP, client=client) as two:
        futures = [one.submit(hello, "1"), two.submit(hello, "2")]
        assert [future.result(WAIT_S) for future in futures] == ["Hello 1", "Hello 2"]
        relay.until(lambda: relay.hellos)
        assert relay.hellos == 1


def test_asyncio_and_as_completed(client_of: ClientOf) -> None:
    import asyncio

    async def wrapped(ex: Executor) -> Any:
        return await asyncio.wait_for(asyncio.wrap_future(ex.submit(hello, "loop")), WAIT_S)

    with Executor(EP, client=client_of(EchoRelay())) as ex:
        futures = {ex.submit(pow, n, 2): n for n in range(20)}
        for future in concurrent.futures.as_completed(futures, timeout=WAIT_S):
            assert future.result() == futures[future] ** 2
        assert asyncio.run(wrapped(ex)) == "Hello loop"


def test_an_executor_that_nobody_keeps_still_delivers(client_of: ClientOf) -> None:
    client = client_of(EchoRelay())
    future = Executor(EP, client=client).submit(hello, "orphan")
    gc.collect()
    assert future.result(WAIT_S) == "Hello orphan"


# --- races ----------------------------------------------------------------------------------------


def test_a_result_that_overtakes_the_answer_to_its_submit(client_of: ClientOf) -> None:
    relay = EagerRelay()
    with Executor(EP, client=client_of(relay)) as ex:
        marker = ex.submit(hello, "marker")
        relay.until(lambda: relay.marker)
        futures = [ex.submit(hello, str(n)) for n in range(3)]
        assert [future.result(WAIT_S) for future in futures] == [f"Hello {n}" for n in range(3)]
        assert marker.result(WAIT_S) == "Hello marker"


def test_doubled_results_are_one(client_of: ClientOf) -> None:
    relay = RepeatingRelay()
    calls: list[str] = []
    with Executor(EP, client=client_of(relay)) as ex:
        future = ex.submit(hello, "x")
        future.add_done_callback(lambda each: calls.append(each.result()))
        assert future.result(WAIT_S) == "Hello x"
        assert ex.submit(hello, "y").result(WAIT_S) == "Hello y"
    assert calls == ["Hello x"]


def test_results_streamed_again_after_a_reconnection_are_acknowledged(client_of: ClientOf) -> None:
    relay = ForgetfulRelay()
    with Executor(EP, client=client_of(relay)) as ex:
        assert ex.submit(hello, "x").result(WAIT_S) == "Hello x"
        relay.until(lambda: relay.hellos == 2 and not relay.unacknowledged)
        assert ex.submit(hello, "y").result(WAIT_S) == "Hello y"


def test_a_group_that_is_added_while_the_stream_is_up(client_of: ClientOf) -> None:
    with Executor(EP, client=client_of(EchoRelay())) as ex:
        assert ex.submit(hello, "x").result(WAIT_S) == "Hello x"
        ex.task_group_id = uuid.uuid4()
        assert ex.submit(hello, "y").result(WAIT_S) == "Hello y"


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("statuses", [(503,), (429, 429), (503, 429, 503)])
def test_a_submit_that_was_not_taken_is_sent_again(
    client_of: ClientOf, statuses: tuple[int, ...]
) -> None:
    relay = BusyRelay(*statuses)
    with Executor(EP, client=client_of(relay)) as ex:
        assert ex.submit(hello, "x").result(WAIT_S) == "Hello x"
    assert len(relay.submits) == len(statuses) + 1
    assert len(relay.results) == 1


def test_whoever_is_told_to_be_slower_waits_as_long_as_was_told(client_of: ClientOf) -> None:
    relay = BusyRelay(429)
    relay.retry_after = "2"
    with Executor(EP, client=client_of(relay)) as ex:
        began = time.monotonic()
        assert ex.submit(hello, "x").result(WAIT_S) == "Hello x"
        assert time.monotonic() - began >= 2


def test_a_submit_that_may_have_been_taken_is_not_sent_again(client_of: ClientOf) -> None:
    relay = BusyRelay(502)
    with Executor(EP, client=client_of(relay)) as ex:
        with pytest.raises(SubmissionUncertain, match="reload_tasks"):
            ex.submit(hello, "x").result(WAIT_S)
    assert len(relay.submits) == 1


def test_nor_where_another_executor_has_learned_that_it_was_too_much(client_of: ClientOf) -> None:
    """Executors share what one of them has learned while a batch of another is under way."""
    relay = LosingRelay(lambda: client.connection.bounds.learn(Sizes(submit_tasks=2)))
    client = client_of(relay)
    with Executor(EP, client=client) as ex:
        first = ex.submit(hello, "first")
        relay.until(lambda: len(relay.submits) == 1)
        later = [ex.submit(hello, str(n)) for n in range(5)]
        relay.go.set()
        assert first.result(WAIT_S) == "Hello first"
        for future in later:
            with pytest.raises(SubmissionUncertain):
                future.result(WAIT_S)
    assert [sum(map(len, submit.tasks.values())) for submit in relay.submits] == [1, 5]


def test_it_is_sent_again_to_a_relay_that_takes_a_request_once(client_of: ClientOf) -> None:
    relay = OnceRelay()
    with Executor(EP, client=client_of(relay)) as ex:
        assert ex.submit(hello, "x").result(WAIT_S) == "Hello x"
        relay.statuses = [502]
        assert ex.submit(hello, "y").result(WAIT_S) == "Hello y"
    assert relay.submits[1].request_id == relay.submits[2].request_id
    assert relay.submits[0].request_id != relay.submits[1].request_id


def test_a_relay_that_hangs_up() -> None:
    with hanging_up() as (url, heard):
        client = Client(url, "t", patience_s=1)
        ex = Executor(EP, client=client)
        fid = str(uuid.uuid4())
        with pytest.raises(SubmissionUncertain):
            ex.submit_to_registered_function(fid).result(WAIT_S)
        ex.shutdown()
        client.close()
    assert sum(b"/submit" in request for request in heard) == 1


def test_a_relay_that_is_not_there() -> None:
    client = Client("http://127.0.0.1:9", "t", patience_s=0.3)
    ex = Executor(EP, client=client)
    with pytest.raises(RelayUnreachable, match=r"127\.0\.0\.1:9 does not answer"):
        ex.submit(hello, "x").result(WAIT_S)
    ex.shutdown()
    client.close()


def test_an_unknown_endpoint_ends_the_whole_batch(client_of: ClientOf) -> None:
    with Executor(EP, client=client_of(NoSuchEndpointRelay())) as ex:
        for future in [ex.submit(hello, "x") for _ in range(3)]:
            with pytest.raises(EndpointNotFound) as caught:
                future.result(WAIT_S)
            assert caught.value.code == "ENDPOINT_NOT_FOUND"
            assert caught.value.status == 404


def test_an_unknown_function(client_of: ClientOf) -> None:
    with Executor(EP, client=client_of(EchoRelay())) as ex:
        with pytest.raises(FunctionNotFound):
            ex.submit_to_registered_function(uuid.uuid4()).result(WAIT_S)


def test_a_function_that_is_refused_spares_its_neighbours(client_of: ClientOf) -> None:
    relay = SlowRelay()
    with Executor(EP, client=client_of(relay)) as ex:
        first = ex.submit(hello, "first")
        relay.until(lambda: len(relay.submits) == 1)
        refused = ex.submit_to_registered_function(uuid.uuid4())
        others = [ex.submit(hello, "second"), ex.submit(pow, 2, 3)]
        relay.go.set()
        assert first.result(WAIT_S) == "Hello first"
        with pytest.raises(FunctionNotFound):
            refused.result(WAIT_S)
        assert [each.result(WAIT_S) for each in others] == ["Hello second", 8]
    assert len(relay.submits[1].tasks) == 3, "they were in one request"


def test_a_stream_that_is_refused_ends_futures(client_of: ClientOf) -> None:
    with Executor(EP, client=client_of(RefusingRelay())) as ex:
        for _ in range(2):  # the second finds the stream refused already
            with pytest.raises(AuthenticationError, match=r"revoked; run `mep login`"):
                ex.submit(hello, "x").result(WAIT_S)


@pytest.mark.parametrize("status", [400, 403, 404, 502])
def test_a_proxy_that_lets_no_websocket_through(client_of: ClientOf, status: int) -> None:
    relay = NoUpgradeRelay(status)
    with Executor(EP, client=client_of(relay)) as ex:
        assert ex.submit(hello, "x").result(WAIT_S) == "Hello x"
        with pytest.raises(ZeroDivisionError):
            ex.submit(div0).result(WAIT_S)
        assert list(ex.map(hello, "abc", timeout=WAIT_S)) == ["Hello a", "Hello b", "Hello c"]
    assert relay.hellos == 0


def test_a_request_that_stopped_on_its_way_is_sent_again(client_of: ClientOf) -> None:
    """As when the laptop was closed just then: that is no refusal of it, nor of what waits."""
    relay = ImpatientRelay()
    with Executor(EP, client=client_of(relay)) as ex:
        assert ex.submit(hello, "x").result(WAIT_S) == "Hello x"
    assert not relay.left


def test_a_proxy_that_swallows_what_is_said_on_a_websocket(client_of: ClientOf) -> None:
    with Executor(EP, client=client_of(DeafStreamRelay())) as ex:
        assert ex.submit(hello, "x").result(WAIT_S) == "Hello x"


def test_what_the_stream_never_told_is_found_by_asking(client_of: ClientOf) -> None:
    """As is done from time to time though the stream is up."""
    relay = ReticentRelay()
    client = client_of(relay)
    with Executor(EP, client=client) as ex:
        futures = [ex.submit(hello, "x"), ex.submit(div0)]
        ex.flush(WAIT_S)
        relay.until(lambda: relay.hellos)
        received: list[str] = []
        ways = (client.connection.large, received.extend, futures[0].set_exception)
        ledger = client.result_stream().ledger
        polling = Polling(Credentials(client.relay_url, TOKEN), ledger, *ways, once=True)
        polling.run()
        assert futures[0].result(0) == "Hello x"
        assert isinstance(futures[1].exception(0), ZeroDivisionError)
        assert received == [future.task_id for future in futures]


def test_a_large_result_is_fetched_though_the_token_cannot_be_renewed_at_once() -> None:
    relay = LibraryRelay()
    away = iter([RelayUnreachable("away")] * 2)

    def token() -> str:
        for error in away:
            raise error
        return TOKEN

    with relay.serving() as url:
        credentials = Credentials(url, "", authorizer=token)
        http = Transport(credentials, WAIT_S, patience_s=1)
        large = Large(credentials, http)
        assert large.result("any", Blob("b", 3, hashlib.sha256(b"abc").hexdigest())) == b"abc"
        large.close()
        http.close()


class BackgroundTransport(Transport):
    """Has patience for a moment, where nobody waits."""

    def patience_s(self, *, patient: bool) -> float:
        return 1.0 if patient else 0.0


def test_what_executors_move_waits_for_the_relay_as_long_as_what_they_send() -> None:
    relay = BusyLibraryRelay(4, 503, "BUSY")
    arguments = bytes(2 * limits.INLINE)
    blob = Blob("b", 3, hashlib.sha256(b"abc").hexdigest())
    fetched: queue.Queue[bytearray | MEPError] = queue.Queue()
    with relay.serving() as url:
        credentials = Credentials(url, TOKEN)
        http = BackgroundTransport(credentials, WAIT_S, None)
        large = Large(credentials, http)
        with pytest.raises(RelayUnreachable):
            large.submit(Submit({"f": [arguments]}))
        with pytest.raises(RelayUnreachable):
            large.result("any", blob)
        assert relay.times == 2
        sent = large.submit(Submit({"f": [arguments]}), patient=True)
        assert isinstance(sent.tasks["f"][0], Uploaded)
        relay.times = 2
        large.fetch("any", blob, fetched.put)
        assert fetched.get(timeout=WAIT_S) == b"abc"
        large.close()
        http.close()


def quick_outage() -> Outage:
    """For which a quarter of a minute goes by between two failures."""
    seconds = itertools.count(0, 15)
    return Outage(lambda: float(next(seconds)))


def test_whoever_waits_for_the_relay_is_told_so(
    client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(BusyRelay(503, 503, 503))
    client.connection.http.outage = quick_outage()
    with Executor(EP, client=client) as ex:
        assert ex.submit(hello, "x").result(WAIT_S) == "Hello x"
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == [
        "waiting for the relay, and trying again: Later, please. [BUSY]",
        "the relay answers again",
    ]


def test_whoever_waits_for_results_alone_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    with EchoRelay().serving() as url:
        pass  # and away it is
    credentials = Credentials(url, TOKEN)
    http = Transport(credentials, WAIT_S, 0.0, quick_outage())
    ledger, refused = Ledger(), list[MEPError]()
    ledger.expect("t", ComputeFuture())
    for _ in range(3):
        Polling(
            credentials, ledger, Large(credentials, http), print, refused.append, once=True
        ).run()
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1
    assert "the relay at http://127.0.0.1" in told[0]
    assert not refused


def test_whoever_waits_for_large_arguments_is_told_so(
    client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(BusyLibraryRelay(2, 503, "BUSY"))
    client.connection.http.outage = quick_outage()
    request = Submit({"f": [bytes(2 * limits.INLINE)]})
    client.connection.large.submit(request, patient=True)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1
    assert "large arguments and results do not get to http://127.0.0.1" in told[0]


def test_no_room_for_large_arguments_spares_their_neighbours(client_of: ClientOf) -> None:
    relay = BusyLibraryRelay(3, 507, codes.BLOBS_FULL)
    with Executor(EP, client=client_of(relay)) as ex:
        futures = [ex.submit(len, bytes(size)) for size in (3, limits.INLINE + 1, 5)]
        with pytest.raises(NoRoom):
            futures[1].result(WAIT_S)
        assert [futures[0].result(WAIT_S), futures[2].result(WAIT_S)] == [3, 5]


def test_results_are_asked_for_no_more_once_the_stream_is_up(client_of: ClientOf) -> None:
    relay = LateStreamRelay()
    with Executor(EP, client=client_of(relay)) as ex:
        assert ex.submit(hello, "x").result(WAIT_S) == "Hello x"
        assert "batch_status" in relay.requests
        relay.open.set()
        relay.until(lambda: relay.hellos)
        assert ex.submit(hello, "y").result(WAIT_S) == "Hello y"
        relay.until(lambda: not relay.unacknowledged)  # what was told over REST, too
        for thread in threading.enumerate():
            if thread.name == "mep-polling":  # it may be about to ask a last time
                thread.join(WAIT_S)
        asked = relay.requests.count("batch_status")
        assert [ex.submit(hello, c).result(WAIT_S) for c in "ab"] == ["Hello a", "Hello b"]
        assert relay.requests.count("batch_status") == asked


def test_a_payload_above_the_limit_is_not_sent(client_of: ClientOf) -> None:
    relay = EchoRelay()
    with Executor(EP, client=client_of(relay)) as ex:
        with pytest.raises(PayloadTooLarge) as caught:
            ex.submit(len, b"x" * 11 * 2**20).result(WAIT_S)
    assert caught.value.code == "TASK_PAYLOAD_TOO_LARGE"
    assert relay.submits == []


def test_a_payload_above_the_limit_spares_its_neighbours(client_of: ClientOf) -> None:
    with Executor(EP, client=client_of(EchoRelay())) as ex:
        futures = [ex.submit(len, bytes(size)) for size in (3, 11 * 2**20, 2 * 2**20)]
        with pytest.raises(PayloadTooLarge, match="10,485,760"):
            futures[1].result(WAIT_S)
        assert [futures[0].result(WAIT_S), futures[2].result(WAIT_S)] == [3, 2 * 2**20]


def test_arguments_that_cannot_be_serialized(client_of: ClientOf) -> None:
    with Executor(EP, client=client_of(EchoRelay())) as ex:
        with pytest.raises(SerializationError, match="generator"):
            ex.submit(len, (n for n in "ab")).result(WAIT_S)


def test_a_function_that_does_not_load_over_there(client_of: ClientOf) -> None:
    relay = EchoRelay()
    with Executor(EP, client=client_of(relay)) as ex:
        fid = ex.register_function(hello)
        function = relay.functions[fid]
        relay.functions[fid] = type(function)(function_name="bad", function_code="7\n01\nbm90")
        with pytest.raises(DeserializationFailed):
            ex.submit_to_registered_function(fid, "x").result(WAIT_S)


def test_mistakes_are_told_at_once(client_of: ClientOf) -> None:
    with pytest.raises(ValueError, match="no endpoint id"):
        Executor("not-a-uuid")
    with pytest.raises(TypeError, match="JSON"):
        Executor(EP, user_endpoint_config={"x": object()})
    with pytest.raises(TypeError, match="keys"):
        Executor(EP, user_endpoint_config={1: 2})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="JSONDatum"):
        Executor(EP, result_serializers=["JSONDatum"])
    with pytest.raises(CredentialsError, match="mep login"):
        Executor(EP).submit(hello, "x")
    ex = Executor(EP, client=client_of(EchoRelay()), label="mine")
    with pytest.raises(TypeError, match="not a int"):
        ex.submit(3)  # type: ignore[arg-type]
    assert repr(ex) == f"<Executor 'mine' at {EP}>"
    ex.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        ex.submit(hello, "x")


def test_the_configuration_is_replaced_not_changed() -> None:
    ex = Executor(EP, user_endpoint_config={"a": 1})
    assert ex.user_endpoint_config == {"a": 1}
    with pytest.raises(TypeError):
        ex.user_endpoint_config["a"] = 2  # type: ignore[index]


# --- cancel, shutdown, reload ---------------------------------------------------------------------


def test_a_task_that_was_not_sent_is_never_sent(client_of: ClientOf) -> None:
    relay = SlowRelay()
    with Executor(EP, client=client_of(relay)) as ex:
        first = ex.submit(hello, "first")
        relay.until(lambda: len(relay.submits) == 1)
        second, third = ex.submit(hello, "second"), ex.submit(hello, "third")
        assert second.cancel()
        assert second.cancel()
        with pytest.raises(concurrent.futures.CancelledError):
            second.result()
        relay.go.set()
        assert (first.result(WAIT_S), third.result(WAIT_S)) == ("Hello first", "Hello third")
        assert not first.cancel()
    assert len(relay.results) == 2
    assert relay.cancelled == []


def test_a_sent_task_is_cancelled_at_the_relay(client_of: ClientOf) -> None:
    relay = HoardingRelay()
    with Executor(EP, client=client_of(relay)) as ex:
        future = ex.submit(hello, "x")
        relay.until(lambda: relay.groups)
        assert future.cancel()
        done, _ = concurrent.futures.wait([future], timeout=WAIT_S)
        assert done == {future}
        assert future.cancelled()
        assert "cancelled" in repr(future)
        relay.until(lambda: relay.cancelled == relay.groups[ex.task_group_id])


def test_a_task_cancelled_while_its_submit_is_under_way(client_of: ClientOf) -> None:
    relay = SlowRelay()
    with Executor(EP, client=client_of(relay)) as ex:
        future = ex.submit(hello, "x")
        relay.until(lambda: relay.submits)
        assert future.cancel()
        relay.go.set()
        relay.until(lambda: relay.cancelled)
    assert relay.cancelled == relay.groups[ex.task_group_id]


def test_shutdown_waits_for_what_was_submitted(client_of: ClientOf) -> None:
    ex = Executor(EP, client=client_of(EchoRelay()))
    futures = [ex.submit(hello, str(n)) for n in range(300)]
    ex.shutdown()
    assert all(future.done() for future in futures)
    assert "shut down" in repr(ex)


def test_shutdown_without_waiting_still_delivers(client_of: ClientOf) -> None:
    ex = Executor(EP, client=client_of(EchoRelay()))
    future = ex.submit(hello, "x")
    ex.shutdown(wait=False)
    assert future.result(WAIT_S) == "Hello x"


def test_shutdown_that_cancels(client_of: ClientOf) -> None:
    relay = HoardingRelay()
    ex = Executor(EP, client=client_of(relay))
    futures = [ex.submit(hello, str(n)) for n in range(10)]
    relay.until(lambda: relay.groups)
    ex.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in futures)


def test_threads_end_with_the_last_executor(client_of: ClientOf) -> None:
    others = threading.enumerate()
    client = client_of(EchoRelay())
    with Executor(EP, client=client) as ex:
        assert ex.submit(hello, "x").result(WAIT_S) == "Hello x"
        ours = [t for t in threading.enumerate() if t.name.startswith("mep-") and t not in others]
        # One that asks for results is beside them where the stream takes long to come up.
        assert {thread.name for thread in ours} >= {"mep-submitter", "mep-results"}
    for thread in ours:
        thread.join(WAIT_S)
        assert not thread.is_alive()


def test_reloaded_tasks(client_of: ClientOf) -> None:
    relay = EchoRelay()
    client = client_of(relay)
    with Executor(EP, client=client) as ex:
        saved = ex.task_group_id
        assert ex.reload_tasks() == []
        assert [ex.submit(hello, str(n)).result(WAIT_S) for n in range(3)] == [
            "Hello 0",
            "Hello 1",
            "Hello 2",
        ]
        with pytest.raises(ZeroDivisionError):
            ex.submit(div0).result(WAIT_S)
    last = relay.groups[saved][2]
    ended = relay.results.pop(last)
    with Executor(EP, client=client, task_group_id=saved) as again:
        futures = again.reload_tasks()
        assert [future.result(WAIT_S) for future in futures[:2]] == ["Hello 0", "Hello 1"]
        assert isinstance(futures[3].exception(WAIT_S), ZeroDivisionError)
        assert not futures[2].done()
        assert again.reload_tasks()[2] is futures[2]
        relay.results[last] = relay.unacknowledged[last] = ended
        ex2 = again.submit(hello, "new")  # its submit makes the relay stream what is open
        assert ex2.result(WAIT_S) == "Hello new"
        assert futures[2].result(WAIT_S) == "Hello 2"


def test_a_forked_child_starts_afresh(client_of: ClientOf) -> None:
    relay = SlowRelay()
    with Executor(EP, client=client_of(relay)) as ex:
        pending = ex.submit(hello, "parent")
        relay.until(lambda: relay.submits)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:  # pragma: no cover
            try:
                fresh = ex.submit(hello, "child")
                os.write(write, fresh.result(WAIT_S).encode() + b";")
                os.write(write, type(pending.exception(WAIT_S)).__name__.encode())
            finally:
                os._exit(0)
        os.close(write)
        relay.until(lambda: len(relay.submits) == 2)
        relay.go.set()
        with os.fdopen(read, "rb") as pipe:
            assert pipe.read() == b"Hello child;MEPError"
        os.waitpid(child, 0)
        assert pending.result(WAIT_S) == "Hello parent"


def test_a_process_that_ends_sends_what_was_submitted(client_of: ClientOf) -> None:
    import subprocess
    import sys

    relay = EchoRelay()
    client = client_of(relay)
    program = f"""
from mep_sdk import Executor
ex = Executor({EP!r})
for n in range(200):
    ex.submit(pow, n, 2)
"""
    environment = {**os.environ, "MEP_RELAY_URL": client.relay_url, "MEP_TOKEN": "t"}
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(relay.results) == 200


def test_error_classes_survive_pickling() -> None:
    import pickle

    error = EndpointNotFound(404, "ENDPOINT_NOT_FOUND", "no such endpoint")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.status) == (EndpointNotFound, str(error), 404)
    assert isinstance(again, MEPError)
