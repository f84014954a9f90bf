"""Uploads and downloads against relays that break off, lie, are full, or busy."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mep.link import Peer
from mep.transfer import Transfer, TransferError, TransferStopped, blob_of, tries_within
from mep.wire.rest import MSGPACK, Uploaded, content_digest

DATA = bytes(range(256)) * 4096
BLOB = blob_of(DATA)


class HonestRelay(BaseHTTPRequestHandler):
    """Takes and gives what it should; subclasses say what they do wrong."""

    protocol_version = "HTTP/1.1"
    requests: list[str]

    def log_message(self, *_: Any) -> None:
        """Nothing is said on standard error."""

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        body = self.rfile.read(size)
        digest = hashlib.sha256(body).digest()
        assert self.headers["Content-Digest"] == content_digest(digest)
        assert self.headers["Authorization"] == "Bearer secret"
        self.requests.append("POST")
        self.take(msgspec.msgpack.encode(Uploaded("id", size, digest.hex())))

    def take(self, answer: bytes) -> None:
        self.reply(200, answer, {"Content-Type": MSGPACK})

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.requests.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.give(start)

    def give(self, start: int) -> None:
        self.reply(206 if start else 200, DATA[start:])

    def reply(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, send: int = -1
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if send < 0 else body[:send])
        self.close_connection = send >= 0


class BreaksOffRelay(HonestRelay):
    """Sends at most a third of everything at once."""

    def give(self, start: int) -> None:
        self.reply(206 if start else 200, DATA[start:], send=len(DATA) // 3 + 1)


class ForgetsRangesRelay(BreaksOffRelay):
    """Begins anew each time, and gets to the end at the third time."""

    def give(self, start: int) -> None:
        send = -1 if len(self.requests) == 3 else len(DATA) // 2
        self.reply(200, DATA, send=send)


class LyingRelay(HonestRelay):
    """One bit is wrong."""

    def give(self, start: int) -> None:
        self.reply(200, b"\1" + DATA[1:])


class TooMuchRelay(HonestRelay):
    """Has more than it should."""

    def give(self, start: int) -> None:
        self.reply(200, b"x" + DATA)


class BusyRelay(HonestRelay):
    """Refuses twice, for now."""

    status = 429

    def take(self, answer: bytes) -> None:
        if len(self.requests) < 3:
            body = msgspec.json.encode({"code": "BLOBS_FULL", "message": "No room."})
            self.reply(self.status, body, {"Retry-After": "0"})
        else:
            super().take(answer)


class FullRelay(BusyRelay):
    """Has no room, twice."""

    status = 507


class GoneRelay(HonestRelay):
    """Answers, and what it says helps nobody."""

    def give(self, start: int) -> None:
        self.reply(404, b"<html>nothing here</html>")


@contextmanager
def serving(kind: type[HonestRelay]) -> Iterator[tuple[str, list[str]]]:
    seen: list[str] = []
    handler = type(kind.__name__, (kind,), {"requests": seen})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def transfer_with(kind: type[HonestRelay], tries: int = 0) -> Iterator[tuple[Transfer, list[str]]]:
    with serving(kind) as (url, seen):
        transfer = Transfer(Peer(url), lambda: "secret", tries)
        yield transfer, seen
        transfer.close()


@pytest.mark.parametrize("source", [lambda _: DATA, lambda path: path], ids=["bytes", "file"])
def test_an_upload(source: Callable[[Path], Any], tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    with transfer_with(HonestRelay) as (transfer, _):
        assert transfer.upload("/x", source(path), BLOB) == Uploaded("id", BLOB.size, BLOB.sha256)


def test_a_download_goes_on_where_it_broke_off() -> None:
    with transfer_with(BreaksOffRelay, tries=2) as (transfer, seen):
        assert transfer.download("/x", BLOB) == DATA
    third = len(DATA) // 3 + 1
    assert seen == ["", f"bytes={third}-", f"bytes={2 * third}-"]


def test_a_relay_that_begins_anew() -> None:
    with transfer_with(ForgetsRangesRelay) as (transfer, seen):
        assert transfer.download("/x", BLOB) == DATA
    assert len(seen) == 3


@pytest.mark.parametrize("kind", [LyingRelay, TooMuchRelay])
def test_what_came_damaged_is_not_used(kind: type[HonestRelay]) -> None:
    with transfer_with(kind) as (transfer, seen):
        with pytest.raises(TransferError) as caught:
            transfer.download("/x", BLOB)
    assert caught.value.code == "BLOB_DAMAGED"
    assert len(seen) == 3


@pytest.mark.parametrize("kind", [BusyRelay, FullRelay])
def test_whoever_has_patience_waits(kind: type[HonestRelay]) -> None:
    with transfer_with(kind) as (transfer, seen):
        assert transfer.upload("/x", DATA, BLOB).blob_id == "id"
    assert len(seen) == 3


def test_no_room_is_told_to_whoever_has_none() -> None:
    with transfer_with(FullRelay, tries=5) as (transfer, seen):
        with pytest.raises(TransferError, match="No room") as caught:
            transfer.upload("/x", DATA, BLOB)
    assert (caught.value.status, caught.value.code, len(seen)) == (507, "BLOBS_FULL", 1)


def test_a_refusal_is_final() -> None:
    with transfer_with(GoneRelay) as (transfer, seen):
        with pytest.raises(TransferError, match="HTTP 404"):
            transfer.download("/x", BLOB)
    assert len(seen) == 1


def test_nobody_answers() -> None:
    with serving(HonestRelay) as (url, _):
        pass
    with pytest.raises(TransferStopped, match="does not answer"):
        Transfer(Peer(url), lambda: "secret", 2).download("/x", BLOB)


@pytest.mark.parametrize(("seconds", "tries"), [(0, 1), (0.1, 2), (60, 10), (900, 48)])
def test_how_many_tries_patience_lasts_for(seconds: float, tries: int) -> None:
    assert tries_within(seconds) == tries


def test_closing_ends_all_tries() -> None:
    with serving(HonestRelay) as (url, _):
        pass
    transfer = Transfer(Peer(url), lambda: "secret")
    failed: list[BaseException] = []

    def act() -> None:
        try:
            transfer.download("/x", BLOB)
        except TransferStopped as stopped:
            failed.append(stopped)

    thread = threading.Thread(target=act)
    thread.start()
    transfer.close()
    thread.join(20)
    assert len(failed) == 1
