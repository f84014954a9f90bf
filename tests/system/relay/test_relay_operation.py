"""What an operator needs: figures, health, logs, backup, an end that tells clients to come back."""

import asyncio
import json
import resource
import stat
import uuid
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from relay_driver import (
    Api,
    FakeEndpoint,
    FakeManager,
    FakeSdk,
    RelayProcess,
    echo,
    kept,
    make_people,
    relay_cli,
    run_cli,
)
from testbed import until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from mep.wire import to_endpoint, to_manager, to_sdk


def figures(response: Any) -> dict[tuple[str, str], float]:
    """Name, and the values of its labels in the order of their names -> value."""
    assert response.status_code == 200, response.text
    return {
        (sample.name, " ".join(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


@pytest.fixture
def metered(tmp_path: Path) -> Any:
    """A relay with a token for its metrics, and JSON logs."""
    data = tmp_path / "data"
    relay_cli("init", data)
    (data / "relay.toml").write_text('[log]\nformat = "json"\n')
    token = relay_cli("metrics-token", "--data", data)["token"]
    people = make_people(RelayProcess(data))
    prometheus = Api(people.url, token)
    yield people, prometheus
    prometheus.session.close()
    people.close()
    if people.relay.process.poll() is None:
        assert people.relay.stop() == 0


def one_task(people: Any) -> str:
    """Send one task through the relay; its id."""

    async def flow() -> str:
        registered = people.admin.endpoint()
        function = people.alice.function()
        group = str(uuid.uuid4())
        manager = FakeManager(people.url, registered)
        sdk = FakeSdk(people.url, people.alice.token, (group,))
        async with kept(manager.link), kept(sdk.link):
            answer = await asyncio.to_thread(
                people.alice.submit,
                registered["endpoint_id"],
                function,
                ["SECRETPAYLOAD"],
                task_group_id=group,
            )
            start = await manager.next_start()
            endpoint = FakeEndpoint(people.url, start.user_endpoint_id, manager.token(start))
            async with kept(endpoint.link):
                await sdk.until(lambda: len(sdk.results) == 1)
        return str(answer["tasks"][function][0])

    return asyncio.run(flow())


def test_metrics_count_and_name_nobody(metered: Any) -> None:
    people, prometheus = metered
    task = one_task(people)
    people.nobody("GET", f"/v9/{uuid.uuid4()}")
    response = prometheus("GET", "/metrics")
    shown = figures(response)
    assert shown["mep_relay_tasks_submitted_total", ""] == 1
    assert shown["mep_relay_tasks_ended_total", "success"] == 1
    assert shown["mep_relay_unfinished_tasks", ""] == 0
    assert shown["mep_relay_http_requests_total", "POST submit.submit 200"] == 1
    assert shown["mep_relay_http_requests_total", "GET none 404"] == 1
    assert {"manager", "user_endpoint", "stream"} <= {
        labels for name, labels in shown if name == "mep_relay_links"
    }
    assert task not in response.text
    assert "alice" not in response.text


def test_metrics_take_their_own_token_alone(metered: Any, running: Any) -> None:
    people, prometheus = metered
    for api in (people.admin, people.nobody):
        assert api("GET", "/metrics").status_code == 401
    assert prometheus("GET", "/v3/whoami").status_code == 401
    assert running.admin("GET", "/metrics").status_code == 404


def test_logs_are_json_lines_without_secrets(metered: Any) -> None:
    people, _ = metered
    one_task(people)
    assert people.relay.stop() == 0
    text = people.relay.log.read_text()
    records = [json.loads(line) for line in text.splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(each) for each in records)
    assert any("signed" in each["message"] for each in records)
    assert "SECRETPAYLOAD" not in text
    assert people.alice.token not in text


def test_links_that_are_refused_are_no_errors_of_the_relay(metered: Any) -> None:
    people, _ = metered
    for path in (to_sdk.PATH, to_manager.PATH, to_endpoint.PATH):
        with pytest.raises(InvalidStatus) as refused:
            connect("ws" + people.url.removeprefix("http") + path)
        assert refused.value.response.status_code == 401
    assert people.relay.stop() == 0
    records = [json.loads(line) for line in people.relay.log.read_text().splitlines()]
    assert [each["message"] for each in records if each["level"] == "error"] == []


def test_why_a_relay_ends_is_a_json_line_too(metered: Any) -> None:
    people, _ = metered
    done = run_cli("serve", "--port", people.relay.port, "--data", people.relay.data)
    assert done.returncode == 1
    (said,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert said["level"] == "critical"
    assert "Address already in use" in said["message"]


def test_health_and_readiness(running: Any) -> None:
    for path in ("/healthz", "/readyz"):
        assert running.nobody.ok("GET", path) == {"status": "ok"}


def test_a_restart_tells_clients_to_come_back(metered: Any) -> None:
    people, _ = metered

    async def flow() -> None:
        sdk = FakeSdk(people.url, people.alice.token, (str(uuid.uuid4()),))
        goodbyes: list[to_sdk.Goodbye] = []
        inner = sdk._receive

        async def receive(message: to_sdk.ToSdk) -> None:
            if isinstance(message, to_sdk.Goodbye):
                goodbyes.append(message)
            await inner(message)

        sdk.link._receive = receive
        async with kept(sdk.link):
            await sdk.until(lambda: sdk.link.up)
            await asyncio.to_thread(people.relay.stop)
            await sdk.until(lambda: bool(goodbyes))
        assert goodbyes[0].retry_s <= 1.0

    asyncio.run(flow())


class Disk:
    """Of a relay; it can be full for all but what the relay's log needs."""

    def __init__(self, relay: RelayProcess) -> None:
        self._pid = relay.process.pid
        self._log = relay.log
        self._unlimited = resource.prlimit(self._pid, resource.RLIMIT_FSIZE)

    def fill(self) -> None:
        # Larger transactions than this have been made, so that the journal goes on behind it.
        room = self._log.stat().st_size + 100_000
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (room, self._unlimited[1]))

    def make_room(self) -> None:
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, self._unlimited)


def test_a_full_disk_is_told_of_and_loses_nothing(own_relay: Any) -> None:
    people = own_relay()
    disk = Disk(people.relay)

    async def flow() -> None:
        registered = people.admin.endpoint()
        function = people.alice.function()
        payload = "SECRET" + "x" * 300_000
        submit = f"/v3/endpoints/{registered['endpoint_id']}/submit"
        manager = FakeManager(people.url, registered)
        async with kept(manager.link):
            first = await asyncio.to_thread(
                people.alice.submit, registered["endpoint_id"], function, [payload]
            )
            start = await manager.next_start()
            endpoint = FakeEndpoint(
                people.url, start.user_endpoint_id, manager.token(start), run=lambda _: None
            )
            async with kept(endpoint.link):
                [task_id] = first["tasks"][function]
                await endpoint.hear_task(task_id)
                disk.fill()
                body = {"tasks": {function: [payload]}}
                refused = await asyncio.to_thread(people.alice, "POST", submit, json=body)
                assert refused.status_code == 503
                assert int(refused.headers["Retry-After"]) > 0
                assert "database takes no requests" in refused.json()["message"]
                assert people.nobody("GET", "/readyz").status_code == 503
                assert people.nobody("GET", "/healthz").status_code == 200
                form = {"client_id": "mep"}
                login = people.nobody("POST", "/v2/oauth2/device_authorization", data=form)
                assert login.status_code == 503
                # A result stays at the endpoint, which is told when to come back.
                await endpoint.send([echo(endpoint.held.pop(task_id))])
                goodbye = await endpoint.hear(to_endpoint.Goodbye)
                assert goodbye.retry_s >= 1
                disk.make_room()
                ended = await asyncio.to_thread(people.alice.wait, [task_id])
                assert ended[task_id]["result"] == payload
                await asyncio.to_thread(people.alice.ok, "POST", submit, json=body)

    asyncio.run(flow())
    log = people.relay.log.read_text()
    assert log.count("cannot be used: disk I/O error. Requests") == 1
    assert "Traceback" not in log
    assert "SECRET" not in log


@pytest.mark.parametrize("refused", [False, True])
def test_what_the_relay_has_to_say_waits_for_room_on_the_disk(
    own_relay: Any, *, refused: bool
) -> None:
    """A start that cannot be signed, and the end of a task whose start the site has refused."""
    people = own_relay()
    disk = Disk(people.relay)

    async def flow() -> None:
        registered = people.admin.endpoint()
        function = people.alice.function()
        submitted = people.alice.submit(registered["endpoint_id"], function, ["x" * 300_000])
        task_ids = submitted["tasks"][function]
        manager = FakeManager(people.url, registered)
        if not refused:
            disk.fill()
        async with kept(manager.link):
            if refused:
                start = await manager.next_start()
                disk.fill()
                no = to_manager.Refused(
                    start.user_endpoint_id, start.nonce, "START_LIMIT", "no", "reference"
                )
                await manager.link.send(no)
            waits = "results could not be stored" if refused else "the start of"
            await asyncio.to_thread(
                until, lambda: waits in people.relay.log.read_text(), "the relay has tried"
            )
            disk.make_room()
            if not refused:
                start = await manager.next_start()
                endpoint = FakeEndpoint(people.url, start.user_endpoint_id, manager.token(start))
                async with kept(endpoint.link):
                    ended = await asyncio.to_thread(people.alice.wait, task_ids)
            else:
                ended = await asyncio.to_thread(people.alice.wait, task_ids)
        (status,) = ended.values()
        assert status["status"] == ("failed" if refused else "success")
        assert manager.starts.empty()

    asyncio.run(flow())


def test_a_backup_of_a_serving_relay_is_one_without_the_key(own_relay: Any, tmp_path: Path) -> None:
    people = own_relay()
    function = people.alice.function()
    copy = tmp_path / "copy.sqlite3"
    assert relay_cli("backup", copy, "--data", people.relay.data)["bytes"] > 0
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    master = (people.relay.data / "master.key").read_text().strip()
    content = copy.read_bytes()
    assert master.encode() not in content
    assert bytes.fromhex(master) not in content
    again = run_cli("backup", copy, "--data", people.relay.data)
    assert again.returncode == 1
    assert "name a new file" in again.stderr
    # Restored, it is the relay that it was.
    people.relay.stop()
    for name in ("relay.sqlite3", "relay.sqlite3-wal", "relay.sqlite3-shm"):
        (people.relay.data / name).unlink(missing_ok=True)
    copy.rename(people.relay.data / "relay.sqlite3")
    restored = RelayProcess(people.relay.data)
    api = Api(restored.url, people.alice.token)
    assert api.ok("GET", f"/v2/functions/{function}")["function_uuid"] == function
    api.session.close()
    assert restored.stop() == 0


def test_a_backup_that_fails_leaves_nothing_in_the_way_of_the_next(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "backups" / "copy.sqlite3"
    relay_cli("init", data)
    missing = run_cli("backup", copy, "--data", data)
    assert missing.returncode == 1
    assert "cannot be written" in missing.stderr
    copy.parent.mkdir()
    whole = (data / "relay.sqlite3").read_bytes()
    (data / "relay.sqlite3").write_bytes(b"no database" * 1000)
    failed = run_cli("backup", copy, "--data", data)
    assert failed.returncode == 1
    assert "cannot be written" in failed.stderr
    assert list(copy.parent.iterdir()) == []
    (data / "relay.sqlite3").write_bytes(whole)
    assert relay_cli("backup", copy, "--data", data)["bytes"] > 0
    assert [each.name for each in copy.parent.iterdir()] == ["copy.sqlite3"]
