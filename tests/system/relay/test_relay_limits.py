"""A relay with tight limits: each refusal has its status, its code and a remedy."""

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from relay_driver import BOUND_S, RelayProcess, make_people, relay_cli

TIGHT = """
[limits]
payload = 2000
function = 3000
request = 20000
submit_tasks = 5
queue_depth = 8
"""
SLOW = """
[limits]
preset = "globus"
rate_requests = 5
rate_period_s = 2.0
"""


def relay_with(directory: Path, settings: str) -> Any:
    data = directory / "data"
    relay_cli("init", data)
    (data / "relay.toml").write_text(settings)
    return make_people(RelayProcess(data))


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    people = relay_with(tmp_path_factory.mktemp("tight"), TIGHT)
    yield people
    people.close()
    assert people.relay.stop() == 0


def refused(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def test_limits_are_told(tight: Any) -> None:
    told = tight.alice.ok("GET", "/v3/limits")
    expected = {"payload": 2000, "function": 3000, "submit_tasks": 5, "queue_depth": 8}
    assert expected.items() <= told.items()


def test_sizes(tight: Any) -> None:
    endpoint = tight.admin.endpoint()["endpoint_id"]
    function = tight.alice.function()
    path = f"/v3/endpoints/{endpoint}/submit"
    tight.alice.submit(endpoint, function, ["x" * 2000])
    response = tight.alice("POST", path, json={"tasks": {function: ["x" * 2001]}})
    assert refused(response) == (413, "TASK_PAYLOAD_TOO_LARGE")
    assert "2000" in response.json()["message"]
    response = tight.alice("POST", path, json={"tasks": {function: ["x"] * 6}})
    assert refused(response) == (422, "REQUEST_MALFORMED")
    # Who submits five at once may ask for more.
    ids = [str(uuid.uuid4()) for _ in range(6)]
    told = tight.alice.ok("POST", "/v2/batch_status", json={"task_ids": ids})
    assert len(told["results"]) == 6
    response = tight.alice("POST", path, data=b" " * 20_001)
    assert refused(response) == (413, "REQUEST_MALFORMED")
    code = {"function_name": "f", "function_code": "x" * 3001}
    response = tight.alice("POST", "/v3/functions", json=code)
    assert refused(response) == (413, "TASK_PAYLOAD_TOO_LARGE")


def test_an_endpoint_s_queue_is_bounded(tight: Any) -> None:
    endpoint = tight.admin.endpoint()["endpoint_id"]
    other = tight.admin.endpoint()["endpoint_id"]
    function = tight.alice.function(public=True)
    tight.alice.submit(endpoint, function, ["x"] * 5)
    tight.bob.submit(endpoint, function, ["x"] * 3)
    path = f"/v3/endpoints/{endpoint}/submit"
    response = tight.alice("POST", path, json={"tasks": {function: ["x"]}})
    assert refused(response) == (429, "QUEUE_FULL")
    assert int(response.headers["Retry-After"]) > 0
    tight.alice.submit(other, function, ["x"])


def test_a_submit_that_filled_the_queue_is_repeated(tight: Any) -> None:
    """Its answer was lost, so whoever sent it asks again, and has to hear that it was taken."""
    endpoint = tight.admin.endpoint()["endpoint_id"]
    function = tight.alice.function()
    tight.alice.submit(endpoint, function, ["x"] * 4)
    body = {"tasks": {function: ["x"] * 4}, "request_id": str(uuid.uuid4())}
    path = f"/v3/endpoints/{endpoint}/submit"
    first = tight.alice.ok("POST", path, json=body)
    assert tight.alice.ok("POST", path, json=body) == first
    response = tight.alice("POST", path, json={**body, "request_id": str(uuid.uuid4())})
    assert refused(response) == (429, "QUEUE_FULL")
    response = tight.bob("POST", path, json={**body, "tasks": {tight.bob.function(): ["x"]}})
    assert refused(response) == (429, "QUEUE_FULL")


def test_batches_that_come_at_once_share_the_room(tight: Any) -> None:
    endpoint = tight.admin.endpoint()["endpoint_id"]
    body = {"tasks": {tight.alice.function(): ["x"] * 5}}

    def submit(_: int) -> int:
        with requests.Session() as session:
            headers = {"Authorization": f"Bearer {tight.alice.token}"}
            where = f"{tight.url}/v3/endpoints/{endpoint}/submit"
            return session.post(where, json=body, headers=headers, timeout=BOUND_S).status_code

    with ThreadPoolExecutor(8) as threads:
        statuses = sorted(threads.map(submit, range(8)))
    assert statuses == [200] + [429] * 7


def test_a_user_is_slowed_down_and_told_for_how_long(tmp_path: Path) -> None:
    people = relay_with(tmp_path, SLOW)
    try:
        told: list[Any] = []
        for _ in range(1000):  # however slow the machine is
            answer = people.alice("GET", "/v3/whoami")
            told += [answer] if answer.status_code == 429 else []
            if len(told) > 10:
                break
        assert len(told) > 10
        assert refused(told[0]) == (429, "TOO_MANY_REQUESTS")
        assert people.bob("GET", "/v3/whoami").status_code == 200
        time.sleep(int(told[-1].headers["Retry-After"]))
        assert people.alice("GET", "/v3/whoami").status_code == 200
    finally:
        people.close()
        assert people.relay.stop() == 0


def test_a_setting_that_does_not_exist_refuses_to_start(tmp_path: Path) -> None:
    data = tmp_path / "data"
    relay_cli("init", data)
    (data / "relay.toml").write_text("[limits]\npayloads = 1\n")
    with pytest.raises(AssertionError, match="did you mean 'payload'"):
        RelayProcess(data)
