"""Simulated peers of a relay, all in one event loop: SDK clients, and sites that only echo."""

import asyncio
import sys
import time
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "system" / "relay"))

from relay_driver import Api, FakeEndpoint, FakeManager, FakeSdk, RelayProcess, kept, relay_cli

from mep.wire.rest import MSGPACK, Submit, Submitted

__all__ = ["Api", "Client", "EchoSite", "RelayProcess", "relay_cli"]


class Connection:
    """One kept HTTP connection, one request at a time."""

    def __init__(self, url: str, token: str) -> None:
        self._where = urlsplit(url)
        self._token = token
        self._free = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes) -> bytes:
        """The body of the answer, which must be 200."""
        async with self._free:
            if self._streams is None:
                where = self._where
                self._streams = await asyncio.open_connection(where.hostname, where.port)
            reader, writer = self._streams
            head = (
                f"POST {path} HTTP/1.1\r\nHost: {self._where.netloc}\r\n"
                f"Authorization: Bearer {self._token}\r\nContent-Type: {MSGPACK}\r\n"
                f"Accept: {MSGPACK}\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"the relay answered {answer[:80]!r}")
            fields = answer.lower().split(b"content-length: ")[1]
            return await reader.readexactly(int(fields.split(b"\r\n")[0]))

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            await self._streams[1].wait_closed()


class EchoSite:
    """A manager and one user endpoint that answers every task with its own arguments."""

    def __init__(self, url: str, registered: dict[str, Any], api: Api, function_id: str) -> None:
        self.endpoint_id = registered["endpoint_id"]
        self._url = url
        self._manager = FakeManager(url, registered)
        self._api = api
        self._function_id = function_id

    async def open(self, stack: AsyncExitStack) -> None:
        """Have the user endpoint started by a first task."""
        await stack.enter_async_context(kept(self._manager.link))
        await asyncio.to_thread(self._api.submit, self.endpoint_id, self._function_id, ["first"])
        start = await self._manager.next_start()
        token = self._manager.token(start)
        endpoint = _Echo(self._url, start.user_endpoint_id, token)
        await stack.enter_async_context(kept(endpoint.link))


class _Echo(FakeEndpoint):
    """Keeps nothing of what it did."""

    async def _work(self, tasks: tuple[Any, ...]) -> None:
        await super()._work(tasks)
        self.runs.clear()
        while not self.heard.empty():
            self.heard.get_nowait()


class Client(FakeSdk):
    """One SDK: its own stream, connection and task group; knows when each result came."""

    def __init__(self, url: str, token: str) -> None:
        self.group = str(uuid.uuid4())
        super().__init__(url, token, (self.group,))
        self.connection = Connection(url, token)
        self.seconds: list[float] = []
        self.ended = 0
        self._due: dict[str, float] = {}

    @property
    def waiting(self) -> bool:
        """Whether a result is to come."""
        return bool(self._due)

    async def open(self, stack: AsyncExitStack) -> None:
        """Connect the stream; the connection is made with the first request."""
        stack.push_async_callback(self.connection.close)
        await stack.enter_async_context(kept(self.link))

    async def submit(self, endpoint_id: str, function_id: str, count: int, due: float) -> None:
        """Submit so many tasks that were due at this moment (of perf_counter)."""
        body = Submit[bytes](tasks={function_id: [b"x" * 100] * count}, task_group_id=self.group)
        path = f"/v3/endpoints/{endpoint_id}/submit"
        raw = await self.connection.post(path, msgspec.msgpack.encode(body))
        answer = msgspec.msgpack.decode(raw, type=Submitted)
        for task_id in answer.tasks[function_id]:
            came = self.results.pop(task_id, None)
            if came is None:
                self._due[task_id] = due
            else:
                self.seconds.append(time.perf_counter() - due)

    async def _receive(self, message: Any) -> None:
        await super()._receive(message)
        now = time.perf_counter()
        self.ended += len(getattr(message, "results", ()))
        self.times.clear()
        for task_id in [each for each in self.results if each in self._due]:
            del self.results[task_id]
            self.seconds.append(now - self._due.pop(task_id))
