"""The SDK against a real relay process; the site is a thread that runs functions itself."""

import asyncio
import concurrent.futures
import json
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mep_sdk import Client, Executor, TaskPending
from mep_sdk.errors import (
    AccessForbidden,
    AuthenticationError,
    EndpointNotFound,
    FunctionNotFound,
    MEPError,
    SubmissionUncertain,
)

from mep import payload
from mep.wire import codes, to_endpoint
from mep.wire.tasks import Failure, Result

sys.path.append(str(Path(__file__).parent / "relay"))
from relay_driver import (
    Api,
    FakeEndpoint,
    FakeManager,
    RelayProcess,
    kept,
    relay_cli,
)

WAIT_S = 30.0


class ThreadEndpoint(FakeEndpoint):
    """Runs each task's function, in the thread of the site."""

    def __init__(self, url: str, user_endpoint_id: str, token: str) -> None:
        super().__init__(url, user_endpoint_id, token, run=self.call)
        self.bodies: dict[str, bytes] = {}

    async def _receive(self, message: to_endpoint.ToEndpoint) -> None:
        if isinstance(message, to_endpoint.Tasks):
            self.bodies.update({each.function_id: each.body for each in message.functions})
        await super()._receive(message)

    def call(self, task: Any) -> Result | None:
        args, kwargs = payload.load_arguments(task.payload)
        if args[:1] == ("hold",):
            return None
        try:
            value = payload.load_function(self.bodies[task.function_id])(*args, **kwargs)
            return Result(task.task_id, "success", payload.dump_result(value), None, 1.0, 2.0)
        except Exception as error:
            packed, text = payload.dump_exception(error)
            failure = Failure(codes.USER_EXCEPTION, str(error), text)
            return Result(task.task_id, "failed", packed, failure, 1.0, 2.0)


