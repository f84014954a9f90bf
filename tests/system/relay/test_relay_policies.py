"""Authentication policies of endpoints, checked at each submit."""

from typing import Any

import requests
from relay_driver import BOUND_S, Api, relay_cli, run_cli


def policy(running: Any, *options: object) -> str:
    made = relay_cli("policy", "add", "p", "--data", running.relay.data, *options)
    return str(made["policy_id"])


def submits(api: Api, endpoint: str) -> tuple[int, str]:
    function = api.function()
    path = f"/v3/endpoints/{endpoint}/submit"
    response = api("POST", path, json={"tasks": {function: ["x"]}})
    return response.status_code, response.json().get("code", "")


def signed_in(running: Any, name: str) -> Api:
    """A service client that has just shown its secret."""
    made = relay_cli("client", "create", name, "--data", running.relay.data)
    form = {"grant_type": "client_credentials"}
    pair = (made["client_id"], made["client_secret"])
    url = f"{running.url}/v2/oauth2/token"
    token = requests.post(url, data=form, auth=pair, timeout=BOUND_S).json()["access_token"]
    return Api(running.url, token)


REFUSED = (403, "AUTHENTICATION_POLICY_NOT_MET")


def test_domains(running: Any) -> None:
    wanted = policy(running, "--allow-domain", "example.org")
    endpoint = running.admin.endpoint(authentication_policy=wanted)["endpoint_id"]
    assert submits(running.alice, endpoint) == (200, "")
    assert submits(running.bob, endpoint) == REFUSED


def test_the_provider(running: Any) -> None:
    (identity,) = running.bob.ok("GET", "/v3/whoami")["identity_set"]
    ours = policy(running, "--provider", identity["identity_provider"])
    other = policy(running, "--provider", "00000000-0000-4000-8000-000000000000")
    for wanted, answer in ((ours, (200, "")), (other, REFUSED)):
        endpoint = running.admin.endpoint(authentication_policy=wanted)["endpoint_id"]
        assert submits(running.bob, endpoint) == answer


def test_the_age_of_a_session(running: Any) -> None:
    wanted = policy(running, "--session-s", 3600)
    endpoint = running.admin.endpoint(authentication_policy=wanted)["endpoint_id"]
    assert submits(running.bob, endpoint) == REFUSED, "a token that no sign-in led to"
    robot = signed_in(running, "robot")
    assert submits(robot, endpoint) == (200, "")
    robot.session.close()


def test_policies_at_the_command_line(running: Any) -> None:
    data = running.relay.data
    made = policy(running, "--exclude-domain", "*.Evil.example")
    (shown,) = [
        each
        for each in relay_cli("policy", "list", "--data", data)["policies"]
        if each["id"] == made
    ]
    assert shown["excluded_domains"] == ["*.evil.example"]
    assert relay_cli("policy", "remove", made, "--data", data) == {"removed": True}
    again = run_cli("policy", "remove", made, "--data", data)
    assert again.returncode == 1
    assert f"There is no policy {made}" in again.stderr
    for options in ((), ("--allow-domain", "a,b"), ("--allow-domain", "*")):
        assert run_cli("policy", "add", "p", "--data", data, *options).returncode == 1
    # Not the id of anything, so that nobody could ever meet it.
    refused = run_cli("policy", "add", "p", "--data", data, "--provider", "university")
    assert refused.returncode == 2
    assert "not a valid UUID" in refused.stderr


def test_high_assurance_needs_a_session_age_and_functions_of_its_own(running: Any) -> None:
    body = {"endpoint_name": "x", "multi_user": True, "high_assurance": True}
    ageless = policy(running, "--allow-domain", "example.org")
    for more in ({}, {"authentication_policy": ageless}):
        response = running.admin("POST", "/v3/endpoints", json={**body, **more})
        assert response.status_code == 422
        assert "session age" in response.json()["message"]
    aged = policy(running, "--session-s", 3600)
    made = running.admin.endpoint(high_assurance=True, authentication_policy=aged)
    endpoint = made["endpoint_id"]
    robot = signed_in(running, "assured")
    assert submits(robot, endpoint) == (403, "FUNCTION_NOT_PERMITTED")
    pinned = robot.function(ha_endpoint_id=endpoint)
    assert len(robot.submit(endpoint, pinned, ["x"])["tasks"][pinned]) == 1
    robot.session.close()


def test_a_policy_that_does_not_exist(running: Any) -> None:
    made = policy(running, "--session-s", 60)
    relay_cli("policy", "remove", made, "--data", running.relay.data)
    body = {"endpoint_name": "x", "authentication_policy": made}
    assert running.alice("POST", "/v3/endpoints", json=body).status_code == 422
