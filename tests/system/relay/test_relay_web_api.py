"""The routes of the Globus Compute web API, row by row: the shapes that its clients rely on."""

import time
import uuid
from datetime import datetime
from typing import Any

import pytest
from relay_driver import relay_cli

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def made(running: Any) -> dict[str, str]:
    """What the rows are about."""
    alice, group = running.alice, str(uuid.uuid4())
    endpoint = running.admin.endpoint(allowed_functions=None)["endpoint_id"]
    function = alice.function(description="d", meta={"python_version": "3.11.2"})
    submitted = alice.submit(endpoint, function, ["x", "y"], task_group_id=group)
    return {
        "endpoint": endpoint,
        "function": function,
        "group": group,
        "task": submitted["tasks"][function][0],
    }


def test_version(running: Any) -> None:
    told = running.nobody.ok("GET", "/v2/version?service=all")
    assert {"min_sdk_version", "min_ep_version"} <= told.keys()


def test_functions(running: Any, made: dict[str, str]) -> None:
    source = {"function_name": "f", "function_code": "def f(): pass", "serialized": False}
    registered = running.alice.ok("POST", "/v3/functions", json=source)
    assert uuid.UUID(registered["function_uuid"])
    assert running.alice.ok("GET", f"/v2/functions/{made['function']}")["function_name"] == "f"
    path = f"/v2/functions/{registered['function_uuid']}"
    assert running.alice.ok("DELETE", path) == {"result": 302}


def test_submit(running: Any, made: dict[str, str]) -> None:
    body = {
        "tasks": {made["function"]: ["a", "b", "c"]},
        "create_queue": True,
        "user_runtime": {"python_version": "3.11"},
        "result_serializers": ["JSONData"],
        "user_endpoint_config": {"A": 1},
        "resource_specification": {},
    }
    told = running.alice.ok("POST", f"/v3/endpoints/{made['endpoint']}/submit", json=body)
    for name in ("request_id", "task_group_id", "endpoint_id"):
        assert uuid.UUID(told[name])
    assert len(told["tasks"][made["function"]]) == 3


def test_registered_endpoints(running: Any, made: dict[str, str]) -> None:
    body = {"endpoint_name": "laptop", "multi_user": False, "metadata": {"endpoint_version": "4"}}
    registered = running.alice.ok("POST", "/v3/endpoints", json=body)
    path = f"/v3/endpoints/{registered['endpoint_id']}"
    assert running.alice.ok("PUT", path, json=body)["endpoint_id"] == registered["endpoint_id"]
    listed = running.alice.ok("GET", "/v2/endpoints?role=owner")
    (mine,) = [each for each in listed if each["uuid"] == registered["endpoint_id"]]
    assert mine["name"] == "laptop"
    allowed = running.alice.ok("GET", f"/v3/endpoints/{made['endpoint']}/allowed_functions")
    assert allowed == {"endpoint_id": made["endpoint"], "restricted": False, "functions": []}
    described = running.alice.ok("GET", f"/v2/endpoints/{made['endpoint']}")
    assert described["uuid"] == made["endpoint"]
    told = running.alice.ok("GET", f"/v2/endpoints/{made['endpoint']}/status")
    assert told["status"] == "offline"
    assert isinstance(told["details"], dict)
    gone = running.alice.ok("DELETE", f"/v2/endpoints/{registered['endpoint_id']}")
    assert gone == {"result": 302}


def test_a_locked_endpoint_is_not_registered_anew(running: Any) -> None:
    body = {"endpoint_name": "laptop"}
    endpoint = running.alice.ok("POST", "/v3/endpoints", json=body)["endpoint_id"]
    told = running.alice.ok("POST", f"/v3/endpoints/{endpoint}/lock")
    assert told["endpoint_id"] == endpoint
    until = datetime.fromisoformat(told["lock_expiration_timestamp"]).timestamp()
    assert 0 < until - time.time() <= 60
    refused = running.alice("PUT", f"/v3/endpoints/{endpoint}", json=body)
    assert refused.status_code == 423
    assert refused.json()["code"] == "ENDPOINT_LOCKED"
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    assert running.alice.ok("GET", f"/v2/endpoints/{endpoint}")["name"] == "laptop"


