"""The served document names every route, and a relay that is asked at random keeps its temper."""

from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from mep_cloud.app import ROUTES
from relay_driver import Api
from schemathesis.checks import not_a_server_error
from starlette.routing import Route

EXAMPLES = 4
"""Requests of each operation and person."""
PAGES = ("/device", "/login", "/logout", "/login/{provider}", "/login/{provider}/callback")
"""Answered in HTML, for browsers."""


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
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        response = case.call(base_url=url, session=session, headers=headers)
        case.validate_response(response, checks=[not_a_server_error])

    ask()
