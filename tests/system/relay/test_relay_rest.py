"""Every route against a real server: who may, what is refused and how."""

import socket
import uuid
from typing import Any

import msgspec
import pytest

from mep.wire import limits

NOWHERE = "00000000-0000-4000-8000-000000000000"
MSGPACK = "application/msgpack"


@pytest.fixture(scope="module")
def things(running: Any) -> dict[str, str]:
    """What Alice owns, and a multi-user endpoint."""
    multi = running.admin.endpoint()["endpoint_id"]
    function = running.alice.function()
    group = str(uuid.uuid4())
    submitted = running.alice.submit(multi, function, ["p"], task_group_id=group)
    return {
        "multi": multi,
        "single": running.alice.endpoint(multi_user=False)["endpoint_id"],
        "function": function,
        "public_function": running.alice.function(public=True),
        "group": group,
        "task": submitted["tasks"][function][0],
    }


def refusal(response: Any) -> tuple[int, str]:
    body = response.json()
    assert body["status"] == "Failed"
    assert body["http_status_code"] == response.status_code
    assert body["message"]
    assert body["reason"] == body["message"]
    return response.status_code, body["code"]


REGISTER = {"endpoint_name": "x", "multi_user": True}


def test_strangers_learn_nothing_of_tasks(running: Any, things: dict[str, str]) -> None:
    task = things["task"]
    (status,) = running.bob.results([task]).values()
    assert status["failure_code"] == "TASK_NOT_FOUND"
    unknown = running.bob.results([NOWHERE])[NOWHERE]
    assert status["exception"].replace(task, NOWHERE) == unknown["exception"]
    answer = running.bob.ok("POST", "/v3/tasks/cancel", json={"task_ids": [task, NOWHERE]})
    assert answer["tasks"] == {task: "unknown", NOWHERE: "unknown"}
    assert running.alice.ok("GET", f"/v2/tasks/{task}")["status"] == "waiting-for-ep"


def test_anonymous_routes(running: Any) -> None:
    assert running.nobody.ok("GET", "/healthz") == {"status": "ok"}
    versions = running.nobody.ok("GET", "/v2/version", params={"service": "all"})
    assert {"min_sdk_version", "min_ep_version"} <= set(versions)


def test_whoami(running: Any) -> None:
    me = running.alice.ok("GET", "/v3/whoami")
    (identity,) = me["identity_set"]
    assert identity["username"] == "alice@example.org"
    assert identity["id"] == identity["sub"] == me["sub"]
    assert identity["status"] == "used"
    assert uuid.UUID(identity["identity_provider"])
    assert running.bob.ok("GET", "/v3/whoami")["preferred_username"] == "bob@relay.local"


