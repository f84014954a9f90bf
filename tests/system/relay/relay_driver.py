"""Drives a real relay process from outside: command line, REST, and fakes of its three peers."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from mep.link import Link, LinkRefused, Peer
from mep.wire import PROTOCOL, to_endpoint, to_manager, to_sdk
from mep.wire.tasks import Failure, Result, StateChange

BOUND_S = 60
# Any value turns it on, "0" too; it makes a relay several times slower.
_WITHOUT_DEV_MODE = {key: value for key, value in os.environ.items() if key != "PYTHONDEVMODE"}


def relay_cli(*words: object) -> Any:
    """Run ``mep-relay`` and return its JSON."""
    done = run_cli(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run_cli(*words: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mep_cloud", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=BOUND_S, input=stdin)


class RelayProcess:
    """One ``mep-relay serve``."""

    def __init__(
        self, data: Path, *, port: int = 0, arguments: tuple[str, ...] = ("--debug",)
    ) -> None:
        self.data = data
        self.log = data.parent / f"{data.name}.log"
        command = [sys.executable, "-m", "mep_cloud", "serve", "--data", str(data)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(port), *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=_WITHOUT_DEV_MODE,
            )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], BOUND_S)
        line = self.process.stdout.readline() if ready else ""
        if not line.startswith("relay listening on "):
            self.kill()
            raise AssertionError(self.log.read_text())
        self.url = line.split()[-1]
        self.port = int(self.url.rsplit(":", 1)[1])

    def kill(self) -> None:
        """As a power cut would."""
        self.process.kill()
        self._reap()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.terminate()
        return self._reap()

    def ended(self) -> int:
        """Wait for it to end by itself; the exit status."""
        return self._reap()

    def _reap(self) -> int:
        status = self.process.wait(BOUND_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


class Api:
    """REST with one person's token."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self.token = token
        self.session = requests.Session()
        if token is not None:
            self.session.headers["Authorization"] = f"Bearer {token}"

    def __call__(self, method: str, path: str, **arguments: Any) -> requests.Response:
        return self.session.request(method, self.url + path, timeout=BOUND_S, **arguments)

    def ok(self, method: str, path: str, **arguments: Any) -> Any:
        response = self(method, path, **arguments)
        assert response.status_code == 200, response.text
        return response.json()

    def function(self, **fields: Any) -> str:
        body = {"function_name": "f", "function_code": "10\n01\nAAAABB\n", **fields}
        return str(self.ok("POST", "/v3/functions", json=body)["function_uuid"])

    def endpoint(self, **fields: Any) -> dict[str, Any]:
        body = {"endpoint_name": "site", "multi_user": True, **fields}
        answer: dict[str, Any] = self.ok("POST", "/v3/endpoints", json=body)
        return answer

    def submit(
        self, endpoint_id: str, function_id: str, payloads: list[str], **fields: Any
    ) -> dict[str, Any]:
        body = {"tasks": {function_id: payloads}, **fields}
        answer: dict[str, Any] = self.ok("POST", f"/v3/endpoints/{endpoint_id}/submit", json=body)
        return answer

    def results(self, task_ids: list[str]) -> dict[str, Any]:
        answer = self.ok("POST", "/v2/batch_status", json={"task_ids": task_ids})
        results: dict[str, Any] = answer["results"]
        return results

    def wait(self, task_ids: list[str]) -> dict[str, Any]:
        """Statuses, once all of these tasks have ended."""
        deadline = time.monotonic() + BOUND_S
        while True:
            results = self.results(task_ids)
            if all(each["status"] in ("success", "failed") for each in results.values()):
                return results
            assert time.monotonic() < deadline, results
            time.sleep(0.02)


@dataclass
class Running:
    """A relay and its people."""

    relay: RelayProcess
    admin: Api
    alice: Api
    bob: Api
    nobody: Api

    @property
    def url(self) -> str:
        return self.relay.url

    @property
    def apis(self) -> tuple[Api, ...]:
        return self.admin, self.alice, self.bob, self.nobody

    def close(self) -> None:
        """Close their connections."""
        for api in self.apis:
            api.session.close()


