"""Large arguments and results: streamed, checked, whose they are, and what damage does to them."""

import asyncio
import hashlib
import http.client
import os
import random
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest
from relay_driver import (
    BOUND_S,
    Api,
    FakeEndpoint,
    FakeManager,
    FakeSdk,
    RelayProcess,
    Running,
    kept,
    make_people,
    relay_cli,
)
from relay_pair import Pair

from mep.link import Peer
from mep.transfer import Transfer, blob_of
from mep.wire import rest, to_endpoint
from mep.wire.rest import MSGPACK, content_digest
from mep.wire.strategies import as_text
from mep.wire.tasks import Blob, Result

MIB = 1 << 20
LARGE = 200_000_000
PORTION = 8 * MIB
MSGPACK_BOTH = {"Content-Type": MSGPACK, "Accept": MSGPACK}


@contextmanager
def relay_with(data: Path, settings: str) -> Iterator[Running]:
    relay_cli("init", data)
    (data / "relay.toml").write_text(settings)
    people = make_people(RelayProcess(data))
    try:
        yield people
    finally:
        people.close()
        if people.relay.process.poll() is None:
            people.relay.stop()


SETTINGS = f"""
[limits]
payload = {LARGE}
result = {LARGE}
[blobs]
inline = 4096
keep_free = 0
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with relay_with(tmp_path_factory.mktemp("large") / "data", SETTINGS) as running:
        yield running


def bytes_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def headers_of(digest: bytes, size: int | None = None) -> dict[str, str]:
    headers = {"Content-Digest": content_digest(digest), "Accept": MSGPACK}
    return headers if size is None else headers | {"Content-Length": str(size)}


def upload(api: Any, data: Any, digest: bytes | None = None, path: str = "/v3/blobs") -> Any:
    digest = digest or hashlib.sha256(data).digest()
    return api("POST", path, data=data, headers=headers_of(digest))


def uploaded(api: Any, data: bytes, path: str = "/v3/blobs") -> rest.Uploaded:
    response = upload(api, data, path=path)
    assert response.status_code == 200, response.text
    return msgspec.msgpack.decode(response.content, type=rest.Uploaded)


def submit(api: Any, endpoint: str, function: str, call: Any, group: str | None = None) -> Any:
    body = rest.Submit[bytes](tasks={function: [call]}, task_group_id=group)
    return api(
        "POST",
        f"/v3/endpoints/{endpoint}/submit",
        data=msgspec.msgpack.encode(body),
        headers=MSGPACK_BOTH,
    )


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def files(running: Running) -> set[Path]:
    """Of a relay that serves several tests, a sweep may remove some at any moment."""
    directory = running.relay.data / "blobs"
    return {path for path in directory.rglob("*") if path.is_file()}


def gone(path_or_paths: Callable[[], Any]) -> None:
    deadline = time.monotonic() + BOUND_S
    while path_or_paths():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


class Site:
    """A user endpoint that takes one task, and with it what a test needs to answer for it."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.function = running.alice.function()
        self.endpoint_id = ""
        self.token = ""
        self.user_endpoint_id = ""
        self.api: Any = None

    async def open(self, stack: AsyncExitStack, first: Any, group: str) -> FakeEndpoint:
        """Submit a first task, whose endpoint this is then; it holds what it gets."""
        registered = self.running.admin.endpoint()
        self.endpoint_id = registered["endpoint_id"]
        manager = FakeManager(self.running.url, registered)
        await stack.enter_async_context(kept(manager.link))
        answer = await asyncio.to_thread(
            submit, self.running.alice, self.endpoint_id, self.function, first, group
        )
        assert answer.status_code == 200, answer.text
        start = await manager.next_start()
        self.token, self.user_endpoint_id = manager.token(start), start.user_endpoint_id
        self.api = type(self.running.alice)(self.running.url, self.token)
        stack.callback(self.api.session.close)
        endpoint = FakeEndpoint(
            self.running.url, self.user_endpoint_id, self.token, run=lambda _task: None
        )
        await stack.enter_async_context(kept(endpoint.link))
        return endpoint