BAD_BODIES = [
    (b"", 400),
    (b"{", 400),
    (b"[]", 422),
    (b"null", 422),
    (b'"x"', 422),
    (b"\xff\xfe", 400),
    (b'{"tasks": 1}', 422),
    (b'{"tasks": {"x": "y"}}', 422),
    (b'{"tasks": {"x": [1]}}', 422),
    (b'{"tasks": {}}', 422),
    (b'{"tasks": {"nonsense": ["x"]}}', 400),
    (b'{"tasks": {"%s": ["x"]}}' % NOWHERE.encode(), 404),
    (b'{"tasks": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 422),
    (b'{"user_endpoint_config": ' + b"[" * 100_000 + b"]" * 100_000 + b', "tasks": {}}', 422),
    (b'{"tasks": {}, "user_endpoint_config": {"a": ' + b'{"a":' * 100_000, 400),
]


@pytest.mark.parametrize(("body", "status"), BAD_BODIES, ids=range(len(BAD_BODIES)))
def test_bad_submits(running: Any, things: dict[str, str], body: bytes, status: int) -> None:
    path = f"/v3/endpoints/{things['multi']}/submit"
    response = running.alice("POST", path, data=body)
    assert refusal(response)[0] == status


def test_what_each_task_carries_is_small(running: Any, things: dict[str, str]) -> None:
    path = f"/v3/endpoints/{things['multi']}/submit"
    for size, status in ((16_000, 200), (17_000, 413)):
        wanted = {"launcher_options": "x" * size}
        body = {"tasks": {things["function"]: ["x"]}, "resource_specification": wanted}
        response = running.alice("POST", path, json=body)
        assert response.status_code == status
    assert "resource_specification" in response.json()["message"]


POSTS = ["/v3/functions", "/v3/endpoints", "/v2/batch_status", "/v3/tasks/cancel"]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("kind", ["application/json", MSGPACK])
@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xc1", b'"\\ud800"', b"\x81\xa1a\xc0"])
def test_no_bad_body_is_a_server_error(running: Any, path: str, kind: str, body: bytes) -> None:
    response = running.admin("POST", path, data=body, headers={"Content-Type": kind})
    status, code = refusal(response)
    assert 400 <= status < 500
    assert code == "REQUEST_MALFORMED"


@pytest.mark.parametrize(
    "path",
    ["/v2/tasks/{}", "/v2/functions/{}", "/v2/endpoints/{}", "/v2/taskgroup/{}"],
)
@pytest.mark.parametrize("name", ["x", "%00", "..%2f", "9" * 2000, "%ff", "'--"])
def test_bad_ids_in_paths(running: Any, path: str, name: str) -> None:
    status, code = refusal(running.alice("GET", path.format(name)))
    assert (status, code) in ((400, "INVALID_UUID"), (404, "NOT_FOUND"))


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v2/tasks/{}", "TASK_NOT_FOUND"),
        ("/v2/functions/{}", "FUNCTION_NOT_FOUND"),
        ("/v2/endpoints/{}", "ENDPOINT_NOT_FOUND"),
        ("/v2/endpoints/{}/status", "ENDPOINT_NOT_FOUND"),
        ("/v3/endpoints/{}/allowed_functions", "ENDPOINT_NOT_FOUND"),
        ("/v2/taskgroup/{}", "TASK_GROUP_NOT_FOUND"),
    ],
)
def test_unknown_ids(running: Any, path: str, code: str) -> None:
    assert refusal(running.alice("GET", path.format(NOWHERE))) == (404, code)


def test_unknown_routes_and_methods(running: Any) -> None:
    assert refusal(running.alice("GET", "/v9/nothing")) == (404, "NOT_FOUND")
    response = running.alice("PATCH", "/v3/functions")
    assert refusal(response) == (405, "NOT_FOUND")
    assert response.headers["Allow"] == "POST"
    assert running.alice("GET", "/v3/stream").status_code == 404


def test_junk_on_the_socket_leaves_the_relay_up(running: Any) -> None:
    for junk in (b"\x00" * 100, b"GET / HTTP/9.9\r\n\r\n", b"POST /v3/functions HTTP/1.1\r\n"):
        with socket.create_connection(("127.0.0.1", running.relay.port), 5) as raw:
            raw.sendall(junk)
    running.nobody.ok("GET", "/healthz")


def test_payload_above_the_limit(running: Any, things: dict[str, str]) -> None:
    function = things["function"]
    path = f"/v3/endpoints/{things['multi']}/submit"
    body = {"tasks": {function: ["x" * (limits.PAYLOAD + 1)]}}
    response = running.alice("POST", path, json=body)
    assert refusal(response) == (413, "TASK_PAYLOAD_TOO_LARGE")
    assert str(limits.PAYLOAD) in response.json()["message"]


def test_body_above_the_limit(running: Any, things: dict[str, str]) -> None:
    path = f"/v3/endpoints/{things['multi']}/submit"
    response = running.alice("POST", path, data=b" " * (limits.REQUEST + 1))
    assert refusal(response) == (413, "REQUEST_MALFORMED")
    running.nobody.ok("GET", "/healthz")


def test_too_many_tasks(running: Any, things: dict[str, str]) -> None:
    path = f"/v3/endpoints/{things['multi']}/submit"
    body = {"tasks": {things["function"]: [""] * (limits.SUBMIT_TASKS + 1)}}
    response = running.alice("POST", path, json=body)
    assert refusal(response) == (422, "REQUEST_MALFORMED")


def test_options_too_large_for_a_start(running: Any, things: dict[str, str]) -> None:
    path = f"/v3/endpoints/{things['multi']}/submit"
    options = {"SCRIPT": "x" * limits.START_PACKET}
    body = {"tasks": {things["function"]: ["x"]}, "user_endpoint_config": options}
    response = running.alice("POST", path, json=body)
    assert response.status_code == 413
    assert "user_endpoint_config" in response.json()["message"]