def make_people(relay: RelayProcess) -> Running:
    def person(words: tuple[str, ...]) -> Api:
        relay_cli("user", "add", *words, "--data", relay.data)
        made = relay_cli("token", "create", words[0], "--data", relay.data, "--name", "test")
        return Api(relay.url, made["token"])

    # Each command starts a Python; at once they take half the time.
    with ThreadPoolExecutor() as threads:
        people = threads.map(person, [("admin", "--admin"), ("alice@example.org",), ("bob",)])
    return Running(relay, *people, Api(relay.url, None))


@contextlib.asynccontextmanager
async def kept(link: Link[Any]) -> AsyncIterator[asyncio.Task[None]]:
    """Run a link for the length of the block."""
    task = asyncio.create_task(link.run())
    try:
        yield task
    finally:
        await link.close()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, LinkRefused):
            await task


class FakeManager:
    """A manager with a warden that checks grants and answers as the test says."""

    def __init__(self, url: str, registered: dict[str, Any], boot_id: str = "ab" * 16) -> None:
        self.key = bytes.fromhex(registered["grant_key"])
        self.endpoint_id = registered["endpoint_id"]
        self.boot_id = boot_id
        self.running: tuple[str, ...] = ()
        self.starts: asyncio.Queue[to_manager.Start] = asyncio.Queue()
        self.heard: asyncio.Queue[to_manager.ToManager] = asyncio.Queue()
        self.link: Link[to_manager.ToManager] = Link(
            Peer(url),
            to_manager.PATH,
            token=lambda: registered["link_token"],
            hello=self._hello,
            decoder=to_manager.to_manager,
            receive=self._receive,
        )

    def _hello(self) -> to_manager.ManagerHello:
        return to_manager.ManagerHello(PROTOCOL, self.endpoint_id, "0", "3.11", "host")

    async def _receive(self, message: to_manager.ToManager) -> None:
        match message:
            case to_manager.Welcome():
                await self.link.send(to_manager.WardenUp(self.boot_id, self.running))
            case to_manager.Start():
                self.check(message)
                self.starts.put_nowait(message)
        self.heard.put_nowait(message)

    def check(self, start: to_manager.Start) -> None:
        expected = hmac.digest(self.key, b"mep-grant-1\0" + start.grant, "sha256")
        assert hmac.compare_digest(expected, start.signature)
        grant = json.loads(start.grant)
        assert grant["boot_id"] == self.boot_id
        assert grant["nonce"] == start.nonce
        assert grant["options_sha256"] == hashlib.sha256(start.options).hexdigest()
        assert grant["runtime_sha256"] == hashlib.sha256(start.runtime).hexdigest()

    async def next_start(self) -> to_manager.Start:
        async with asyncio.timeout(BOUND_S):
            return await self.starts.get()

    def token(self, start: to_manager.Start) -> str:
        """What the warden would hand to the process."""
        mac = hmac.digest(self.key, b"mep-token-1\0" + start.grant, "sha256")
        return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def echo(task: Any) -> Result:
    """The result is the payload."""
    return Result(task.task_id, "success", task.payload, None, 1.0, 2.0)


