"""The served document names every route; a relay that is asked at random keeps its temper, and what
it knows of others to itself.
"""

import asyncio
import uuid
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from mep_cloud.app import ROUTES
from relay_driver import Api, FakeEndpoint, FakeManager, kept
from schemathesis.checks import not_a_server_error
from starlette.routing import Route

EXAMPLES = 4
"""Requests of each operation and person."""
PAGES = ("/device", "/login", "/logout", "/login/{provider}", "/login/{provider}/callback")
"""Answered in HTML, for browsers."""
LOOSE = settings(
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def test_every_route_is_in_the_document(running: Any) -> None:
    document = running.nobody.ok("GET", "/openapi.json")
    told = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    served = {
        (method, route.path)
        for route in ROUTES
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert told == served
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["description"]
            assert operation["responses"]["4XX"]


def test_answers_are_what_the_document_says(running: Any) -> None:
    document = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
    endpoint = running.admin.endpoint()["endpoint_id"]
    function = running.alice.function()
    submit = {"tasks": {function: ["x"]}}
    submitted = running.alice.submit(endpoint, function, ["x"])
    task = submitted["tasks"][function][0]
    asked: list[tuple[Api, str, str, str, Any]] = [
        (running.alice, "POST", "/v3/endpoints/{id}/submit", endpoint, submit),
        (running.alice, "POST", "/v3/endpoints/{id}/submit", endpoint, {"tasks": {}}),
        (running.alice, "GET", "/v2/tasks/{id}", task, None),
        (running.bob, "GET", "/v2/tasks/{id}", task, None),
        (running.alice, "POST", "/v2/batch_status", "", {"task_ids": [task]}),
        (running.alice, "GET", "/v3/limits", "", None),
        (running.alice, "GET", "/v2/endpoints", "", None),
        (running.admin, "POST", "/v3/endpoints", "", {"endpoint_name": "x"}),
        (running.nobody, "GET", "/v3/whoami", "", None),
    ]
    for api, method, path, value, body in asked:
        response = api(method, path.replace("{id}", value), json=body)
        document[path][method].validate_response(response)


def operations(url: str) -> list[Any]:
    every = schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations()
    found = [each.ok() for each in every]
    return [each for each in found if each.path not in PAGES]


@pytest.mark.parametrize("who", ["admin", "alice", "nobody"])
def test_no_request_is_a_server_error(running: Any, who: str) -> None:
    api: Api = getattr(running, who)
    headers = {} if api.token is None else {"Authorization": f"Bearer {api.token}"}
    with requests.Session() as session:
        for operation in operations(running.url):
            _ask(operation, session, headers, running.url)
    running.nobody.ok("GET", "/readyz")


def _ask(operation: Any, session: requests.Session, headers: dict[str, str], url: str) -> None:
    @settings(LOOSE, max_examples=EXAMPLES)
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        response = case.call(base_url=url, session=session, headers=headers)
        case.validate_response(response, checks=[not_a_server_error])

    ask()


async def private_things(running: Any, mark: str) -> dict[str, str]:
    """What Alice has, by id; `mark` is in whatever she has put into it."""
    alice = running.alice
    registered = running.admin.endpoint()
    function = alice.function(function_name=mark, function_code=f"st\nf:{mark}", description=mark)
    submitted = alice.submit(registered["endpoint_id"], function, [mark])
    (task,) = submitted["tasks"][function]
    manager = FakeManager(running.url, registered)
    async with kept(manager.link):
        start = await manager.next_start()
        endpoint = FakeEndpoint(running.url, start.user_endpoint_id, manager.token(start))
        async with kept(endpoint.link):
            done = await asyncio.to_thread(alice.wait, [task])
    assert done[task]["result"] == mark
    own = alice.endpoint(multi_user=False, endpoint_name=mark, display_name=mark)
    body = {"endpoint": registered["endpoint_id"], "function": function, "args": [mark]}
    run = {"request_id": str(uuid.uuid4()), "label": mark, "body": body}
    action = alice("POST", "/actions/run", json=run).json()
    webhook = {"url": f"https://example.org/{mark}"}
    return {
        "function": function,
        "task": task,
        "task group": submitted["task_group_id"],
        "endpoint": own["endpoint_id"],
        "group": alice.ok("POST", "/v3/groups", json={"name": mark, "description": mark})["id"],
        "action": action["action_id"],
        "webhook": alice.ok("POST", "/v3/webhooks", json=webhook)["webhook_id"],
    }


def naming(value: Any, text: str) -> Any:
    """A generated body or query that says `text` wherever it said something."""
    if isinstance(value, dict):
        return {name: naming(each, text) for name, each in value.items()}
    if isinstance(value, list):
        return [naming(each, text) for each in value] or [text]
    return text if isinstance(value, str) else value


def test_no_request_tells_of_anothers_data(running: Any) -> None:
    mark = f"alices-{uuid.uuid4().hex}"
    things = asyncio.run(private_things(running, mark))
    with requests.Session() as session:
        for operation in operations(running.url):
            for case in _cases(operation):
                for each in things.values():
                    _ask_about(case, each, mark, session, running.bob.token)
                    _ask_about(case, each, mark, session, None)
    # The marks are there to be told, and nobody else has done anything about them.
    alice = running.alice
    assert alice.ok("GET", f"/v2/functions/{things['function']}")["function_name"] == mark
    assert alice.ok("GET", f"/v2/tasks/{things['task']}")["result"] == mark
    assert alice.ok("GET", f"/v2/endpoints/{things['endpoint']}")["display_name"] == mark
    assert alice.ok("GET", f"/v3/groups/{things['group']}")["name"] == mark
    assert alice.ok("GET", f"/actions/{things['action']}/status")["label"] == mark
    assert mark in alice("GET", "/v3/webhooks").text


def _cases(operation: Any) -> list[Any]:
    """Requests that the document allows."""
    found: list[Any] = []

    @settings(LOOSE, max_examples=2)
    @given(case=operation.as_strategy())
    def make(case: Any) -> None:
        found.append(case)

    make()
    return found


def _ask_about(
    case: Any, thing: str, mark: str, session: requests.Session, token: str | None
) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    case.path_parameters = dict.fromkeys(case.path_parameters or {}, thing)
    case.query = naming(case.query, thing)
    case.body = naming(case.body, thing)
    response = case.call(session=session, headers=headers)
    assert response.status_code < 500, (case.operation.label, response.text)
    assert mark.encode() not in response.content, case.operation.label
