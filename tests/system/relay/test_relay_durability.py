"""What survives the death of the relay, and what its disk and logs never hold."""

import asyncio
import signal
import sqlite3
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from relay_driver import BOUND_S, Api, FakeEndpoint, FakeManager, FakeSdk, RelayProcess, kept
from relay_load import CUT

from mep.wire import to_endpoint, to_manager

TASKS = 500
BATCH = 20


class Submitter(threading.Thread):
    """Submits batches until `TASKS` are accepted, across a restart of the relay."""

    def __init__(self, api: Api, endpoint_id: str, function: str, group: str) -> None:
        super().__init__(daemon=True)
        self.accepted: list[str] = []
        self.unanswered = 0
        self.back = threading.Event()
        self._arguments = (endpoint_id, function)
        self._api = api
        self._group = group

    def run(self) -> None:
        endpoint_id, function = self._arguments
        while len(self.accepted) < TASKS:
            try:
                answer = self._api.submit(
                    endpoint_id, function, ["x"] * BATCH, task_group_id=self._group
                )
            except CUT:
                self.unanswered += 1
                assert self.back.wait(BOUND_S)
                continue
            self.accepted += answer["tasks"][function]


def test_kill_while_tasks_flow(any_relay: Callable[[], Any]) -> None:
    running = any_relay()

    async def flow() -> None:
        registered = running.admin.endpoint()
        function = running.alice.function()
        group = str(uuid.uuid4())
        manager = FakeManager(running.url, registered)
        sdk = FakeSdk(running.url, running.alice.token, (group,))
        submitter = Submitter(running.alice, registered["endpoint_id"], function, group)
        async with kept(manager.link), kept(sdk.link):
            submitter.start()
            start = await manager.next_start()
            manager.running = (start.user_endpoint_id,)
            await manager.link.send(to_manager.Started(start.user_endpoint_id, "alice", 1))
            endpoint = FakeEndpoint(
                running.url, start.user_endpoint_id, manager.token(start), credit=64
            )
            async with kept(endpoint.link):
                await sdk.until(lambda: len(sdk.results) >= TASKS // 4)
                running.relay.kill()
                running.relay = await asyncio.to_thread(
                    RelayProcess, running.relay.data, port=running.relay.port
                )
                submitter.back.set()
                await asyncio.to_thread(submitter.join, BOUND_S)
                assert not submitter.is_alive()
                await sdk.until(lambda: set(submitter.accepted) <= set(sdk.results))
                listed = await asyncio.to_thread(running.alice.ok, "GET", f"/v2/taskgroup/{group}")
                everything = [each["id"] for each in listed["tasks"]]
                await sdk.until(lambda: set(everything) == set(sdk.results))
        # A batch whose answer was lost may be on disk; nothing else is beside what was accepted.
        assert set(submitter.accepted) <= set(everything)
        assert len(everything) <= len(submitter.accepted) + BATCH * submitter.unanswered
        assert set(endpoint.runs.values()) == {1}
        statuses = await asyncio.to_thread(running.alice.wait, everything)
        assert {each["status"] for each in statuses.values()} == {"success"}
        assert {each["result"] for each in statuses.values()} == {"x"}
        assert manager.starts.empty()

    asyncio.run(flow())


def test_restart_with_waiting_tasks_asks_for_a_start(any_relay: Callable[[], Any]) -> None:
    running = any_relay()
    registered = running.admin.endpoint()
    function = running.alice.function()
    payload = "y" * 100_000
    ids = running.alice.submit(registered["endpoint_id"], function, ["x", payload])
    first, second = ids["tasks"][function]
    running.relay.kill()
    running.relay = RelayProcess(running.relay.data, port=running.relay.port)
    assert running.alice.ok("GET", f"/v2/tasks/{first}")["status"] == "waiting-for-ep"

    async def flow() -> None:
        manager = FakeManager(running.url, registered)
        async with kept(manager.link):
            start = await manager.next_start()
            endpoint = FakeEndpoint(running.url, start.user_endpoint_id, manager.token(start))
            async with kept(endpoint.link):
                statuses = await asyncio.to_thread(running.alice.wait, [first, second])
        assert statuses[first]["result"] == "x"
        assert statuses[second]["result"] == payload

    asyncio.run(flow())


def test_cancel_survives_a_kill(any_relay: Callable[[], Any]) -> None:
    running = any_relay()

    async def flow() -> None:
        registered = running.admin.endpoint()
        function = running.alice.function()
        manager = FakeManager(running.url, registered)
        async with kept(manager.link):
            answer = await asyncio.to_thread(
                running.alice.submit, registered["endpoint_id"], function, ["x"]
            )
            (task,) = answer["tasks"][function]
            start = await manager.next_start()
            manager.running = (start.user_endpoint_id,)
            endpoint = FakeEndpoint(
                running.url, start.user_endpoint_id, manager.token(start), run=lambda task: None
            )
            endpoint.cancel_is_lost = True
            async with kept(endpoint.link):
                await endpoint.hear(to_endpoint.Tasks)
                body = {"task_ids": [task]}
                await asyncio.to_thread(running.alice.ok, "POST", "/v3/tasks/cancel", json=body)
                await endpoint.hear(to_endpoint.Cancel)
                running.relay.kill()
                endpoint.cancel_is_lost = False
                running.relay = await asyncio.to_thread(
                    RelayProcess, running.relay.data, port=running.relay.port
                )
                statuses = await asyncio.to_thread(running.alice.wait, [task])
                assert statuses[task]["failure_code"] == "CANCELLED"
                await endpoint.hear(to_endpoint.Cancel)
                assert endpoint.held == {}

    asyncio.run(flow())


def test_sigterm_says_goodbye_and_loses_nothing(any_relay: Callable[[], Any]) -> None:
    running = any_relay()

    async def flow() -> None:
        registered = running.admin.endpoint()
        manager = FakeManager(running.url, registered)
        function = running.alice.function()
        async with kept(manager.link):
            answer = await asyncio.to_thread(
                running.alice.submit, registered["endpoint_id"], function, ["x"]
            )
            await manager.next_start()
            assert await asyncio.to_thread(running.relay.stop) == 0
            async with asyncio.timeout(BOUND_S):
                while not isinstance(await manager.heard.get(), to_manager.Goodbye):
                    pass
            running.relay = await asyncio.to_thread(
                RelayProcess, running.relay.data, port=running.relay.port
            )
            await manager.next_start()
        (task,) = answer["tasks"][function]
        assert running.alice.ok("GET", f"/v2/tasks/{task}")["status"] == "waiting-for-ep"

    asyncio.run(flow())
    running.relay.process.send_signal(signal.SIGINT)
    assert running.relay.ended() == 0


def test_no_secret_on_disk_or_in_the_log(own_relay: Callable[[], Any]) -> None:
    running = own_relay()
    secrets = {"user token": running.alice.token, "admin token": running.admin.token}

    async def flow() -> None:
        registered = running.admin.endpoint()
        secrets["grant key"] = registered["grant_key"]
        secrets["link token"] = registered["link_token"]
        manager = FakeManager(running.url, registered)
        function = running.alice.function()
        async with kept(manager.link):
            await asyncio.to_thread(
                running.alice.submit, registered["endpoint_id"], function, ["x"]
            )
            start = await manager.next_start()
            secrets["user endpoint token"] = manager.token(start)
            endpoint = FakeEndpoint(running.url, start.user_endpoint_id, manager.token(start))
            async with kept(endpoint.link):
                await endpoint.hear(to_endpoint.Committed)

    asyncio.run(flow())
    assert running.relay.stop() == 0
    data: Path = running.relay.data
    master = (data / "master.key").read_text().strip()
    files = [path for path in data.iterdir() if path.is_file() and path.name != "master.key"]
    contents = {path.name: path.read_bytes() for path in [*files, running.relay.log]}
    assert any(content.startswith(b"SQLite format 3") for content in contents.values())
    for what, secret in {**secrets, "master": master}.items():
        forms = [secret.encode()]
        if what in ("grant key", "master"):
            forms.append(bytes.fromhex(secret))
        for name, content in contents.items():
            for form in forms:
                assert form not in content, f"{what} in {name}"
    for path in (data, *data.iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path


def test_the_database_is_durable_by_its_settings(own_relay: Callable[[], Any]) -> None:
    running = own_relay()
    with sqlite3.connect(running.relay.data / "relay.sqlite3") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()