def test_200_mb_both_ways_within_little_memory(large: Running, tmp_path: Path) -> None:
    source = tmp_path / "source"
    digest = hashlib.sha256()
    with open(source, "wb") as file:
        for number in range(0, LARGE, PORTION):
            portion = bytes_of(min(PORTION, LARGE - number), number)
            digest.update(portion)
            file.write(portion)
    pid = large.relay.process.pid
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    before = memory(pid, "VmRSS")

    def send(api: Any, path: str) -> rest.Uploaded:
        with open(source, "rb") as body:
            response = upload(api, body, digest.digest(), path)
        assert response.status_code == 200, response.text
        return msgspec.msgpack.decode(response.content, type=rest.Uploaded)

    def fetch(api: Any, path: str) -> None:
        got = hashlib.sha256()
        with api.session.get(large.url + path, stream=True, timeout=BOUND_S) as response:
            assert response.status_code == 200, response.text
            for piece in response.iter_content(MIB):
                got.update(piece)
        assert got.digest() == digest.digest()

    async def flow() -> None:
        group = str(uuid.uuid4())
        sdk = FakeSdk(large.url, large.alice.token or "", (group,))
        site = Site(large)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(kept(sdk.link))
            arguments = await asyncio.to_thread(send, large.alice, "/v3/blobs")
            endpoint = await site.open(stack, arguments, group)
            (task,) = (await endpoint.hear(to_endpoint.Tasks)).tasks
            assert (task.payload, task.blob.size) == (b"", LARGE)
            await asyncio.to_thread(fetch, site.api, rest.arguments_path(task.task_id))
            result = await asyncio.to_thread(send, site.api, rest.result_path(task.task_id))
            blob = Blob(result.blob_id, result.size, result.sha256)
            await endpoint.send([Result(task.task_id, "success", b"", None, 1.0, 2.0, blob)])
            await endpoint.hear(to_endpoint.Committed)
            await sdk.until(lambda: task.task_id in sdk.results)
            assert sdk.results[task.task_id].blob == blob
            await asyncio.to_thread(fetch, large.alice, rest.result_path(task.task_id))

    asyncio.run(flow())
    assert memory(pid, "VmHWM") - before < 24 * MIB


def memory(pid: int, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) * 1024


def test_uploads_that_are_not_what_they_say(large: Running) -> None:
    there = files(large)
    data = bytes_of(3 * MIB)
    digest = hashlib.sha256(data).digest()
    assert code(upload(large.alice, data, b"x" * 32)) == (400, "BLOB_DAMAGED")
    assert not files(large) - there
    without = large.alice("POST", "/v3/blobs", data=data)
    assert code(without) == (400, "REQUEST_MALFORMED")
    chunked = upload(large.alice, iter([data]), digest)
    assert code(chunked) == (411, "REQUEST_MALFORMED")
    with announced(large, digest, LARGE + 1) as connection:  # refused before anything is sent
        response = connection.getresponse()
        refused = msgspec.json.decode(response.read())
        assert (response.status, refused["code"]) == (413, "TASK_PAYLOAD_TOO_LARGE")
        assert str(LARGE) in refused["message"]
    assert not files(large) - there


def test_what_fits_into_no_frame_is_to_be_uploaded(large: Running) -> None:
    endpoint = large.admin.endpoint()["endpoint_id"]
    function = large.alice.function()
    refused = submit(large.alice, endpoint, function, bytes(61 * MIB))
    assert code(refused) == (413, "TASK_PAYLOAD_TOO_LARGE")
    assert "/v3/blobs" in refused.json()["message"]


def test_an_upload_that_breaks_off_leaves_nothing(large: Running) -> None:
    there = files(large)
    with half_an_upload(large, bytes_of(4 * MIB)):
        gone(lambda: not files(large) - there)  # it has begun
    gone(lambda: files(large) - there)


