"""The client's calls against relays on loopback."""

import uuid
from collections.abc import Callable

import pytest
from mep_sdk import Client, Executor, TaskPending
from mep_sdk.bounds import Sizes
from mep_sdk.errors import (
    NotFound,
    PayloadTooLarge,
    RelayError,
    RelayUnreachable,
    SubmissionUncertain,
    TaskNotFound,
)
from relays import EchoRelay, HoardingRelay, LosingRelay, TersestRelay, hanging_up

EP = str(uuid.uuid4())
ClientOf = Callable[[EchoRelay], Client]


def hello(name: str, mark: str = "") -> str:
    """Greets."""
    return f"Hello {name}{mark}"


def div0() -> float:
    return 42 / 0


def test_run_and_get_result(client_of: ClientOf) -> None:
    relay = EchoRelay()
    gcc = client_of(relay)
    fid = gcc.register_function(hello, public=True)
    assert relay.functions[fid].public
    assert relay.functions[fid].description == "Greets."
    assert gcc.get_result(gcc.run("Bob", endpoint_id=EP, function_id=fid)) == "Hello Bob"
    tid = gcc.run("Bob", endpoint_id=EP, function_id=fid, mark="!")
    assert gcc.get_task(tid) == {
        "pending": False,
        "status": "success",
        "completion_t": "2.0",
        "result": "Hello Bob!",
    }


def test_what_has_ended_is_asked_for_once(client_of: ClientOf) -> None:
    relay = EchoRelay()
    gcc = client_of(relay)
    tid = gcc.run("Bob", endpoint_id=EP, function_id=gcc.register_function(hello))
    assert gcc.get_result(tid) == gcc.get_result(tid.upper()) == "Hello Bob"
    assert relay.requests.count("batch_status") == 1


def long(name: str, count: int) -> str:
    return name * count


