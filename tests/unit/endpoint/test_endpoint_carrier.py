"""Large arguments and results at the site: files, uploads, refusals, what another process left."""

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mep.endpoint.carrier import Carrier
from mep.link import Peer
from mep.transfer import blob_of
from mep.wire.rest import MSGPACK, Uploaded
from mep.wire.tasks import Blob, Result, Task

WAIT_S = 20.0
DATA = b"large" * 1000
TOKEN = "the endpoint's own"


class KindRelay(BaseHTTPRequestHandler):
    """Takes every result, and has the arguments of every task."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing is said on standard error."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Authorization"] == f"Bearer {TOKEN}"
        made = Uploaded("made", len(body), hashlib.sha256(body).hexdigest())
        self.reply(200, msgspec.msgpack.encode(made), MSGPACK)

    def do_GET(self) -> None:
        self.reply(200, DATA, "application/octet-stream")

    def reply(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class StingyRelay(KindRelay):
    """Has no room for this user, and no arguments."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.refuse(403, "BLOB_QUOTA_EXCEEDED")

    def do_GET(self) -> None:
        self.refuse(404, "TASK_NOT_FOUND")

    def refuse(self, status: int, code: str) -> None:
        body = msgspec.json.encode({"code": code, "message": "No, because."})
        self.reply(status, body, "application/json")


@contextmanager
def serving(kind: type[KindRelay]) -> Iterator[Peer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield Peer(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Site:
    """A carrier, and what it told."""

    def __init__(self, peer: Peer, directory: Path, held: tuple[str, ...] = ()) -> None:
        self.outgoing = directory / "outgoing"
        self.arrived: asyncio.Queue[Task | Result] = asyncio.Queue()
        self.settled: asyncio.Queue[Result] = asyncio.Queue()
        self.carrier = Carrier(
            peer, TOKEN, directory, held, self.arrived.put_nowait, self.settled.put_nowait
        )

    async def next(self, queue: asyncio.Queue[Any]) -> Any:
        async with asyncio.timeout(WAIT_S):
            return await queue.get()


def result(task_id: str = "t", payload: bytes = DATA) -> Result:
    return Result(task_id, "success", payload, None, 1.0, 2.0)


def task(task_id: str) -> Task:
    return Task(task_id, "f", "g", b"", blob=msgspec.structs.replace(blob_of(DATA), id="b"))


def test_a_large_result_on_its_way(tmp_path: Path) -> None:
    async def main() -> None:
        site = Site(peer, tmp_path)
        small = result("small", b"x")
        spooled = site.carrier.spool(result())
        assert (spooled.payload, spooled.blob) == (b"", blob_of(DATA))
        file = site.outgoing / "t"
        assert (file.read_bytes(), file.stat().st_mode & 0o077) == (DATA, 0)
        assert site.carrier.ready([small, spooled], 100) == [small]
        sent = await site.next(site.settled)
        assert sent.blob == Blob("made", len(DATA), blob_of(DATA).sha256)
        # On a new connection it is not uploaded again, unless the relay has lost it.
        assert site.carrier.ready([spooled], 100) == [sent]
        site.carrier.missing(["t"])
        assert site.carrier.ready([spooled], 100) == []
        assert await site.next(site.settled) == sent
        site.carrier.committed(["t"])
        assert not file.exists()
        site.carrier.close()

    with serving(KindRelay) as peer:
        asyncio.run(main())


def test_what_the_disk_does_not_take_is_sent_from_memory(tmp_path: Path) -> None:
    (tmp_path / "outgoing").touch()  # no directory can be made there

    async def main() -> None:
        site = Site(peer, tmp_path)
        unchanged = site.carrier.spool(result())
        assert unchanged == result()
        assert site.carrier.ready([unchanged], 100) == []
        sent = await site.next(site.settled)
        assert (sent.payload, sent.blob.id) == (b"", "made")
        site.carrier.close()

    with serving(KindRelay) as peer:
        asyncio.run(main())


def test_a_result_that_the_relay_refuses_is_kept_for_the_user(tmp_path: Path) -> None:
    async def main() -> None:
        site = Site(peer, tmp_path)
        assert site.carrier.ready([site.carrier.spool(result())], 100) == []
        failed = await site.next(site.settled)
        assert (failed.outcome, failed.payload, failed.blob) == ("failed", b"", None)
        assert failed.failure.code == "BLOB_QUOTA_EXCEEDED"
        kept = tmp_path / "results" / "t"
        assert f"No, because; its serialized form is kept at the site in {kept}" in (
            failed.failure.message
        )
        assert kept.read_bytes() == DATA
        assert not (site.outgoing / "t").exists()
        site.carrier.close()

    with serving(StingyRelay) as peer:
        asyncio.run(main())


def test_arguments_come_or_not(tmp_path: Path) -> None:
    async def main(kind: type[KindRelay]) -> Any:
        with serving(kind) as peer:
            site = Site(peer, tmp_path)
            site.carrier.fetch(task("dropped"))
            site.carrier.fetch(task("t"))
            assert site.carrier.drop(["dropped", "unknown"]) == ["dropped"]
            came = await site.next(site.arrived)
            assert came.task_id == "t"
            site.carrier.close()
            return came

    came = asyncio.run(main(KindRelay))
    assert (came.payload, came.blob) == (DATA, None)
    failed = asyncio.run(main(StingyRelay))
    assert failed.failure.code == "TASK_NOT_FOUND"
    assert "No, because." in failed.failure.message


@pytest.mark.parametrize("held", [(), ("t",)])
def test_files_of_a_process_that_died(tmp_path: Path, held: tuple[str, ...]) -> None:
    async def main() -> None:
        site = Site(peer, tmp_path)
        spooled = site.carrier.spool(result())
        after = Site(peer, tmp_path, held)
        assert (after.outgoing / "t").exists() == bool(held)
        if held:  # its journal says so, and the upload begins anew
            assert after.carrier.ready([spooled], 100) == []
            assert (await after.next(after.settled)).blob.id == "made"
        after.carrier.close()
        site.carrier.close()

    with serving(KindRelay) as peer:
        asyncio.run(main())
