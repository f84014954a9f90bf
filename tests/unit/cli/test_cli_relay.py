"""The administrator's requests against relays that refuse, redirect and talk nonsense."""

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from mep.cli.errors import RelayError
from mep.cli.relay import Relay
from mep.link import Peer
from mep.wire.rest import RegisteredEndpoint, RegisterEndpoint

ANSWER = {
    "endpoint_id": "7f1f5f0e-3f0a-4b5c-8a4e-0d3c2b1a9f8e",
    "grant_key": "0" * 64,
    "key_version": 1,
    "link_token": "t",
    "owner_identities": [],
}


class OneAnswerRelay(http.server.BaseHTTPRequestHandler):
    """Gives one answer to every request, and keeps the requests."""

    status = 200
    headers_out: ClassVar[dict[str, str]] = {}
    body = b""
    seen: list[tuple[str, str, str | None, Any]]

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.seen.append((self.command, self.path, self.headers["Authorization"], body))
        self.send_response(self.status)
        for name, value in self.headers_out.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_GET = do_POST = do_PUT = answer  # noqa: N815 - names of http.server

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextlib.contextmanager
def relay(status: int, body: bytes, **headers: str) -> Iterator[tuple[str, list[Any]]]:
    seen: list[Any] = []
    settings = {"status": status, "body": body, "headers_out": headers, "seen": seen}
    handler = type("Handler", (OneAnswerRelay,), settings)
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


def register(url: str, endpoint_id: str | None = None) -> RegisteredEndpoint:
    body = RegisterEndpoint(endpoint_name="n", multi_user=True)
    return Relay(Peer(url), "secret").register(body, endpoint_id)


def test_registering_and_renewing():
    with relay(200, json.dumps(ANSWER).encode()) as (url, seen):
        assert register(url).link_token == "t"
        register(url, ANSWER["endpoint_id"])
    body = {"endpoint_name": "n", "multi_user": True}
    assert seen == [
        ("POST", "/v3/endpoints", "Bearer secret", body),
        ("PUT", f"/v3/endpoints/{ANSWER['endpoint_id']}", "Bearer secret", body),
    ]


def test_a_refusal_is_the_relays_sentence():
    body = {"code": "ADMIN_REQUIRED", "message": "Ask bob.", "http_status_code": 403}
    with relay(403, json.dumps(body).encode()) as (url, _), pytest.raises(RelayError) as caught:
        register(url)
    assert "Ask bob." in str(caught.value)
    assert (caught.value.code, caught.value.http_status) == ("ADMIN_REQUIRED", 403)


def test_a_token_is_not_taken_elsewhere():
    with relay(200, b"{}") as (elsewhere, seen):
        with relay(307, b"", Location=elsewhere) as (url, _), pytest.raises(RelayError) as caught:
            register(url)
    assert "307" in str(caught.value)
    assert seen == []


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>"), (200, b"{}"), (502, b"<html>"), (404, b"[]")]
)
def test_something_that_is_no_relay(status, body):
    with relay(status, body) as (url, _), pytest.raises(RelayError):
        register(url)


def test_nobody_listens():
    with relay(200, b"") as (url, _):
        pass
    with pytest.raises(RelayError, match="cannot be reached"):
        register(url)