class FakeEndpoint:
    """A user endpoint that answers each task with `run`, or holds it when that gives None."""

    def __init__(
        self,
        url: str,
        user_endpoint_id: str,
        token: str,
        *,
        run: Callable[[Any], Result | None] = echo,
        credit: int = 512,
    ) -> None:
        self.run = run
        self.credit = credit
        self.unacknowledged: dict[str, Result] = {}
        self.held: dict[str, Any] = {}
        self.cancel_is_lost = False
        self.runs: dict[str, int] = {}
        self.functions: list[str] = []
        self.heard: asyncio.Queue[to_endpoint.ToEndpoint] = asyncio.Queue()
        self._id = user_endpoint_id
        self.link: Link[to_endpoint.ToEndpoint] = Link(
            Peer(url),
            to_endpoint.PATH,
            token=lambda: token,
            hello=self._hello,
            decoder=to_endpoint.to_endpoint,
            receive=self._receive,
        )

    def _hello(self) -> to_endpoint.EndpointHello:
        known = (*self.unacknowledged, *self.held)
        return to_endpoint.EndpointHello(PROTOCOL, self._id, "0", "3.11", self.credit, known)

    async def _receive(self, message: to_endpoint.ToEndpoint) -> None:
        match message:
            case to_endpoint.Welcome():
                if self.unacknowledged:
                    await self.send(list(self.unacknowledged.values()))
            case to_endpoint.Tasks(functions, tasks):
                self.functions.extend(each.function_id for each in functions)
                await self._work(tasks)
            case to_endpoint.Committed(task_ids):
                for task_id in task_ids:
                    self.unacknowledged.pop(task_id, None)
            case to_endpoint.Cancel(task_ids) if not self.cancel_is_lost:
                failure = Failure("CANCELLED", "cancelled at the endpoint")
                ended = [task_id for task_id in task_ids if self.held.pop(task_id, None)]
                await self.send([Result(each, "cancelled", b"", failure) for each in ended])
        self.heard.put_nowait(message)

    async def _work(self, tasks: tuple[Any, ...]) -> None:
        results = []
        for task in tasks:
            self.runs[task.task_id] = self.runs.get(task.task_id, 0) + 1
            result = self.run(task)
            if result is None:
                self.held[task.task_id] = task
            else:
                results.append(result)
        await self.send(results)
        await self.link.send(to_endpoint.Credit(len(results)))

    async def send(self, results: list[Result]) -> None:
        self.unacknowledged.update({result.task_id: result for result in results})
        if results:
            await self.link.send(to_endpoint.Results(tuple(results)))

    async def hear_task(self, task_id: str) -> None:
        """Wait until this task is held."""
        while task_id not in self.held:
            await self.hear(to_endpoint.Tasks)

    async def move(self, change: StateChange) -> None:
        """Tell of a state."""
        await self.link.send(to_endpoint.States((change,)))

    async def hear(self, kind: type[Any]) -> Any:
        """The next message of this kind."""
        async with asyncio.timeout(BOUND_S):
            while True:
                message = await self.heard.get()
                if isinstance(message, kind):
                    return message


class FakeSdk:
    """A stream that collects results, and acknowledges them unless told not to."""

    def __init__(
        self, url: str, token: str, groups: tuple[str, ...], *, acknowledge: bool = True
    ) -> None:
        self.groups = groups
        self.acknowledge = acknowledge
        self.results: dict[str, Result] = {}
        self.times: dict[str, int] = {}
        self.states: list[Any] = []
        self._news = asyncio.Event()
        self.link: Link[to_sdk.ToSdk] = Link(
            Peer(url),
            to_sdk.PATH,
            token=lambda: token,
            hello=lambda: to_sdk.StreamHello(PROTOCOL, "0", self.groups),
            decoder=to_sdk.to_sdk,
            receive=self._receive,
        )

    async def _receive(self, message: to_sdk.ToSdk) -> None:
        match message:
            case to_sdk.Results(results):
                for result in results:
                    self.results[result.task_id] = result
                    self.times[result.task_id] = self.times.get(result.task_id, 0) + 1
                if self.acknowledge:
                    await self.link.send(to_sdk.Received(tuple(r.task_id for r in results)))
            case to_sdk.States(changes):
                self.states.extend(changes)
        self._news.set()

    async def until(self, condition: Callable[[], bool], seconds: float = BOUND_S) -> None:
        """Wait until a message made `condition` true."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._news.clear()
                await self._news.wait()