class Site:
    """A manager, and a user endpoint for each start that it is asked for; one thread."""

    def __init__(self, url: str, registered: dict[str, Any]) -> None:
        self.endpoint_id: str = registered["endpoint_id"]
        self.options: list[Any] = []
        self._url = url
        self._registered = registered
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))

    def __enter__(self) -> "Site":
        self._thread.start()
        assert self._ready.wait(WAIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        manager = FakeManager(self._url, self._registered)
        async with kept(manager.link):
            serving = asyncio.create_task(self._serve(manager))
            self._ready.set()
            await self._stop.wait()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    async def _serve(self, manager: FakeManager) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                start = await manager.starts.get()
                self.options.append(json.loads(start.options))
                name = json.loads(start.grant)["user_endpoint_id"]
                endpoint = ThreadEndpoint(self._url, name, manager.token(start))
                group.create_task(endpoint.link.run())
                manager.running = (*manager.running, name)


@dataclass
class World:
    relay: RelayProcess
    site: Site
    tokens: dict[str, str]

    def client(self, user: str = "alice") -> Client:
        return Client(self.relay.url, self.tokens[user])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    data = tmp_path_factory.mktemp("sdk-relay") / "data"
    relay_cli("init", data)
    relay = RelayProcess(data)
    tokens = {}
    for user, options in {"admin": ["--admin"], "alice": [], "bob": []}.items():
        relay_cli("user", "add", user, "--data", data, *options)
        tokens[user] = relay_cli("token", "create", user, "--data", data)["token"]
    admin = Api(relay.url, tokens["admin"])
    registered = admin.endpoint()
    admin.session.close()
    world = World(relay, Site(relay.url, registered), tokens)
    try:
        with world.site:
            yield world
    finally:
        world.relay.stop()


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    client = world.client()
    yield client
    client.close()


@pytest.fixture
def ex(world: World, client: Client) -> Iterator[Executor]:
    with Executor(world.site.endpoint_id, client=client) as ex:
        yield ex


def hello(name: str) -> str:
    return f"Hello {name}"


def div0() -> float:
    return 42 / 0


def test_tasks_and_their_exceptions(ex: Executor) -> None:
    assert ex.submit(hello, "World").result(WAIT_S) == "Hello World"
    with pytest.raises(ZeroDivisionError) as caught:
        ex.submit(div0).result(WAIT_S)
    assert "return 42 / 0" in str(caught.value.__cause__)
    assert list(ex.map(pow, range(10), [2] * 10)) == [n * n for n in range(10)]


def test_a_thousand_tasks(ex: Executor) -> None:
    futures = {ex.submit(pow, n, 2): n for n in range(1000)}
    for future in concurrent.futures.as_completed(futures, timeout=60):
        assert future.result() == futures[future] ** 2


def test_configurations(world: World, client: Client) -> None:
    first = {"WALLTIME": "00:20:00", "tag": uuid.uuid4().hex}
    with Executor(world.site.endpoint_id, client=client, user_endpoint_config=first) as ex:
        assert ex.submit(hello, "a").result(WAIT_S) == "Hello a"
        ex.user_endpoint_config = {"WALLTIME": "00:30:00"}
        assert ex.submit(hello, "b").result(WAIT_S) == "Hello b"
    assert first in world.site.options
    assert {"WALLTIME": "00:30:00"} in world.site.options


def test_registered_functions_and_source(ex: Executor) -> None:
    fid = ex.register_function(hello)
    assert ex.submit_to_registered_function(fid, "x").result(WAIT_S) == "Hello x"
    source = "N = 2\ndef double(x):\n    return N * x\n"
    fid = ex.register_source_code(source, function_name="double")
    assert ex.submit_to_registered_function(fid, args=(21,)).result(WAIT_S) == 42


def test_the_client_s_way(world: World, client: Client, ex: Executor) -> None:
    fid = client.register_function(hello)
    assert client.get_registered_function(fid)["function_name"] == "hello"
    batch = client.create_batch()
    batch.add(fid, args=("x",))
    batch.add(fid, args=("hold",))
    done, held = client.batch_run(world.site.endpoint_id, batch)["tasks"][fid]
    # Later tasks of the same process come back later than the first of the batch.
    assert ex.submit(hello, "z").result(WAIT_S) == "Hello z"
    assert client.get_result(done) == "Hello x"
    with pytest.raises(TaskPending):
        client.get_result(held)
    statuses = client.get_batch_result([done, held])
    assert statuses[done]["result"] == "Hello x"
    assert float(statuses[done]["completion_t"]) > 0
    assert statuses[held] == {"pending": True, "status": statuses[held]["status"]}
    assert client.cancel(held) == {held: "cancelling"}
    client.delete_function(fid)
    with pytest.raises(FunctionNotFound):
        client.run("x", endpoint_id=world.site.endpoint_id, function_id=fid)


def test_endpoints_and_oneself(world: World, client: Client) -> None:
    assert client.whoami()["preferred_username"].startswith("alice")
    assert client.get_endpoint_status(world.site.endpoint_id)["status"] == "online"
    assert client.get_endpoint_metadata(world.site.endpoint_id)["multi_user"]
    listed = client.get_endpoints(role="any")
    assert isinstance(listed, list)
    assert client.get_allowed_functions(world.site.endpoint_id)["restricted"] is False


def test_cancel(ex: Executor) -> None:
    future = ex.submit(hello, "hold")
    while future.task_id is None and not future.done():
        ex.submit(hello, "pace").result(WAIT_S)
    assert future.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()


def test_come_back_tomorrow(world: World) -> None:
    today = world.client()
    with Executor(world.site.endpoint_id, client=today) as ex:
        saved = ex.task_group_id
        futures = [ex.submit(hello, str(n)) for n in range(3)] + [ex.submit(div0)]
        concurrent.futures.wait(futures, WAIT_S)
    today.close()
    tomorrow = world.client()
    with Executor(world.site.endpoint_id, client=tomorrow, task_group_id=saved) as ex:
        again = ex.reload_tasks()
        assert [future.task_id for future in again] == [future.task_id for future in futures]
        assert [future.result(WAIT_S) for future in again[:3]] == [f"Hello {n}" for n in range(3)]
        assert isinstance(again[3].exception(WAIT_S), ZeroDivisionError)
    tomorrow.close()


def test_refusals(world: World, client: Client) -> None:
    def ending(**where: Any) -> BaseException | None:
        with Executor(**where) as ex:
            return ex.submit(hello, "x").exception(WAIT_S)

    assert isinstance(ending(endpoint_id=uuid.uuid4(), client=client), EndpointNotFound)
    stranger = Client(world.relay.url, "nonsense")
    error = ending(endpoint_id=world.site.endpoint_id, client=stranger)
    assert isinstance(error, AuthenticationError)
    assert "mep login" in str(error)
    stranger.close()
    bob = world.client("bob")
    theirs = bob.register_function(hello)
    with pytest.raises(AccessForbidden):
        client.run("x", endpoint_id=world.site.endpoint_id, function_id=theirs)
    group = uuid.uuid4()
    bob_ex = Executor(world.site.endpoint_id, client=bob, task_group_id=group)
    with bob_ex:
        assert bob_ex.submit(hello, "bob").result(WAIT_S) == "Hello bob"
    error = ending(endpoint_id=world.site.endpoint_id, client=client, task_group_id=group)
    assert isinstance(error, MEPError)
    bob.close()


def test_the_relay_is_killed_and_comes_back(world: World, client: Client) -> None:
    """What the relay took comes back, once; of what it may have taken, that is said."""
    total = 1000
    with Executor(world.site.endpoint_id, client=client) as ex:
        assert ex.submit(hello, "before").result(WAIT_S) == "Hello before"
        futures = [ex.submit(hello, str(n)) for n in range(total)]
        world.relay.kill()
        world.relay = RelayProcess(world.relay.data, port=world.relay.port)
        uncertain = 0
        for n, future in enumerate(futures):
            try:
                assert future.result(60) == f"Hello {n}"
            except SubmissionUncertain:
                uncertain += 1
        assert uncertain < total
        assert ex.submit(hello, "after").result(WAIT_S) == "Hello after"
        taken = [future.result(WAIT_S) for future in ex.reload_tasks()]
    assert len(taken) == len(set(taken))
    assert total - uncertain + 2 <= len(taken) <= total + 2