def test_what_is_kept_of_what_has_ended_is_bounded(
    client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that runs for weeks asks for many results, once each."""
    monkeypatch.setattr("mep_sdk.tasks.KEPT_BYTES", 30_000)
    relay = EchoRelay()
    gcc = client_of(relay)
    fid = gcc.register_function(long)
    tids = [gcc.run(name, 10_000, endpoint_id=EP, function_id=fid) for name in "abcd"]
    gcc.get_batch_result(tids)
    relay.requests.clear()
    for tid, name in zip(tids[2:], "cd", strict=True):
        assert gcc.get_result(tid) == name * 10_000
    assert relay.requests == []
    for tid, name in zip(tids[:2], "ab", strict=True):
        assert gcc.get_result(tid) == name * 10_000
    assert relay.requests == ["batch_status"] * 2
    tid = gcc.run("e", 40_000, endpoint_id=EP, function_id=fid)
    assert gcc.get_result(tid) == "e" * 40_000


def test_results_that_one_answer_does_not_hold_are_asked_for_again(client_of: ClientOf) -> None:
    relay = TersestRelay()
    gcc = client_of(relay)
    fid = gcc.register_function(hello)
    tids = [gcc.run(name, endpoint_id=EP, function_id=fid) for name in ("Ann", "Bob", "Cid")]
    told = gcc.get_batch_result(tids)
    assert [told[tid]["result"] for tid in tids] == ["Hello Ann", "Hello Bob", "Hello Cid"]
    assert relay.requests.count("batch_status") == 3


def test_pending_and_failed(client_of: ClientOf) -> None:
    gcc = client_of(HoardingRelay())
    fid = gcc.register_function(hello)
    tid = gcc.run("x", endpoint_id=EP, function_id=fid)
    assert gcc.get_task(tid) == {"pending": True, "status": "waiting-for-nodes"}
    with pytest.raises(TaskPending, match="waiting-for-nodes"):
        gcc.get_result(tid)


def test_the_function_s_exception(client_of: ClientOf) -> None:
    gcc = client_of(EchoRelay())
    tid = gcc.run(endpoint_id=EP, function_id=gcc.register_function(div0))
    with pytest.raises(ZeroDivisionError) as caught:
        gcc.get_result(tid)
    assert "return 42 / 0" in str(caught.value.__cause__)
    assert isinstance(gcc.get_batch_result([tid])[tid]["exception"], ZeroDivisionError)


def test_batches(client_of: ClientOf) -> None:
    relay = EchoRelay()
    gcc = client_of(relay)
    fid = gcc.register_function(hello)
    batch = gcc.create_batch(user_endpoint_config={"a": 1}, resource_specification={"b": 2})
    for n in range(5):
        batch.add(fid, args=(n,), kwargs={"mark": "!"})
    assert len(batch) == 5
    answer = gcc.batch_run(EP, batch)
    ids = answer["tasks"][fid]
    statuses = gcc.get_batch_result(ids)
    assert [statuses[tid]["result"] for tid in ids] == [f"Hello {n}!" for n in range(5)]
    assert len(relay.submits) == 1
    assert relay.submits[0].user_endpoint_config == {"a": 1}
    assert relay.submits[0].resource_specification == {"b": 2}
    assert gcc.get_task_group(answer["task_group_id"]) == ids


def test_a_batch_that_is_larger_than_a_request(client_of: ClientOf) -> None:
    relay = EchoRelay()
    client = client_of(relay)
    fid = client.register_function(len)
    batch = client.create_batch()
    for n in range(3):
        batch.add(fid, args=(bytes(n + 2_000_000),))
    answer = client.batch_run(EP, batch)
    assert [len(each.tasks[fid]) for each in relay.submits] == [2, 1]
    assert {each.task_group_id for each in relay.submits[1:]} == {answer["task_group_id"]}
    told = client.get_batch_result(answer["tasks"][fid])
    assert [each["result"] for each in told.values()] == [n + 2_000_000 for n in range(3)]


@pytest.mark.parametrize("older", [False, True])
def test_of_a_batch_with_arguments_that_are_too_large_nothing_is_sent(
    client_of: ClientOf, older: bool
) -> None:
    relay = EchoRelay()
    client = client_of(relay)
    fid = client.register_function(len)
    batch = client.create_batch()
    for size in (3_000_000, 3_000_000, 11_000_000):
        if older:
            batch.add(bytes(size), endpoint_id=EP, function_id=fid)
        else:
            batch.add(fid, args=(bytes(size),))
    with pytest.raises(PayloadTooLarge):
        client.batch_run(batch) if older else client.batch_run(EP, batch)
    assert relay.submits == []


def test_a_batch_that_may_have_been_taken_is_not_sent_again_in_parts(client_of: ClientOf) -> None:
    relay = LosingRelay(lambda: client.connection.bounds.learn(Sizes(submit_tasks=2)))
    relay.go.set()
    client = client_of(relay)
    fid = client.register_function(hello)
    client.run("first", endpoint_id=EP, function_id=fid)
    batch = client.create_batch()
    for n in range(5):
        batch.add(fid, args=(n,))
    with pytest.raises(SubmissionUncertain):
        client.batch_run(EP, batch)
    assert [len(submit.tasks[fid]) for submit in relay.submits] == [1, 5]


def test_an_older_batch_that_is_larger_than_a_request(client_of: ClientOf) -> None:
    relay = EchoRelay()
    client = client_of(relay)
    f, g = client.register_function(len), client.register_function(hello)
    batch = client.create_batch()
    for n in range(3):
        batch.add(bytes(n + 2_000_000), endpoint_id=EP, function_id=f)
        batch.add(n, endpoint_id=EP, function_id=g)
    ids = client.batch_run(batch)
    assert [sum(map(len, each.tasks.values())) for each in relay.submits] == [4, 2]
    assert len(relay.groups) == 1
    results = [client.get_result(each) for each in ids]
    assert results[::2] == [n + 2_000_000 for n in range(3)]
    assert results[1::2] == [f"Hello {n}" for n in range(3)]


def test_the_older_batches_go_to_several_endpoints_and_keep_their_order(
    client_of: ClientOf,
) -> None:
    relay = EchoRelay()
    gcc = client_of(relay)
    f, g = gcc.register_function(hello), gcc.register_function(pow)
    other = str(uuid.uuid4())
    batch = gcc.create_batch()
    batch.add("a", endpoint_id=EP, function_id=f)
    batch.add(2, 5, endpoint_id=EP, function_id=g)
    batch.add("b", endpoint_id=other, function_id=f, mark="?")
    batch.add("c", endpoint_id=EP, function_id=f)
    ids = gcc.batch_run(batch)
    assert [gcc.get_result(tid) for tid in ids] == ["Hello a", 32, "Hello b?", "Hello c"]
    assert len(relay.submits) == 2


def test_mistakes_with_batches(client_of: ClientOf) -> None:
    gcc = client_of(EchoRelay())
    batch = gcc.create_batch()
    with pytest.raises(ValueError, match="empty"):
        gcc.batch_run(EP, batch)
    with pytest.raises(ValueError, match="empty"):
        gcc.batch_run(batch)
    with pytest.raises(TypeError, match="not a int"):
        batch.add(str(uuid.uuid4()), args=3)
    with pytest.raises(ValueError, match="no function id"):
        batch.add("f", args=())
    batch.add(str(uuid.uuid4()), args=())
    with pytest.raises(ValueError, match="batch_run\\(endpoint_id, batch\\)"):
        gcc.batch_run(batch)
    with pytest.raises(TypeError):
        gcc.batch_run(EP)


def test_what_json_cannot_say_is_named_at_once(client_of: ClientOf) -> None:
    gcc = client_of(EchoRelay())
    for name in ("user_endpoint_config", "resource_specification"):
        with pytest.raises(TypeError, match=f"{name} must consist of what JSON can say"):
            gcc.create_batch(**{name: {"a": object()}})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="labels must consist of what JSON can say"):
        gcc.register_function(hello, labels={"a": object()})


def test_source_code(client_of: ClientOf) -> None:
    gcc = client_of(EchoRelay())
    fid = gcc.register_source_code("N = 2\ndef f(x):\n    return N * x\n", "f")
    assert gcc.get_result(gcc.run(4, endpoint_id=EP, function_id=fid)) == 8
    with pytest.raises(ValueError, match="does not define 'g'"):
        gcc.register_source_code("def f(): pass", function_name="g")
    with pytest.raises(SyntaxError):
        gcc.register_source_code("def f(:", function_name="f")


def test_what_is_said_of_a_function(client_of: ClientOf) -> None:
    relay, group, here = EchoRelay(), str(uuid.uuid4()), str(uuid.uuid4())
    said = {"description": "d", "group": group, "ha_endpoint_id": here}
    about = {"container": "debian:12", "labels": {"a": [1]}}
    gcc = client_of(relay)
    source = "def f(): pass\n"
    ids = [
        gcc.register_function(hello, **said, **about),  # type: ignore[arg-type]
        gcc.register_source_code(source, "f", **said, **about),  # type: ignore[arg-type]
        Executor(client=gcc).register_function(hello, **said, **about),
    ]
    for each in map(relay.functions.__getitem__, ids):
        assert {name: getattr(each, name) for name in said} == said
        assert each.meta is not None
        assert {name: getattr(each.meta, name) for name in about} == about
        assert not each.public


def test_a_function_that_is_too_large(client_of: ClientOf) -> None:
    gcc = client_of(EchoRelay())
    data = bytes(9 * 2**20)
    with pytest.raises(PayloadTooLarge, match="function <lambda> has"):
        gcc.register_function(lambda: data)


def test_cancel(client_of: ClientOf) -> None:
    relay = HoardingRelay()
    gcc = client_of(relay)
    tid = gcc.run("x", endpoint_id=EP, function_id=gcc.register_function(hello))
    assert gcc.cancel(tid) == {tid: "cancelling"}
    assert relay.cancelled == [tid]


def test_unknown_things(client_of: ClientOf) -> None:
    gcc = client_of(EchoRelay())
    assert gcc.get_task_group(str(uuid.uuid4())) == []
    with pytest.raises(ValueError, match="no task id"):
        gcc.get_task("x")
    with pytest.raises(NotFound):  # a page that the relay does not have, in another shape
        gcc.get_endpoint_status(EP)


def test_a_task_that_is_not_one_s_own(client_of: ClientOf) -> None:
    from mep.wire import codes
    from mep.wire.rest import TaskStatus

    relay = EchoRelay()
    relay.status = lambda task_id: TaskStatus(  # type: ignore[method-assign]
        task_id, "failed", exception="There is no such task.", failure_code=codes.TASK_NOT_FOUND
    )
    gcc, task = client_of(relay), str(uuid.uuid4())
    for ask in (gcc.get_result, gcc.get_task):
        with pytest.raises(TaskNotFound, match="no such task"):
            ask(task)
    told = gcc.get_batch_result([task])[task]
    assert told["status"] == "failed"
    assert isinstance(told["exception"], TaskNotFound)


def test_what_is_done_to_an_answer_stays_there(client_of: ClientOf) -> None:
    gcc = client_of(EchoRelay())
    task = gcc.run("x", endpoint_id=EP, function_id=gcc.register_function(hello))
    assert gcc.get_batch_result([task, task])[task].pop("result") == "Hello x"
    assert gcc.get_result(task) == "Hello x"


def test_harmless_requests_are_repeated_and_a_submit_is_not() -> None:
    with hanging_up() as (url, heard):
        gcc = Client(url, "t", patience_s=0.5)
        with pytest.raises(RelayUnreachable):
            gcc.whoami()
        assert sum(b"/v3/whoami" in request for request in heard) > 1
        with pytest.raises(SubmissionUncertain):
            gcc.run(endpoint_id=EP, function_id=str(uuid.uuid4()))
        assert sum(b"/submit" in request for request in heard) == 1
        gcc.close()


def test_something_else_answers(client_of: ClientOf) -> None:
    class WebPage(EchoRelay):
        async def group(self, request):  # type: ignore[no-untyped-def]
            from starlette.responses import HTMLResponse

            return HTMLResponse("<h1>It works!</h1>")

    with pytest.raises(RelayError, match="what a relay would not"):
        client_of(WebPage()).get_task_group(str(uuid.uuid4()))


def test_the_token_is_sent_whatever_netrc_says(
    client_of: ClientOf, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pathlib import Path

    netrc = Path(str(tmp_path)) / "netrc"
    netrc.write_text("machine 127.0.0.1 login mallory password p\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with hanging_up() as (url, heard):
        gcc = Client(url, "the-token", patience_s=0)
        with pytest.raises(RelayUnreachable):
            gcc.whoami()
        gcc.close()
    assert b"Bearer the-token" in heard[0]
    assert b"Basic" not in heard[0]
