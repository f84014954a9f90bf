"""Functions found, endpoints described, tasks traced: what the relay tells of what it knows."""

import asyncio
import time
import uuid
from typing import Any

import pytest
from mep_cloud.store import Store
from relay_driver import BOUND_S, FakeEndpoint, FakeManager, kept

from mep.wire import to_endpoint
from mep.wire.tasks import StateChange


def names(api: Any, query: str, **params: Any) -> list[str]:
    found = api.ok("GET", "/v3/functions", params={"q": query, **params})
    return [each["function_name"] for each in found["functions"]]


def test_functions_are_found_by_the_words_of_name_and_description(running: Any) -> None:
    mark = uuid.uuid4().hex
    one = running.alice.function(function_name=f"Stats_{mark}", description="Mean of an ARRAY")
    running.alice.function(function_name=f"other_{mark}")
    assert names(running.alice, f"stats_{mark}") == [f"Stats_{mark}"]
    assert names(running.alice, f"array {mark}") == [f"Stats_{mark}"]
    assert names(running.alice, mark) == [f"other_{mark}", f"Stats_{mark}"]
    running.alice.ok("DELETE", f"/v2/functions/{one}")
    assert names(running.alice, f"array {mark}") == []


def test_a_search_shows_ones_own_functions_and_public_ones_only(running: Any) -> None:
    mark = uuid.uuid4().hex
    running.alice.function(function_name=f"secret_{mark}")
    running.alice.function(function_name=f"shared_{mark}", public=True)
    assert names(running.alice, mark) == [f"shared_{mark}", f"secret_{mark}"], "each once"
    assert names(running.bob, mark) == [f"shared_{mark}"]
    assert names(running.admin, mark) == [f"shared_{mark}"]


@pytest.mark.parametrize("wild", ["%", "_", "/", "\\"])
def test_what_is_special_in_a_pattern_stands_for_itself(running: Any, wild: str) -> None:
    mark = uuid.uuid4().hex
    running.alice.function(function_name=f"{mark}x1")
    running.alice.function(function_name=f"{mark}{wild}1")
    assert names(running.alice, f"{mark}{wild}1") == [f"{mark}{wild}1"]


def test_a_search_is_paged(running: Any) -> None:
    mark = uuid.uuid4().hex
    for number in range(3):
        running.alice.function(function_name=f"{mark}{number}")
    first = running.alice.ok("GET", "/v3/functions", params={"q": mark, "limit": 2})
    assert first["has_next_page"] is True
    rest = running.alice.ok("GET", "/v3/functions", params={"q": mark, "limit": 2, "offset": 2})
    assert rest["has_next_page"] is False
    both = [each["function_name"] for each in first["functions"] + rest["functions"]]
    assert both == [f"{mark}2", f"{mark}1", f"{mark}0"]


@pytest.mark.parametrize(
    "query", ["limit=101", "limit=x", "offset=-1", "limit=%C2%B2", "q=" + "a" * 257, "q=%00"]
)
def test_a_search_out_of_bounds_is_refused(running: Any, query: str) -> None:
    response = running.alice("GET", f"/v3/functions?{query}")
    assert response.status_code == 422
    assert response.json()["code"] == "REQUEST_MALFORMED"


def test_a_function_keeps_container_and_labels(running: Any) -> None:
    meta = {"python_version": "3.11", "container": "docker://a/b:1", "labels": {"team": "x"}}
    function = running.alice.function(meta=meta)
    told = running.alice.ok("GET", f"/v2/functions/{function}")["metadata"]
    assert told["container"] == "docker://a/b:1"
    assert told["labels"] == {"team": "x"}


def test_metadata_beyond_its_bound_is_refused(running: Any) -> None:
    body = {
        "function_name": "f",
        "function_code": "x",
        "meta": {"labels": {"x": "y" * 20_000}},
    }
    assert running.alice("POST", "/v3/functions", json=body).status_code == 422


def test_source_is_wrapped_by_the_relay(running: Any) -> None:
    source = "import math\ndef area(r):\n    return math.pi * r * r\n"
    function = running.alice.function(function_name="area", function_code=source, serialized=False)
    told = running.alice.ok("GET", f"/v2/functions/{function}")["function_code"]
    length, _, buffer = told.partition("\n")
    assert buffer == f"st\narea:{source}"
    assert int(length) == len(buffer)


def test_an_endpoint_tells_its_status_and_last_heartbeat(own_relay: Any) -> None:
    asyncio.run(an_endpoint_tells_its_status_and_last_heartbeat(own_relay()))


async def an_endpoint_tells_its_status_and_last_heartbeat(running: Any) -> None:
    metadata = {
        "endpoint_version": "1.2",
        "user_config_template": "engine: {}",
        "user_config_schema": {"type": "object"},
        "user_environment": "A: b",
        "endpoint_config": "secret: to_users",
    }
    registered = running.admin.endpoint(metadata=metadata)
    path = f"/v2/endpoints/{registered['endpoint_id']}"
    before = running.alice.ok("GET", path)
    assert (before["status"], before["last_heartbeat"], before["manager"]) == (
        "offline",
        None,
        None,
    )
    began = time.time()
    manager = FakeManager(running.url, registered)
    async with kept(manager.link):
        await manager.heard.get()
        live = running.alice.ok("GET", path)
        assert live["status"] == "online"
        assert live["manager"] == {"version": "0", "python": "3.11", "hostname": "host"}
        assert began - 1 < live["last_heartbeat"] < time.time() + 1
    shown = live["metadata"]
    assert shown["user_config_template"] == "engine: {}"
    assert shown["user_config_schema"] == {"type": "object"}
    assert shown["endpoint_version"] == "1.2"
    assert {"user_environment", "endpoint_config"}.isdisjoint(shown)
    assert running.admin.ok("GET", path)["metadata"]["user_environment"] == "A: b"
    running.relay.stop()
    relay = type(running.relay)(running.relay.data, port=running.relay.port)
    try:
        after = running.alice.ok("GET", f"{path}/status")
        assert after["status"] == "offline"
        assert after["details"]["last_heartbeat"] >= began - 1
    finally:
        relay.stop()


