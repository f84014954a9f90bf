"""What stays in a relay's memory once tasks have ended: nothing of them."""

import asyncio
import gc
import json
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from furnished import ALICE, furnish
from mep_cloud.acknowledgements import Acknowledgements
from mep_cloud.auth import Provider
from mep_cloud.delivery import events
from mep_cloud.delivery.state import Call
from mep_cloud.hub import Hub
from mep_cloud.ids import new_ids
from mep_cloud.memory import Seen
from mep_cloud.publisher import Subscriber
from mep_cloud.settings import Limits
from mep_cloud.store import Store
from mep_cloud.store.engines import READER_KIB, WRITER_KIB, sqlite_engine
from mep_cloud.store.records import NewTask, Submission

from mep.wire import to_endpoint, to_sdk
from mep.wire.tasks import Result

ROUND = 3000
"""Tasks between two counts."""


class Peer:
    """An outbox whose other side reads everything at once."""

    def __init__(self, heard: Callable[[Any], None]) -> None:
        self._heard = heard
        self._items: asyncio.Queue[Any] = asyncio.Queue()
        self.task = asyncio.create_task(self._run())

    def put(self, item: Any) -> None:
        self._items.put_nowait(item)

    def close(self, code: int, reason: str) -> None:
        raise AssertionError(f"the relay closes a link: {code} {reason}")

    async def _run(self) -> None:
        while True:
            item = await self._items.get()
            message = await item() if callable(item) else item
            if message is not None:
                self._heard(message)


class World:
    """Submits, an endpoint that echoes, a stream that acknowledges; all through one hub."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.hub = Hub(store, b"m" * 32, Provider("p", "relay.local"), Limits())
        self.acknowledgements = Acknowledgements(store.tasks)
        self.results = 0
        self.done = asyncio.Event()
        self.wanted = 0
        endpoint, stream = Peer(self._at_endpoint), Peer(self._at_sdk)
        self.peers = [endpoint.task, stream.task]
        self.endpoint = self.hub.attach(endpoint)  # type: ignore[arg-type]
        subscriber = Subscriber(stream, store.tasks)  # type: ignore[arg-type]
        self.hub.publisher.subscribe(subscriber, "g")
        self.hub.apply(events.EndpointOpened(self.endpoint, "e", "uep", "n", 10_000, ()))

    def _at_endpoint(self, message: to_endpoint.ToEndpoint) -> None:
        if isinstance(message, to_endpoint.Tasks):
            results = tuple(Result(each.task_id, "success", b"r" * 50) for each in message.tasks)
            self.hub.apply(events.CreditGranted(self.endpoint, len(results)))
            self.hub.apply(events.ResultsArrived(self.endpoint, results))

    def _at_sdk(self, message: to_sdk.ToSdk) -> None:
        if isinstance(message, to_sdk.Results):
            self.results += len(message.results)
            ids = tuple(result.task_id for result in message.results)
            self.acknowledgements.add(ids, ALICE.id)
            if self.results >= self.wanted:
                self.done.set()

    async def run(self, count: int) -> None:
        """So many tasks, from submit to acknowledged result."""
        self.wanted += count
        self.done.clear()
        for _ in range(0, count, 100):
            tasks = tuple(NewTask(each, "f", b"x" * 50) for each in new_ids(100))
            submission = Submission(
                ALICE.id, "g", "e", "uep", b"{}", b"{}", b"", (), tasks, 1.0, new_ids(1)[0], b"{}"
            )
            assert await self.store.tasks.submit(submission) is None
            calls = tuple(Call(each.task_id, "f", 4, "g", each.payload, 50) for each in tasks)
            self.hub.apply(events.TasksSubmitted("e", "uep", calls))
        async with asyncio.timeout(60):
            await self.done.wait()
        await self.acknowledgements.close()


def test_tasks_that_have_ended_leave_no_object_behind(tmp_path: Path) -> None:
    async def main() -> tuple[str, str]:
        store = Store(tmp_path / "relay.sqlite3")
        store.create()
        async with store:
            await furnish(store)
            world = World(store)
            await world.run(ROUND)
            before = objects()
            await world.run(ROUND)
            after = objects()
            assert world.results == 2 * ROUND
            assert world.hub.delivery.unfinished() == 0
            for peer in world.peers:
                peer.cancel()
            return before, after

    before, after = map(json.loads, asyncio.run(main()))
    grown = {kind: count - before.get(kind, 0) for kind, count in after.items()}
    # sqlite3 drops what it noted of its cursors after every 200.
    assert {kind: count for kind, count in grown.items() if count > ROUND // 10} == {}


def objects() -> str:
    """All objects that may hold others, by type, and how many members their containers have.

    As text, which is no such object itself.
    """
    gc.collect()
    found = gc.get_objects()
    counted = Counter(type(each).__qualname__ for each in found)
    containers = (each for each in found if isinstance(each, dict | list | set | deque))
    counted["members"] = sum(map(len, containers)) - len(found)
    return json.dumps(counted)


def test_the_memory_of_known_rows_is_bounded() -> None:
    seen: Seen[int] = Seen(3)
    for number in (1, 2, 3, 1, 4):
        seen.add(number)
    assert [number for number in range(5) if number in seen] == [1, 3, 4]
    assert len(seen) == 3


def test_connections_to_sqlite_keep_a_bounded_number_of_pages(tmp_path: Path) -> None:
    kept = []
    for writable in (True, False):
        engine = sqlite_engine(tmp_path / "db", writable=writable, pool_size=1)
        with engine.connect() as connection:
            size = connection.exec_driver_sql("PRAGMA cache_size").scalar()
            assert isinstance(size, int)
            kept.append(-size)
        engine.dispose()
    assert kept == [WRITER_KIB, READER_KIB]
    assert WRITER_KIB + 4 * READER_KIB <= 32 * 1024
