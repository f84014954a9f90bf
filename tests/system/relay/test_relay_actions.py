"""Functions as Flows run them: the action provider's API over real tasks."""

import asyncio
import uuid
from typing import Any

import pytest
from mep_cloud.store import Store
from mep_cloud.store.records import Ending
from relay_driver import BOUND_S, FakeEndpoint, FakeManager, kept

from mep.payload import dump_result, load_arguments
from mep.wire import limits
from mep.wire.tasks import Failure, Result


def add_or_fail(task: Any) -> Result | None:
    """Adds its arguments; fails without any; holds the task where one is negative."""
    args, kwargs = load_arguments(task.payload)
    numbers = [*args, *kwargs.values()]
    if not numbers:
        return Result(task.task_id, "failed", b"", Failure("USER_EXCEPTION", "no numbers"))
    if min(numbers) < 0:
        return None
    assert task.result_serializers == ("JSONData",)
    return Result(task.task_id, "success", dump_result(sum(numbers), ["11"]), None, 1.0, 2.0)


def test_a_flow_runs_functions(running: Any) -> None:
    asyncio.run(a_flow_runs_functions(running))


async def a_flow_runs_functions(running: Any) -> None:
    registered = running.admin.endpoint()
    function = running.alice.function()
    endpoint_id = registered["endpoint_id"]
    bob = running.bob.ok("GET", "/v3/whoami")["sub"]

    async def run(body: dict[str, Any], expected: int = 202, **fields: Any) -> Any:
        request = {"request_id": str(uuid.uuid4()), **fields}
        request["body"] = {"endpoint": endpoint_id, **body}
        response = await asyncio.to_thread(running.alice, "POST", "/actions/run", json=request)
        assert response.status_code == expected, response.text
        return response.json()

    async def ended(action: Any) -> Any:
        path = f"/actions/{action['action_id']}/status"
        async with asyncio.timeout(BOUND_S):
            while True:
                told = await asyncio.to_thread(running.alice.ok, "GET", path)
                if told["status"] != "ACTIVE":
                    return told

    manager = FakeManager(running.url, registered)
    async with kept(manager.link):
        sums = {"tasks": [{"function": function, "args": [1, 2]}], "function": function}
        sums["kwargs"] = {"x": 40, "y": 2}
        urn = f"urn:globus:auth:identity:{bob}"
        first = await run(sums, request_id="one", label="sums", monitor_by=[urn])
        assert first["status"] == "ACTIVE"
        assert first["release_after"] == "PT7776000S"
        assert "completion_time" not in first
        start = await manager.next_start()
        endpoint = FakeEndpoint(
            running.url, start.user_endpoint_id, manager.token(start), run=add_or_fail
        )
        async with kept(endpoint.link):
            done = await ended(first)
            assert done["status"] == "SUCCEEDED"
            assert [each["output"] for each in done["details"]["results"]] == [42, 3]
            again = await run(sums, 200, request_id="one", label="sums", monitor_by=[urn])
            assert again["action_id"] == first["action_id"]
            assert set(endpoint.runs.values()) == {1}
            refused = await run({"function": function}, 409, request_id="one")
            assert refused["code"] == "REQUEST_MALFORMED"

            failed = await ended(await run({"function": function}))
            assert failed["status"] == "FAILED"
            (result,) = failed["details"]["results"]
            assert result["error"] == {"code": "USER_EXCEPTION", "message": "no numbers"}

            held = await run({"function": function, "args": [-1]})
            path = f"/actions/{held['action_id']}"
            assert running.alice("POST", f"{path}/release").status_code == 409
            running.alice.ok("POST", f"{path}/cancel")
            assert (await ended(held))["status"] == "FAILED"
            assert running.alice("POST", f"{path}/cancel").status_code == 409
    path = f"/actions/{first['action_id']}"
    assert running.bob.ok("GET", f"{path}/status")["status"] == "SUCCEEDED"
    assert running.bob("POST", f"{path}/release").status_code == 404
    assert running.admin("GET", f"{path}/status").status_code == 404
    assert running.alice.ok("POST", f"{path}/release")["status"] == "SUCCEEDED"
    assert running.alice("GET", f"{path}/status").status_code == 404


@pytest.mark.parametrize("field", ["monitor_by", "manage_by"])
def test_who_is_named_by_an_action_is_named_shortly(running: Any, field: str) -> None:
    endpoint_id, function = running.admin.endpoint()["endpoint_id"], running.alice.function()
    for length, status in ((256, 202), (257, 400)):
        request = {
            "request_id": f"{field} {length}",
            "body": {"endpoint": endpoint_id, "function": function},
            field: ["x" * length],
        }
        assert running.alice("POST", "/actions/run", json=request).status_code == status


def test_what_the_provider_says_of_itself(running: Any) -> None:
    told = running.nobody.ok("GET", "/actions/")
    assert told["api_version"] == "1.0"
    assert told["types"] == ["Action"]
    assert told["maximum_deadline"] == "PT1209600S"
    assert set(told["input_schema"]["required"]) == {"endpoint"}
    assert told["globus_auth_scope"].startswith("https://")


def test_results_beyond_one_answer_are_told_apart(own_relay: Any) -> None:
    running = own_relay()
    packed = dump_result("x" * (limits.INLINE - 100), ["11"])
    assert len(packed) <= limits.INLINE
    room = limits.REQUEST // len(packed)
    endpoint_id, function = running.admin.endpoint()["endpoint_id"], running.alice.function()
    body = {"endpoint": endpoint_id, "tasks": [{"function": function}] * (room + 2)}
    run = {"request_id": "r", "body": body}
    action = running.alice("POST", "/actions/run", json=run).json()
    task_ids = [each["task_id"] for each in action["details"]["results"]]

    async def end() -> None:
        async with Store(running.relay.data / "relay.sqlite3") as store:
            results = [Result(each, "success", packed, None, 1.0, 2.0) for each in task_ids]
            await store.tasks.end([Ending(each, 1.0, 2.0) for each in results])

    asyncio.run(end())
    told = running.alice.results(task_ids)
    assert [told[each]["status"] for each in task_ids] == ["success"] * room + ["running"] * 2
    told = running.alice.results(task_ids[room:])
    assert [each["status"] for each in told.values()] == ["success"] * 2
    status = running.alice.ok("GET", f"/actions/{action['action_id']}/status")
    assert status["status"] == "SUCCEEDED"
    results = status["details"]["results"]
    assert {each["status"] for each in results} == {"success"}
    outputs = [each["output"] for each in results if "output" in each]
    assert 0 < sum(map(len, outputs)) <= 2 * limits.PAYLOAD
    errors = [each["error"] for each in results if "error" in each]
    assert {each["code"] for each in errors} == {"RESULT_TOO_LARGE"}
    assert f"/v2/tasks/{task_ids[-1]}" in errors[-1]["message"]