def test_a_task_tells_when_it_took_each_step(own_relay: Any) -> None:
    asyncio.run(a_task_tells_when_it_took_each_step(own_relay()))


async def a_task_tells_when_it_took_each_step(running: Any) -> None:
    registered = running.admin.endpoint()
    function = running.alice.function(function_name="traced")
    submitted = running.alice.submit(
        registered["endpoint_id"], function, ["abc"], resource_specification={"num_nodes": 1}
    )
    (task_id,) = submitted["tasks"][function]

    def told() -> Any:
        return running.alice.ok("GET", f"/v3/tasks/{task_id}")

    assert told()["status"] == "waiting-for-ep"
    assert list(told()["transitions"]) == ["created"]
    manager = FakeManager(running.url, registered)
    async with kept(manager.link):
        start = await manager.next_start()
        endpoint = FakeEndpoint(
            running.url, start.user_endpoint_id, manager.token(start), run=lambda _: None
        )
        async with kept(endpoint.link):
            await endpoint.hear(to_endpoint.Tasks)
            changes = (
                StateChange(task_id, "waiting-for-nodes", 7.0),
                StateChange(task_id, "waiting-for-nodes", 8.0),
                StateChange(task_id, "running", 9.0),
            )
            await endpoint.link.send(to_endpoint.States(changes))
            async with asyncio.timeout(BOUND_S):  # another connection than that of the cancel
                while told()["status"] != "running":
                    await asyncio.sleep(0.02)
            running.alice.ok("POST", "/v3/tasks/cancel", json={"task_ids": [task_id]})
            await endpoint.hear(to_endpoint.Cancel)
            running.alice.wait([task_id])
    record = told()
    steps = record["transitions"]
    assert list(steps) == [
        "created",
        "dispatched",
        "waiting-for-nodes",
        "cancel-requested",
        "ended",
    ]
    assert steps["waiting-for-nodes"] == 7.0
    assert record["status"] == "cancelled"
    assert record["failure_code"] == "CANCELLED"
    assert record["function_name"] == "traced"
    assert record["endpoint_id"] == registered["endpoint_id"]
    assert record["payload_bytes"] == 3
    assert record["resource_specification"] == {"num_nodes": 1}
    old = running.alice.ok("GET", f"/v2/tasks/{task_id}")
    assert old["details"]["task_transitions"] == steps
    assert running.bob("GET", f"/v3/tasks/{task_id}").status_code == 404


FUNCTION = {"function_name": "f", "function_code": "x"}
ENDPOINT = {"endpoint_name": "x"}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v3/functions", FUNCTION | {"function_name": "n" * 1024}, 200),
        ("/v3/functions", FUNCTION | {"function_name": "n" * 1025}, 422),
        ("/v3/functions", FUNCTION | {"description": "d" * 65536}, 200),
        ("/v3/functions", FUNCTION | {"description": "d" * 65537}, 422),
        ("/v3/endpoints", {"endpoint_name": "\x1b[2Jx"}, 422),
        ("/v3/endpoints", ENDPOINT | {"display_name": "n" * 256}, 200),
        ("/v3/endpoints", ENDPOINT | {"display_name": "n" * 257}, 422),
        ("/v3/endpoints", ENDPOINT | {"display_name": "a\nb"}, 422),
        ("/v3/endpoints", ENDPOINT | {"metadata": {"endpoint_config": "c" * 4_190_000}}, 200),
        ("/v3/endpoints", ENDPOINT | {"metadata": {"endpoint_config": "c" * 4_200_000}}, 413),
    ],
    ids=range(10),
)
def test_what_others_are_shown_is_bounded(
    running: Any, path: str, body: dict[str, Any], status: int
) -> None:
    answer = running.alice("POST", path, json=body)
    assert answer.status_code == status
    if status == 422:
        assert "characters" in answer.json()["message"]


def test_a_task_whose_result_was_dropped_is_told_of_as_such(own_relay: Any) -> None:
    running = own_relay()
    endpoint = running.admin.endpoint()["endpoint_id"]
    function = running.alice.function()
    (task_id,) = running.alice.submit(endpoint, function, ["x"])["tasks"][function]
    cancel = {"task_ids": [task_id]}
    running.alice.ok("POST", "/v3/tasks/cancel", json=cancel)
    running.alice.wait([task_id])

    async def sweep() -> None:
        async with Store(running.relay.data / "relay.sqlite3") as store:
            await store.expiry.drop_results(time.time() + 3600, 0)

    asyncio.run(sweep())
    refused = running.alice("GET", f"/v3/tasks/{task_id}")
    assert (refused.status_code, refused.json()["code"]) == (410, "RESULT_EXPIRED")
    assert "result_retention_s" in refused.json()["message"]
    assert running.bob("GET", f"/v3/tasks/{task_id}").status_code == 404
    told = running.alice.ok("GET", f"/v2/tasks/{task_id}")
    assert (told["status"], told["failure_code"]) == ("failed", "RESULT_EXPIRED")
    assert running.alice.ok("POST", "/v3/tasks/cancel", json=cancel)["tasks"] == {task_id: "ended"}
    assert running.bob.ok("POST", "/v3/tasks/cancel", json=cancel)["tasks"] == {task_id: "unknown"}