@contextmanager
def announced(running: Running, digest: bytes, size: int) -> Iterator[http.client.HTTPConnection]:
    """An upload of which only the head is sent."""
    connection = http.client.HTTPConnection("127.0.0.1", running.relay.port, timeout=BOUND_S)
    connection.putrequest("POST", "/v3/blobs")
    connection.putheader("Authorization", f"Bearer {running.alice.token}")
    for name, value in headers_of(digest, size).items():
        connection.putheader(name, value)
    connection.endheaders()
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def half_an_upload(running: Running, data: bytes) -> Iterator[http.client.HTTPConnection]:
    with announced(running, hashlib.sha256(data).digest(), len(data)) as connection:
        connection.send(data[: len(data) // 2])
        yield connection


def test_whose_they_are(large: Running) -> None:
    data = bytes_of(2 * MIB, 7)

    async def flow() -> None:
        site, other = Site(large), Site(large)
        async with AsyncExitStack() as stack:
            mine = await asyncio.to_thread(uploaded, large.alice, data)
            group = str(uuid.uuid4())
            endpoint = await site.open(stack, mine, group)
            (task,) = (await endpoint.hear(to_endpoint.Tasks)).tasks
            await other.open(stack, b"x", group)
            await asyncio.to_thread(strangers, site, other, task, mine)
            result = await asyncio.to_thread(
                uploaded, site.api, data, rest.result_path(task.task_id)
            )
            blob = Blob(result.blob_id, result.size, result.sha256)
            await endpoint.send([Result(task.task_id, "success", b"", None, 1.0, 2.0, blob)])
            await endpoint.hear(to_endpoint.Committed)
            path = rest.result_path(task.task_id)
            for api, expected in (
                (large.bob, 404),
                (large.admin, 404),
                (large.nobody, 401),
                (site.api, 401),
                (large.alice, 200),
            ):
                assert (await asyncio.to_thread(api, "GET", path)).status_code == expected
            # It has ended: neither its arguments nor another result are the endpoint's affair.
            response = await asyncio.to_thread(site.api, "GET", rest.arguments_path(task.task_id))
            assert response.status_code == 404
            response = await asyncio.to_thread(upload, site.api, data, None, path)
            assert response.status_code == 404

    def strangers(site: Site, other: Site, task: Any, mine: rest.Uploaded) -> None:
        fresh = uploaded(large.alice, data)
        assert code(submit(large.bob, site.endpoint_id, site.function, fresh))[0] in (403, 404)
        bobs = large.bob.function()
        assert code(submit(large.bob, site.endpoint_id, bobs, fresh)) == (404, "BLOB_NOT_FOUND")
        # Used, changed, unknown.
        for wrong in (
            mine,
            msgspec.structs.replace(fresh, size=1),
            msgspec.structs.replace(fresh, sha256="0" * 64),
            msgspec.structs.replace(fresh, blob_id=str(uuid.uuid4())),
        ):
            refused = submit(large.alice, site.endpoint_id, site.function, wrong)
            assert code(refused) == (404, "BLOB_NOT_FOUND")
        paths = rest.arguments_path(task.task_id), rest.result_path(task.task_id)
        assert other.api("GET", paths[0]).status_code == 404
        assert upload(other.api, data, path=paths[1]).status_code == 404
        for api in (large.alice, large.bob, large.nobody):
            assert api("GET", paths[0]).status_code == 401
            assert upload(api, data, path=paths[1]).status_code == 401
        response = site.api("GET", paths[0])
        assert (response.status_code, response.content) == (200, data)

    asyncio.run(flow())


def test_a_result_that_was_not_uploaded_is_asked_for(large: Running) -> None:
    data = bytes_of(MIB, 3)

    async def flow() -> None:
        site = Site(large)
        async with AsyncExitStack() as stack:
            endpoint = await site.open(stack, b"x", str(uuid.uuid4()))
            (task,) = (await endpoint.hear(to_endpoint.Tasks)).tasks
            for invented in (
                msgspec.structs.replace(blob_of(data), id=str(uuid.uuid4())),
                Blob(uploaded(large.alice, data).blob_id, len(data), blob_of(data).sha256),
            ):
                result = Result(task.task_id, "success", b"", None, 1.0, 2.0, invented)
                await endpoint.send([result])
                missing = await endpoint.hear(to_endpoint.BlobsMissing)
                assert missing.task_ids == (task.task_id,)
            path = rest.result_path(task.task_id)
            made = await asyncio.to_thread(uploaded, site.api, data, path)
            blob = Blob(made.blob_id, made.size, made.sha256)
            await endpoint.send([Result(task.task_id, "success", b"", None, 1.0, 2.0, blob)])
            assert (await endpoint.hear(to_endpoint.Committed)).task_ids == (task.task_id,)

        # Clients of JSON get it in their answer, those of msgpack its name.
        status = large.alice.ok("GET", f"/v2/tasks/{task.task_id}")
        assert status["result"] == as_text(data)
        record = large.alice.ok("GET", f"/v3/tasks/{task.task_id}")
        assert record["result_bytes"] == len(data)
        answer = large.alice("GET", f"/v2/tasks/{task.task_id}", headers={"Accept": MSGPACK})
        told = msgspec.msgpack.decode(answer.content, type=rest.TaskStatus[bytes])
        assert (told.result, told.result_blob) == (None, made)

    asyncio.run(flow())


def done(pid: int, name: str) -> int:
    """Bytes that a process has read or written: ``rchar`` or ``wchar``."""
    return int(Path(f"/proc/{pid}/io").read_text().split(f"{name}:")[1].split()[0])


def kill_in_midst(relay: RelayProcess, name: str, moved: int) -> RelayProcess:
    """kill -9 once the relay has moved so many bytes in all, and start it anew."""
    pid = relay.process.pid
    deadline = time.monotonic() + BOUND_S
    while done(pid, name) < moved:
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)
    relay.kill()
    return RelayProcess(relay.data, port=relay.port)


def test_kill_in_midst_of_an_upload_and_a_download(tmp_path: Path) -> None:
    size = 100 * MIB
    data = bytes_of(size, 5)
    blob = blob_of(data)
    outcome: dict[str, Any] = {}

    def in_thread(name: str, act: Callable[[], Any]) -> threading.Thread:
        thread = threading.Thread(target=lambda: outcome.update({name: act()}))
        thread.start()
        return thread

    with relay_with(tmp_path / "data", SETTINGS) as running:
        token = running.alice.token or ""
        transfer = Transfer(Peer(running.url), lambda: token)
        moved = done(running.relay.process.pid, "wchar") + size // 4
        thread = in_thread("upload", lambda: transfer.upload(rest.BLOBS_PATH, data, blob))
        running.relay = kill_in_midst(running.relay, "wchar", moved)
        thread.join(BOUND_S)
        made: rest.Uploaded = outcome["upload"]
        assert (made.size, made.sha256) == (blob.size, blob.sha256)

        async def flow() -> str:
            site = Site(running)
            async with AsyncExitStack() as stack:
                endpoint = await site.open(stack, made, str(uuid.uuid4()))
                (task,) = (await endpoint.hear(to_endpoint.Tasks)).tasks
                endpoint_side = Transfer(Peer(running.url), lambda: site.token)
                path = rest.arguments_path(task.task_id)
                moved = done(running.relay.process.pid, "rchar") + size // 4
                thread = in_thread("download", lambda: endpoint_side.download(path, task.blob))
                running.relay = await asyncio.to_thread(
                    kill_in_midst, running.relay, "rchar", moved
                )
                await asyncio.to_thread(thread.join, BOUND_S)
                assert outcome["download"] == data
                endpoint_side.close()
                # The task is still there, and goes on.
                path = rest.result_path(task.task_id)
                result = await asyncio.to_thread(uploaded, site.api, data[:MIB], path)
                named = Blob(result.blob_id, result.size, result.sha256)
                await endpoint.send([Result(task.task_id, "success", b"", None, 1, 2, named)])
                await endpoint.hear(to_endpoint.Committed)
            return str(task.task_id)

        task_id = asyncio.run(flow())
        transfer.close()
        response = running.alice("GET", rest.result_path(task_id), headers={"Range": "bytes=9-"})
        assert (response.status_code, response.content) == (206, data[9:MIB])


def test_a_task_waits_with_its_arguments_while_the_relay_is_down(tmp_path: Path) -> None:
    data = bytes_of(2 * MIB, 11)
    with relay_with(tmp_path / "data", SETTINGS) as running:
        registered = running.admin.endpoint()
        function = running.alice.function()
        call = uploaded(running.alice, data)
        answer = submit(running.alice, registered["endpoint_id"], function, call)
        assert answer.status_code == 200, answer.text
        running.relay.kill()
        running.relay = RelayProcess(running.relay.data, port=running.relay.port)

        async def flow() -> None:
            manager = FakeManager(running.url, registered)
            async with kept(manager.link):
                start = await manager.next_start()
                token = manager.token(start)
                endpoint = FakeEndpoint(running.url, start.user_endpoint_id, token)
                endpoint.run = lambda _task: None  # type: ignore[assignment]
                async with kept(endpoint.link):
                    (task,) = (await endpoint.hear(to_endpoint.Tasks)).tasks
            transfer = Transfer(Peer(running.url), lambda: token)
            path = rest.arguments_path(task.task_id)
            assert await asyncio.to_thread(transfer.download, path, task.blob) == data
            transfer.close()

        asyncio.run(flow())


def test_two_processes_share_them(pair: Pair) -> None:
    """Whatever one process took, the other one gives."""
    data = bytes_of(2 * MIB, 17)
    people = pair.people
    direct = [Api(relay.url, people.alice.token) for relay in pair.relays]
    pair.opened.extend(direct)

    async def flow() -> None:
        registered = people.admin.endpoint()
        function = people.alice.function()
        manager = FakeManager(people.url, registered)
        call = await asyncio.to_thread(uploaded, direct[0], data)
        async with kept(manager.link):
            answer = await asyncio.to_thread(
                submit, direct[1], registered["endpoint_id"], function, call
            )
            assert answer.status_code == 200, answer.text
            start = await manager.next_start()
            token = manager.token(start)
            endpoint = FakeEndpoint(
                pair.balancer.url, start.user_endpoint_id, token, run=lambda _task: None
            )
            async with kept(endpoint.link):
                (task,) = (await endpoint.hear(to_endpoint.Tasks)).tasks
                sides = [Api(relay.url, token) for relay in pair.relays]
                pair.opened.extend(sides)
                for side in sides:
                    path = rest.arguments_path(task.task_id)
                    response = await asyncio.to_thread(side, "GET", path)
                    assert (response.status_code, response.content) == (200, data)
                path = rest.result_path(task.task_id)
                made = await asyncio.to_thread(uploaded, sides[0], data, path)
                named = Blob(made.blob_id, made.size, made.sha256)
                await endpoint.send([Result(task.task_id, "success", b"", None, 1.0, 2.0, named)])
                await endpoint.hear(to_endpoint.Committed)
        for side in direct:
            response = await asyncio.to_thread(side, "GET", path)
            assert (response.status_code, response.content) == (200, data)

    asyncio.run(flow())


def test_quota_and_uploads_at_once(tmp_path: Path) -> None:
    settings = SETTINGS + f"per_user = {5 * MIB}\nuploads_per_user = 1\n"
    with relay_with(tmp_path / "data", settings) as running:
        assert upload(running.alice, bytes(3 * MIB)).status_code == 200
        refused = upload(running.alice, bytes(3 * MIB))
        assert code(refused) == (403, "BLOB_QUOTA_EXCEEDED")
        assert str(5 * MIB) in refused.json()["message"]
        assert len(files(running)) == 1
        with half_an_upload(running, bytes(MIB)):
            gone(lambda: len(files(running)) == 1)
            refused = upload(running.alice, bytes(1024))
            assert code(refused) == (429, "TOO_MANY_REQUESTS")
            assert "Retry-After" in refused.headers
            assert upload(running.bob, bytes(3 * MIB)).status_code == 200
        limits = running.bob.ok("GET", "/v3/limits")
        assert (limits["inline"], limits["per_user"]) == (4096, 5 * MIB)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "none", mounted], check=True)
    yield mounted
    subprocess.run(["umount", "--lazy", mounted], check=True)


