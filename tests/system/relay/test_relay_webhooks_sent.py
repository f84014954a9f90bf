"""Webhooks from a real relay to a real receiver: signed, repeated, never redirected."""

import asyncio
import base64
import hashlib
import hmac
import http.server
import json
import queue
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from relay_driver import (
    BOUND_S,
    FakeEndpoint,
    FakeManager,
    RelayProcess,
    kept,
    make_people,
    relay_cli,
)
from testbed import until


class FickleReceiver:
    """Answers with the statuses that the test says, then with 200; keeps what it got."""

    def __init__(self, statuses: list[int]) -> None:
        self.got: queue.Queue[tuple[int, Any, bytes]] = queue.Queue()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = statuses.pop(0) if statuses else 200
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", receiver.url + "elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()
                receiver.got.put((status, self.headers, body))

            def do_GET(self) -> None:
                raise AssertionError("the relay followed a redirect")

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?x=1&"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def next(self) -> tuple[int, Any, bytes]:
        return self.got.get(timeout=BOUND_S)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def hooked(tmp_path: Path) -> Iterator[Any]:
    """A relay whose webhooks may be plain HTTP to this machine."""
    data = tmp_path / "data"
    relay_cli("init", data)
    (data / "relay.toml").write_text("[hooks]\nhttp_to_loopback = true\nper_user = 2\n")
    people = make_people(RelayProcess(data))
    yield people
    people.close()
    if people.relay.process.poll() is None:
        people.relay.stop()


def run_one(running: Any, group: str) -> str:
    """One task that ends; its id."""

    async def flow() -> str:
        registered = running.admin.endpoint()
        function = running.alice.function()
        manager = FakeManager(running.url, registered)
        async with kept(manager.link):
            answer = await asyncio.to_thread(
                running.alice.submit,
                registered["endpoint_id"],
                function,
                ["secret payload"],
                task_group_id=group,
            )
            start = await manager.next_start()
            endpoint = FakeEndpoint(running.url, start.user_endpoint_id, manager.token(start))
            async with kept(endpoint.link):
                (task_id,) = answer["tasks"][function]
                await asyncio.to_thread(running.alice.wait, [task_id])
        return str(task_id)

    return asyncio.run(flow())


def check_signature(secret: str, headers: Any, body: bytes) -> None:
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{mac}"


def test_a_receiver_is_told_again_until_it_takes_the_news(hooked: Any) -> None:
    receiver = FickleReceiver([302, 500])
    try:
        group = str(uuid.uuid4())
        made = hooked.alice.ok(
            "POST", "/v3/webhooks", json={"url": receiver.url, "task_group_id": group}
        )
        run_one(hooked, str(uuid.uuid4()))
        task_id = run_one(hooked, group)
        first, second, third = receiver.next(), receiver.next(), receiver.next()
        assert [each[0] for each in (first, second, third)] == [302, 500, 200]
        assert first[2] == second[2] == third[2]
        check_signature(made["secret"], third[1], third[2])
        told = json.loads(third[2])
        assert told["webhook_id"] == made["webhook_id"]
        assert told["id"] == third[1]["webhook-id"] == first[1]["webhook-id"]
        (task,) = told["tasks"]
        assert set(task) == {"task_id", "task_group_id", "state", "ended"}
        assert (task["task_id"], task["task_group_id"]) == (task_id, group)
        assert task["state"] == "success"
        assert b"secret payload" not in third[2]
    finally:
        receiver.close()


def failures(hooked: Any) -> list[int]:
    listed = hooked.alice.ok("GET", "/v3/webhooks")["webhooks"]
    return [each["failures_in_a_row"] for each in listed]


def test_news_outlive_the_relay(hooked: Any) -> None:
    receiver = FickleReceiver([500])
    try:
        hooked.alice.ok("POST", "/v3/webhooks", json={"url": receiver.url})
        task_id = run_one(hooked, str(uuid.uuid4()))
        assert receiver.next()[0] == 500
        # Noted, or the request would count as under way for longer than this test waits.
        until(lambda: failures(hooked) == [1], "the relay's note of the failure")
        hooked.relay.kill()
        relay = RelayProcess(hooked.relay.data)
        try:
            status, _, body = receiver.next()
        finally:
            relay.stop()
        assert status == 200
        assert [task["task_id"] for task in json.loads(body)["tasks"]] == [task_id]
    finally:
        receiver.close()


def test_who_may_what(hooked: Any) -> None:
    made = hooked.alice.ok("POST", "/v3/webhooks", json={"url": "https://example.org/a"})
    path = f"/v3/webhooks/{made['webhook_id']}"
    hooked.alice.ok("POST", "/v3/webhooks", json={"url": "https://example.org/b"})
    third = hooked.alice("POST", "/v3/webhooks", json={"url": "https://example.org/c"})
    assert third.status_code == 409
    listed = hooked.alice.ok("GET", "/v3/webhooks")["webhooks"]
    assert [each["url"] for each in listed] == ["https://example.org/a", "https://example.org/b"]
    assert "secret" not in json.dumps(listed)
    assert hooked.bob.ok("GET", "/v3/webhooks") == {"webhooks": []}
    assert hooked.bob("DELETE", path).status_code == 404
    assert hooked.nobody("GET", "/v3/webhooks").status_code == 401
    hooked.alice.ok("DELETE", path)
    assert hooked.alice("DELETE", path).status_code == 404


@pytest.mark.parametrize(
    "url", ["http://example.org/", "https://10.0.0.1/", "https://[::ffff:169.254.169.254]/", "x"]
)
def test_urls_that_lead_astray_are_refused(hooked: Any, url: str) -> None:
    response = hooked.alice("POST", "/v3/webhooks", json={"url": url})
    assert response.status_code == 422
    assert response.json()["message"].endswith((".", "allowed_networks."))


def test_another_users_task_group_is_refused(hooked: Any) -> None:
    group = str(uuid.uuid4())
    run_one(hooked, group)
    body = {"url": "https://example.org/", "task_group_id": group}
    assert hooked.bob("POST", "/v3/webhooks", json=body).status_code == 404