@pytest.mark.parametrize("value", [{"a": b"bytes"}, {"a": float("nan")}, {"a": {1: 2, "b": 3}}])
def test_options_that_json_cannot_say(
    running: Any, things: dict[str, str], value: dict[str, Any]
) -> None:
    path = f"/v3/endpoints/{things['multi']}/submit"
    body = {"tasks": {things["function"]: [b"x"]}, "user_endpoint_config": value}
    response = running.alice(
        "POST", path, data=msgspec.msgpack.encode(body), headers={"Content-Type": MSGPACK}
    )
    assert refusal(response)[1] == "REQUEST_MALFORMED"


def test_too_large_function(running: Any) -> None:
    body = {"function_name": "f", "function_code": "x" * (limits.FUNCTION + 1)}
    response = running.alice("POST", "/v3/functions", json=body)
    assert response.status_code == 413


def test_source_code_is_wrapped(running: Any) -> None:
    source = "def zwölf():\n    return 12\n"
    function = running.alice.function(
        function_name="zwölf", function_code=source, serialized=False, description="d"
    )
    described = running.alice.ok("GET", f"/v2/functions/{function}")
    buffer = f"st\nzwölf:{source}"
    assert described["function_code"] == f"{len(buffer)}\n{buffer}"
    assert described["function_name"] == "zwölf"
    assert described["description"] == "d"


def test_deleted_functions_take_no_tasks(running: Any, things: dict[str, str]) -> None:
    function = running.alice.function()
    running.alice.submit(things["multi"], function, ["x"])
    assert running.alice.ok("DELETE", f"/v2/functions/{function}") == {"result": 302}
    path = f"/v3/endpoints/{things['multi']}/submit"
    response = running.alice("POST", path, json={"tasks": {function: ["x"]}})
    assert refusal(response) == (404, "FUNCTION_NOT_FOUND")


def test_allowed_functions(running: Any) -> None:
    allowed, other = running.alice.function(), running.alice.function()
    endpoint = running.admin.endpoint(allowed_functions=[allowed.upper()])["endpoint_id"]
    assert running.alice.ok("GET", f"/v3/endpoints/{endpoint}/allowed_functions") == {
        "endpoint_id": endpoint,
        "restricted": True,
        "functions": [allowed],
    }
    running.alice.submit(endpoint, allowed, ["x"])
    path = f"/v3/endpoints/{endpoint}/submit"
    response = running.alice("POST", path, json={"tasks": {allowed: ["x"], other: ["x"]}})
    assert refusal(response) == (403, "FUNCTION_NOT_PERMITTED")
    empty = running.admin.endpoint(allowed_functions=[])["endpoint_id"]
    response = running.alice(
        "POST", f"/v3/endpoints/{empty}/submit", json={"tasks": {allowed: ["x"]}}
    )
    assert refusal(response) == (403, "FUNCTION_NOT_PERMITTED")


def test_registration(running: Any) -> None:
    first = running.admin.endpoint(
        public=True,
        display_name="Big machine",
        metadata={"endpoint_config": "secret of the site", "user_config_template": "engine: x"},
    )
    endpoint = first["endpoint_id"]
    assert len(bytes.fromhex(first["grant_key"])) == 32
    assert first["key_version"] == 1
    again = running.admin.ok("PUT", f"/v3/endpoints/{endpoint}", json={**REGISTER, "public": True})
    assert again["endpoint_id"] == endpoint
    assert again["grant_key"] == first["grant_key"]
    assert again["link_token"] != first["link_token"]
    unknown = running.admin("PUT", f"/v3/endpoints/{NOWHERE}", json=REGISTER)
    assert refusal(unknown) == (404, "ENDPOINT_NOT_FOUND")
    mine = running.alice.ok("GET", "/v2/endpoints")
    assert endpoint not in [each["uuid"] for each in mine]
    assert running.alice("GET", "/v2/endpoints?role=king").status_code == 422
    response = running.admin("POST", "/v3/endpoints", json={"endpoint_name": ""})
    assert refusal(response) == (422, "REQUEST_MALFORMED")