@pytest.mark.root
def test_a_full_disk(tmp_path: Path, disk: Path) -> None:
    settings = SETTINGS + f'directory = "{disk}"\n'
    with relay_with(tmp_path / "data", settings) as running:
        refused = upload(running.alice, bytes(9 * MIB))
        assert code(refused) == (507, "BLOBS_FULL")
        filler = disk / "filler"
        data = bytes_of(6 * MIB)
        with half_an_upload(running, data) as connection:
            gone(lambda: not [each for each in disk.rglob("*") if each.is_file()])
            filler.write_bytes(bytes(4 * MIB))
            connection.send(data[len(data) // 2 :])
            response = connection.getresponse()
            assert response.status == 507
            assert msgspec.json.decode(response.read())["code"] == "BLOBS_FULL"
        assert [each for each in disk.rglob("*") if each.is_file()] == [filler]
        filler.unlink()
        assert upload(running.alice, data).status_code == 200


class Renamed:
    """A directory that can be away. A context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.elsewhere = path.with_name("elsewhere")
        self.elsewhere.mkdir(mode=0o700)

    def bring_back(self) -> None:
        self.elsewhere.rename(self.path)

    def take(self) -> None:
        self.path.rename(self.elsewhere)

    def __enter__(self) -> Self:
        self.bring_back()
        return self

    def __exit__(self, *_: object) -> None:
        self.take()


class Mounted(Renamed):
    """A file system; what is beneath it is another account's, as root's is for a relay."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        path.mkdir()
        os.chown(path, 65534, 65534)

    def bring_back(self) -> None:
        subprocess.run(["mount", "--bind", self.elsewhere, self.path], check=True)

    def take(self) -> None:
        subprocess.run(["umount", self.path], check=True)


@pytest.mark.parametrize("kind", [Renamed, pytest.param(Mounted, marks=pytest.mark.root)])
def test_a_directory_that_is_away_for_a_while_loses_nothing(
    tmp_path: Path, kind: type[Renamed]
) -> None:
    data = bytes_of(MIB)

    async def flow(running: Running, directory: Renamed) -> None:
        site = Site(running)
        async with AsyncExitStack() as stack:
            first = await asyncio.to_thread(uploaded, running.alice, data)
            endpoint = await site.open(stack, first, str(uuid.uuid4()))
            (task,) = (await endpoint.hear(to_endpoint.Tasks)).tasks
            result = rest.result_path(task.task_id)
            directory.take()
            for ask in (
                lambda: upload(running.alice, data),
                lambda: upload(site.api, data, path=result),
                lambda: site.api("GET", rest.arguments_path(task.task_id)),
            ):
                refused = await asyncio.to_thread(ask)
                assert refused.status_code == 503, refused.text
                assert "files cannot be used" in refused.json()["message"]
                assert int(refused.headers["Retry-After"]) > 0
            assert not list(directory.path.rglob("*"))
            directory.bring_back()
            answer = await asyncio.to_thread(site.api, "GET", rest.arguments_path(task.task_id))
            assert answer.content == data
            await asyncio.to_thread(uploaded, site.api, data, result)

    with kind(tmp_path / "blobs") as directory:
        settings = SETTINGS + f'directory = "{directory.path}"\n'
        with relay_with(tmp_path / "data", settings) as running:
            asyncio.run(flow(running, directory))
            log = running.relay.log.read_text()
            assert "the blob directory cannot be used: " in log
            assert "Traceback" not in log


@pytest.mark.root
def test_a_read_only_directory(tmp_path: Path, disk: Path) -> None:
    settings = SETTINGS + f'directory = "{disk}"\n'
    with relay_with(tmp_path / "data", settings) as running:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        refused = upload(running.alice, bytes(MIB))
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        running.relay.stop()
        with pytest.raises(AssertionError, match="cannot be written: is it read-only"):
            RelayProcess(running.relay.data)


def test_a_directory_that_is_open_to_others_is_not_used(tmp_path: Path) -> None:
    data = tmp_path / "data"
    relay_cli("init", data)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    (data / "relay.toml").write_text(f'[blobs]\ndirectory = "{shared}"\n')
    with pytest.raises(AssertionError, match="open to others"):
        RelayProcess(data)
    shared.chmod(0o700)
    relay = RelayProcess(data)
    assert relay.stop() == 0
    assert shared.stat().st_mode & 0o077 == 0