def test_tasks(running: Any, made: dict[str, str]) -> None:
    pending = running.alice.ok("GET", f"/v2/tasks/{made['task']}")
    assert pending["task_id"] == made["task"]
    assert pending["status"] not in ("success", "failed")
    batch = running.alice.ok("POST", "/v2/batch_status", json={"task_ids": [made["task"], UNKNOWN]})
    assert batch["results"][made["task"]]["status"] == pending["status"]
    assert batch["results"][UNKNOWN]["status"] == "failed"
    group = running.alice.ok("GET", f"/v2/taskgroup/{made['group']}")
    assert group["taskgroup_id"] == made["group"]
    assert made["task"] in [each["id"] for each in group["tasks"]]


def test_who_one_is(running: Any) -> None:
    me = running.alice.ok("GET", "/v2/oauth2/userinfo")
    (identity,) = me["identity_set"]
    assert me["sub"] == identity["sub"] == identity["id"]
    assert me["preferred_username"] == identity["username"] == "alice@example.org"
    assert identity["status"] == "used"


def test_looking_identities_up(running: Any) -> None:
    def found(query: str, by: Any = running.alice) -> list[Any]:
        return list(by.ok("GET", f"/v2/api/identities?{query}")["identities"])

    bob = running.bob.ok("GET", "/v3/whoami")["sub"]
    alice = running.alice.ok("GET", "/v3/whoami")["sub"]
    assert {each["id"] for each in found(f"ids={bob},{alice},{UNKNOWN}")} == {bob, alice}
    assert [each["id"] for each in found(f"ids={bob.upper()}")] == [bob]
    (told,) = found("usernames=bob@relay.local,nobody@relay.local")
    assert told["id"] == bob
    name = f"m-{uuid.uuid4()}@relay.local"
    mail = ("--email", "m@example.org", "--data", running.relay.data)
    relay_cli("user", "add", name, *mail)
    emails = [found(f"usernames={name}", by)[0]["email"] for by in (running.alice, running.admin)]
    assert emails == [None, "m@example.org"]
    for query in ("", "ids=x", f"ids={bob}&usernames=bob", "usernames=" + "x," * 101):
        refused = running.alice("GET", f"/v2/api/identities?{query}")
        assert refused.status_code == 400, query


def test_there_is_no_amqp(running: Any) -> None:
    refused = running.alice("GET", "/v2/get_amqp_result_connection_url")
    assert refused.status_code == 404
    assert "WebSocket" in refused.json()["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"/v2/functions/{UNKNOWN}", 404, "FUNCTION_NOT_FOUND"),
        ("GET", f"/v2/endpoints/{UNKNOWN}", 404, "ENDPOINT_NOT_FOUND"),
        ("GET", f"/v2/endpoints/{UNKNOWN}/status", 404, "ENDPOINT_NOT_FOUND"),
        ("POST", f"/v3/endpoints/{UNKNOWN}/lock", 404, "ENDPOINT_NOT_FOUND"),
        ("GET", f"/v2/tasks/{UNKNOWN}", 404, "TASK_NOT_FOUND"),
        ("GET", f"/v2/taskgroup/{UNKNOWN}", 404, "TASK_GROUP_NOT_FOUND"),
        ("GET", "/v2/functions/x", 400, "INVALID_UUID"),
        ("GET", "/v2/endpoints/x", 400, "INVALID_UUID"),
        ("POST", "/v3/endpoints/x/lock", 400, "INVALID_UUID"),
        ("GET", "/v2/tasks/x", 400, "INVALID_UUID"),
        ("POST", "/v3/functions", 400, "REQUEST_MALFORMED"),
    ],
)
def test_refusals(running: Any, method: str, path: str, status: int, code: str) -> None:
    refused = running.alice(method, path)
    assert refused.status_code == status
    told = refused.json()
    assert told["code"] == code
    assert told["status"] == "Failed"
    assert told["http_status_code"] == status
    assert told["message"] == told["reason"]
