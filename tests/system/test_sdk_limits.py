"""The SDK and a relay that takes less in one request than most: it learns that, and sends parts."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from mep_sdk import Client, Executor
from mep_sdk.bounds import Bounds
from mep_sdk.errors import InvalidRequest, PayloadTooLarge
from test_sdk_relay import WAIT_S, Api, RelayProcess, Site, World, hello, relay_cli

SMALL = """
[limits]
submit_tasks = 5
payload = 2000
function = 10000
request = 20000
"""


SMALLER = """
[limits]
submit_tasks = 3
payload = 1100
"""


@contextmanager
def world_with(settings: str, data: Path) -> Iterator[World]:
    relay_cli("init", data)
    Path(data / "relay.toml").write_text(settings)
    relay_cli("user", "add", "alice", "--admin", "--data", data)
    token = relay_cli("token", "create", "alice", "--data", data)["token"]
    relay = RelayProcess(data)
    alice = Api(relay.url, token)
    world = World(relay, Site(relay.url, alice.endpoint()), {"alice": token})
    alice.session.close()
    try:
        with world.site:
            yield world
    finally:
        world.relay.stop()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_with(SMALL, tmp_path_factory.mktemp("sdk-limits") / "data") as world:
        yield world


@pytest.fixture
def client(small: World) -> Iterator[Client]:
    client = small.client()
    yield client
    client.close()


def test_more_tasks_than_one_request_may_have(small: World, client: Client) -> None:
    with Executor(small.site.endpoint_id, client=client) as ex:
        assert ex.submit(hello, "x").result(WAIT_S) == "Hello x"
        assert client.connection.bounds == Bounds()  # nothing was asked
        names = [str(number) for number in range(300)]
        assert list(ex.map(hello, names)) == [f"Hello {name}" for name in names]
        assert client.connection.bounds.calls == 5


def test_parts_are_sent_once_and_in_order_by_several_executors(
    small: World, client: Client
) -> None:
    endpoint = small.site.endpoint_id
    with Executor(endpoint, client=client) as one, Executor(endpoint, client=client) as two:
        futures = [[ex.submit(hello, str(n)) for ex in (one, two)] for n in range(60)]
        for ex, mine in zip((one, two), zip(*futures, strict=True), strict=True):
            assert [each.result(WAIT_S) for each in mine] == [f"Hello {n}" for n in range(60)]
            ids = [each.task_id for each in mine]
            assert client.get_task_group(ex.task_group_id) == ids


def test_more_bytes_than_one_request_may_have(small: World, client: Client) -> None:
    with Executor(small.site.endpoint_id, client=client) as ex:
        names = [str(number).zfill(1500) for number in range(60)]
        assert list(ex.map(hello, names)) == [f"Hello {name}" for name in names]
        assert client.connection.bounds.size == 10_000


def test_one_argument_that_is_too_large_fails_alone(small: World, client: Client) -> None:
    with Executor(small.site.endpoint_id, client=client) as ex:
        futures = [ex.submit(hello, "x" * (3000 if n == 20 else 1)) for n in range(40)]
        with pytest.raises(PayloadTooLarge, match="2,000"):
            futures[20].result(WAIT_S)
        del futures[20]
        assert {each.result(WAIT_S) for each in futures} == {"Hello x"}


def test_what_is_too_much_in_another_way_fails(small: World, client: Client) -> None:
    with Executor(small.site.endpoint_id, client=client) as ex:
        ex.user_endpoint_config = {"x": "y" * 30_000}
        for future in [ex.submit(hello, "x") for _ in range(3)]:
            with pytest.raises(InvalidRequest, match="more than 20000 bytes"):
                future.result(WAIT_S)


def test_a_relay_that_takes_less_since_it_was_restarted(tmp_path: Path) -> None:
    with world_with(SMALL, tmp_path / "data") as world, closing(world.client()) as client:
        names = [str(number) for number in range(50)]
        with Executor(world.site.endpoint_id, client=client) as ex:
            assert list(ex.map(hello, names)) == [f"Hello {name}" for name in names]
            assert client.connection.bounds.calls == 5
            world.relay.stop()
            (world.relay.data / "relay.toml").write_text(SMALLER)
            world.relay = RelayProcess(world.relay.data, port=world.relay.port)
            futures = [ex.submit(hello, "x" * (1500 if n == 20 else 1)) for n in range(40)]
            with pytest.raises(PayloadTooLarge, match="1,100"):
                futures[20].result(WAIT_S)
            del futures[20]
            assert {each.result(WAIT_S) for each in futures} == {"Hello x"}
            assert client.connection.bounds.calls == 3


def test_batches(small: World, client: Client) -> None:
    function = client.register_function(hello)
    endpoint = small.site.endpoint_id
    batch, older = client.create_batch(), client.create_batch()
    for number in range(12):
        batch.add(function, args=(number,))
        older.add(number, endpoint_id=endpoint, function_id=function)
    answer = client.batch_run(endpoint, batch)
    assert client.get_task_group(answer["task_group_id"]) == answer["tasks"][function]
    for ids in (answer["tasks"][function], client.batch_run(older)):
        names = [client.get_result(each) for each in ids] if _ended(client, ids) else []
        assert names == [f"Hello {number}" for number in range(12)]
    batch = client.create_batch()
    for size in (1, 3000):
        batch.add(function, args=("x" * size,))
    with pytest.raises(PayloadTooLarge):
        client.batch_run(endpoint, batch)


def _ended(client: Client, task_ids: list[str]) -> bool:
    """Wait until all of these tasks have ended."""
    with Executor(client=client) as ex:
        group = client.get_task_record(task_ids[0])["task_group_id"]
        return all(each.result(WAIT_S) for each in ex.reload_tasks(group))
