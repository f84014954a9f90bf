"""Every route of the relay for each kind of person: a route without a row fails."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from mep_cloud.app import ROUTES
from relay_driver import BOUND_S, Api, relay_cli
from starlette.routing import Route, WebSocketRoute
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

FUNCTION = {"function_name": "f", "function_code": "x"}
CONTAINER = {"container_type": "podman", "location": "docker.io/library/debian:12"}
MULTI = {"endpoint_name": "x", "multi_user": True, "visible_to": ["{group}"]}
CALL = {"tasks": {"{shared}": ["x"]}}

# Owner (Alice: a function shared with a group that she manages, a task, a single-user endpoint),
# administrator of the relay (whose the multi-user endpoint is, which lists the group), a member of
# the group, a stranger, nobody, an expired token. 0: would spoil other rows; the last table has it.
ROWS: list[tuple[str, str, Any, str]] = [
    ("POST", "/v3/endpoints/{id}/submit", ("multi", CALL), "200 403 200 403 401 401"),
    ("POST", "/v3/endpoints/{id}/submit", ("single", CALL), "200 403 403 403 401 401"),
    ("GET", "/v2/tasks/{id}", "task", "200 404 404 404 401 401"),
    ("GET", "/v3/tasks/{id}", "task", "200 404 404 404 401 401"),
    ("GET", "/v3/tasks", None, "200 200 200 200 401 401"),
    ("POST", "/v2/batch_status", {"task_ids": ["{task}"]}, "200 200 200 200 401 401"),
    ("GET", "/v2/taskgroup/{id}", "tasks", "200 404 404 404 401 401"),
    ("POST", "/v3/tasks/cancel", {"task_ids": []}, "200 200 200 200 401 401"),
    ("POST", "/v3/blobs", {"x": 1}, "400 400 400 400 401 401"),  # no Content-Digest
    ("GET", "/v3/tasks/{id}/arguments", "task", "401 401 401 401 401 401"),
    ("POST", "/v3/tasks/{id}/result", ("task", {}), "401 401 401 401 401 401"),
    ("GET", "/v3/tasks/{id}/result", "task", "404 404 404 404 401 401"),
    ("POST", "/v3/functions", FUNCTION, "200 200 200 200 401 401"),
    ("POST", "/v3/functions", FUNCTION | {"group": "{group}"}, "200 404 200 404 401 401"),
    ("GET", "/v3/functions", None, "200 200 200 200 401 401"),
    ("GET", "/v2/functions/{id}", "shared", "200 403 200 403 401 401"),
    ("GET", "/v2/functions/{id}", "private", "200 403 403 403 401 401"),
    ("DELETE", "/v2/functions/{id}", "shared", "0 403 403 403 401 401"),
    ("POST", "/v3/containers", CONTAINER, "200 200 200 200 401 401"),
    ("GET", "/v3/containers/{id}", "container", "200 200 200 200 401 401"),
    ("POST", "/v3/endpoints", MULTI, "403 200 403 403 401 401"),
    ("POST", "/v3/endpoints", {"endpoint_name": "x"}, "200 200 200 200 401 401"),
    ("PUT", "/v3/endpoints/{id}", ("multi", MULTI), "403 200 403 403 401 401"),
    ("PUT", "/v3/endpoints/{id}", ("single", {"endpoint_name": "x"}), "200 200 403 403 401 401"),
    ("POST", "/v3/endpoints/{id}/lock", "multi", "403 200 403 403 401 401"),
    ("POST", "/v3/endpoints/{id}/lock", "single", "200 200 403 403 401 401"),
    ("GET", "/v3/endpoints/{id}/allowed_functions", "multi", "200 200 200 403 401 401"),
    ("GET", "/v3/endpoints/{id}/allowed_functions", "single", "200 200 403 403 401 401"),
    ("POST", "/v3/endpoints/{id}/keys", "multi", "403 200 403 403 401 401"),
    ("POST", "/v3/endpoints/{id}/keys", "single", "200 200 403 403 401 401"),
    ("PUT", "/v3/endpoints/{id}/keys", ("multi", {"key_version": 1}), "403 200 403 403 401 401"),
    ("PUT", "/v3/endpoints/{id}/keys", ("single", {"key_version": 9}), "409 409 403 403 401 401"),
    ("GET", "/v2/endpoints", None, "200 200 200 200 401 401"),
    ("GET", "/v2/endpoints/{id}", "multi", "200 200 200 403 401 401"),
    ("GET", "/v2/endpoints/{id}", "single", "200 200 403 403 401 401"),
    ("GET", "/v2/endpoints/{id}/status", "multi", "200 200 200 403 401 401"),
    ("GET", "/v2/endpoints/{id}/status", "single", "200 200 403 403 401 401"),
    ("DELETE", "/v2/endpoints/{id}", "multi", "403 0 403 403 401 401"),
    ("POST", "/v3/webhooks", {"url": "https://127.0.0.1/"}, "422 422 422 422 401 401"),
    ("GET", "/actions/", None, "200 200 200 200 200 200"),
    ("POST", "/actions/run", {"request_id": "", "body": {}}, "422 422 422 422 401 401"),
    ("GET", "/actions/{id}/status", "task", "404 404 404 404 401 401"),
    ("POST", "/actions/{id}/cancel", "task", "404 404 404 404 401 401"),
    ("POST", "/actions/{id}/release", "task", "404 404 404 404 401 401"),
    ("GET", "/v3/webhooks", None, "200 200 200 200 401 401"),
    ("DELETE", "/v3/webhooks/{id}", "task", "404 404 404 404 401 401"),
    ("POST", "/v3/groups", {"name": "mine"}, "200 200 200 200 401 401"),
    ("GET", "/v3/groups", None, "200 200 200 200 401 401"),
    ("GET", "/v3/groups/{id}", "group", "200 200 200 404 401 401"),
    ("POST", "/v3/groups/{id}/members", ("group", {"user": "carol"}), "404 404 403 404 401 401"),
    ("DELETE", "/v3/groups/{id}/members/{user}", "group", "404 404 403 404 401 401"),
    ("DELETE", "/v3/groups/{id}", "group", "0 0 403 404 401 401"),
    ("POST", "/v2/oauth2/token", {}, "400 400 400 400 400 400"),
    ("POST", "/v2/oauth2/token/revoke", {}, "400 400 400 400 400 400"),
    ("POST", "/v2/oauth2/device_authorization", {}, "400 400 400 400 400 400"),
    ("GET", "/v2/oauth2/userinfo", None, "200 200 200 200 401 401"),
    ("GET", "/v2/api/identities", None, "400 400 400 400 401 401"),
    ("GET", "/v2/get_amqp_result_connection_url", None, "404 404 404 404 401 401"),
    ("GET", "/device", None, "303 303 303 303 303 303"),
    ("POST", "/device", {}, "403 403 403 403 403 403"),
    ("GET", "/login", None, "200 200 200 200 200 200"),
    ("POST", "/login", {}, "403 403 403 403 403 403"),
    # There is nobody to sign in with here; test_relay_oidc.py has a relay where there is.
    ("GET", "/login/{provider}", None, "404 404 404 404 404 404"),
    ("GET", "/login/{provider}/callback", None, "404 404 404 404 404 404"),
    ("POST", "/logout", {}, "403 403 403 403 403 403"),
    ("GET", "/v2/version", None, "200 200 200 200 200 200"),
    ("GET", "/v3/limits", None, "200 200 200 200 401 401"),
    ("GET", "/v3/whoami", None, "200 200 200 200 401 401"),
    ("GET", "/healthz", None, "200 200 200 200 200 200"),
    ("GET", "/readyz", None, "200 200 200 200 200 200"),
    ("GET", "/openapi.json", None, "200 200 200 200 200 200"),
    # This relay has no token for it; test_relay_operation.py tells who may where there is one.
    ("GET", "/metrics", None, "404 404 404 404 404 404"),
    ("WEBSOCKET", "/v3/stream", None, "101 101 101 101 401 401"),
    ("WEBSOCKET", "/v3/link/manager", None, "401 401 401 401 401 401"),
    ("WEBSOCKET", "/v3/link/user-endpoint", None, "401 401 401 401 401 401"),
]
LAST: list[tuple[str, str, str, list[tuple[str, int]]]] = [
    ("DELETE", "/v2/functions/{id}", "shared", [("owner", 200), ("owner", 404)]),
    ("DELETE", "/v2/endpoints/{id}", "multi", [("admin", 200), ("admin", 404)]),
    ("DELETE", "/v3/groups/{id}", "group", [("owner", 200), ("owner", 404), ("member", 404)]),
]


def test_every_route_has_a_row() -> None:
    routes = set()
    for route in ROUTES:
        if isinstance(route, WebSocketRoute):
            routes.add(("WEBSOCKET", route.path))
        else:
            assert isinstance(route, Route)
            routes |= {(method, route.path) for method in route.methods or () if method != "HEAD"}
    assert routes == {(method, path) for method, path, *_ in ROWS}


PAGES = (
    "/device",
    "/login",
    "/logout",
    "/login/{provider}",
    "/login/{provider}/callback",
)  # a token opens none of them


class Cast:
    """The six, and what they have."""

    def __init__(self, running: Any) -> None:
        data = running.relay.data
        member = relay_cli("user", "add", f"m-{uuid.uuid4()}", "--data", data)["username"]
        token = relay_cli("token", "create", member, "--data", data)["token"]
        late = ("--expires-days", 1e-8)
        expired = relay_cli("token", "create", "alice@example.org", "--data", data, *late)
        self.made = [Api(running.url, token), Api(running.url, expired["token"])]
        self.people = {
            "owner": running.alice,
            "admin": running.admin,
            "member": self.made[0],
            "stranger": running.bob,
            "anonymous": running.nobody,
            "expired": self.made[1],
        }
        self.things = self._things(running, member)
        self.document = schemathesis.openapi.from_url(f"{running.url}/openapi.json")

    @staticmethod
    def _things(running: Any, member: str) -> dict[str, str]:
        alice = running.alice
        group = alice.ok("POST", "/v3/groups", json={"name": "physics"})["id"]
        alice.ok("POST", f"/v3/groups/{group}/members", json={"user": member})
        multi = running.admin.endpoint(visible_to=[group])["endpoint_id"]
        shared = alice.function(group=group)
        tasks = str(uuid.uuid4())
        task = alice.submit(multi, shared, ["p"], task_group_id=tasks)["tasks"][shared][0]
        return {
            "group": group,
            "multi": multi,
            "single": alice.endpoint(multi_user=False)["endpoint_id"],
            "shared": shared,
            "private": alice.function(),
            "tasks": tasks,
            "container": alice.ok("POST", "/v3/containers", json=CONTAINER)["container_uuid"],
            "task": task,
            "user": "carol",
        }


@pytest.fixture(scope="module")
def cast(running: Any) -> Iterator[Cast]:
    made = Cast(running)
    yield made
    for api in made.made:
        api.session.close()


def ask(
    api: Api, method: str, path: str, body: Any, things: dict[str, str], document: Any = None
) -> int:
    """The status that `api` gets; 101 for a WebSocket that opens.

    What is answered must be what the served document says.
    """
    template = path
    if method == "WEBSOCKET":
        headers = {"Authorization": f"Bearer {api.token}"} if api.token else {}
        try:
            with connect("ws" + api.url.removeprefix("http") + path, additional_headers=headers):
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code
    text = json.dumps(body)
    for name, value in things.items():
        path, text = path.replace("{" + name + "}", value), text.replace("{" + name + "}", value)
    data = None if body is None else text
    response = api.session.request(
        method, api.url + path, data=data, timeout=BOUND_S, allow_redirects=False
    )
    if document is not None:
        document[template][method].validate_response(response)
    if path in PAGES:
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none';")
        return response.status_code
    if response.status_code == 401:
        assert response.json()["code"] == "USER_UNAUTHENTICATED"
    if response.status_code >= 400:
        assert response.json()["message"]
    return response.status_code


def split(what: Any) -> tuple[str, Any]:
    """Which thing the path names, and the body."""
    match what:
        case str(name):
            return name, None
        case (str(name), body):
            return name, body
    return "", what


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[1]}")
def test_who_gets_what(cast: Cast, row: tuple[str, str, Any, str]) -> None:
    method, path, what, statuses = row
    name, body = split(what)
    things = cast.things | {"id": cast.things.get(name, "")}
    got = [
        0 if status == "0" else ask(api, method, path, body, things, cast.document)
        for api, status in zip(cast.people.values(), statuses.split(), strict=True)
    ]
    assert " ".join(map(str, got)) == statuses


def test_what_ends_things(running: Any, cast: Cast) -> None:
    own = Cast(running)
    for method, path, name, asked in LAST:
        things = own.things | {"id": own.things[name]}
        got = [
            (who, ask(own.people[who], method, path, None, things, own.document))
            for who, _ in asked
        ]
        assert got == asked
    for api in own.made:
        api.session.close()