def test_users_do_not_see_the_sites_own_configuration(running: Any) -> None:
    metadata = {"endpoint_config": "password: x", "user_config_template": "engine: x"}
    endpoint = running.admin.endpoint(metadata=metadata)["endpoint_id"]
    shown = running.alice.ok("GET", f"/v2/endpoints/{endpoint}")["metadata"]
    assert shown == {"user_config_template": "engine: x"}
    full = running.admin.ok("GET", f"/v2/endpoints/{endpoint}")["metadata"]
    assert full["endpoint_config"] == "password: x"


def test_deleting_an_endpoint_fails_its_tasks(running: Any) -> None:
    endpoint = running.admin.endpoint()["endpoint_id"]
    function = running.alice.function()
    (task,) = running.alice.submit(endpoint, function, ["x"])["tasks"][function]
    assert running.admin.ok("DELETE", f"/v2/endpoints/{endpoint}") == {"result": 302}
    ended = running.alice.wait([task])[task]
    assert ended["failure_code"] == "ENDPOINT_NOT_FOUND"
    assert "deleted" in ended["exception"]
    response = running.alice("GET", f"/v2/endpoints/{endpoint}")
    assert refusal(response) == (404, "ENDPOINT_NOT_FOUND")


def test_submit_in_msgpack(running: Any, things: dict[str, str]) -> None:
    function = things["function"]
    body = {"tasks": {function: [b"\x00\xff", b""]}, "result_serializers": ["11", "00"]}
    response = running.alice(
        "POST",
        f"/v3/endpoints/{things['multi']}/submit",
        data=msgspec.msgpack.encode(body),
        headers={"Content-Type": MSGPACK, "Accept": MSGPACK},
    )
    assert response.headers["Content-Type"] == MSGPACK
    answer = msgspec.msgpack.decode(response.content)
    assert len(answer["tasks"][function]) == 2
    assert uuid.UUID(answer["task_group_id"])
    assert uuid.UUID(answer["request_id"])


def test_a_repeated_submit_gets_its_first_answer(running: Any, things: dict[str, str]) -> None:
    name = str(uuid.uuid4())
    first = running.alice.submit(things["multi"], things["function"], ["a", "b"], request_id=name)
    assert first["request_id"] == name
    again = running.alice.submit(things["multi"], things["function"], ["a", "b"], request_id=name)
    assert again == first
    group = running.alice.ok("GET", f"/v2/taskgroup/{first['task_group_id']}")
    assert len(group["tasks"]) == 2
    body = {"tasks": {things["function"]: ["a"]}, "request_id": "not a uuid"}
    response = running.alice("POST", f"/v3/endpoints/{things['multi']}/submit", json=body)
    assert response.status_code == 400


def test_submit_keeps_order_and_count(running: Any, things: dict[str, str]) -> None:
    one, two = running.alice.function(), running.alice.function()
    body = {"tasks": {one: ["a", "b"], two: ["c"]}}
    path = f"/v3/endpoints/{things['multi']}/submit"
    answer = running.alice.ok("POST", path, json=body)
    assert {key: len(ids) for key, ids in answer["tasks"].items()} == {one: 2, two: 1}
    group = running.alice.ok("GET", f"/v2/taskgroup/{answer['task_group_id']}")
    listed = [each["id"] for each in group["tasks"]]
    assert listed == [*answer["tasks"][one], *answer["tasks"][two]]


def test_cancel_before_any_start(running: Any, things: dict[str, str]) -> None:
    function = running.alice.function()
    endpoint = running.admin.endpoint()["endpoint_id"]
    (task,) = running.alice.submit(endpoint, function, ["x"])["tasks"][function]
    answer = running.alice.ok("POST", "/v3/tasks/cancel", json={"task_ids": [task]})
    assert answer["tasks"] == {task: "cancelling"}
    ended = running.alice.wait([task])[task]
    assert ended["failure_code"] == "CANCELLED"
    again = running.alice.ok("POST", "/v3/tasks/cancel", json={"task_ids": [task]})
    assert again["tasks"] == {task: "ended"}


def test_status_of_an_endpoint_without_a_manager(running: Any, things: dict[str, str]) -> None:
    status = running.alice.ok("GET", f"/v2/endpoints/{things['multi']}/status")
    assert status["status"] == "offline"
    assert status["details"]["starts_possible"] is False
    assert status["details"]["last_heartbeat"] is None
