"""A relay that takes tokens of Globus Auth."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from identity_relay import holder, relay_with
from relay_driver import FakeManager, kept, relay_cli
from test_relay_login import Browser, ask, begin, oauth
from test_relay_policies import REFUSED, policy, submits
from testbed.globus_auth import GLOBUS_ID, UNIVERSITY, GlobusAuth, identity

INTROSPECT = "/v2/oauth2/token/introspect"


@pytest.fixture(scope="module")
def auth() -> Iterator[GlobusAuth]:
    made = GlobusAuth()
    yield made
    made.close()


@pytest.fixture(scope="module")
def globus(auth: GlobusAuth, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    data = tmp_path_factory.mktemp("relay") / "data"
    tables = {"globus": {"client_id": auth.CLIENT, "url": auth.url, "sign_in": True}}
    with relay_with(data, tables, {"globus": auth.SECRET}) as running:
        yield running


def status(running: Any, token: str) -> int:
    with holder(running.url, token) as api:
        return api("GET", "/v3/whoami").status_code


def test_the_grant_holds_the_whole_identity_set(globus: Any, auth: GlobusAuth) -> None:
    ann, linked = identity("ann", GLOBUS_ID), identity("ann")
    token = auth.token(ann, linked)
    registered = globus.admin.endpoint(visible_to=[linked["sub"]])
    with holder(globus.url, token) as api:
        api.submit(registered["endpoint_id"], api.function(), ["x"])
        me = api.ok("GET", "/v3/whoami")
        assert me["sub"] == ann["sub"]
        # A list may name any identity of hers.
        assert api("GET", f"/v2/endpoints/{registered['endpoint_id']}").status_code == 200
        told = api.ok("GET", "/v2/oauth2/userinfo")
        assert told["preferred_username"] == "ann@globusid.org"
        assert [each["sub"] for each in told["identity_set"]] == [ann["sub"], linked["sub"]]
        found = api.ok("GET", f"/v2/api/identities?ids={linked['sub']}")["identities"]
        assert [each["username"] for each in found] == ["ann@example.edu"]

    async def main() -> Any:
        manager = FakeManager(globus.url, registered)
        async with kept(manager.link):
            return json.loads((await manager.next_start()).grant)

    grant = asyncio.run(main())
    assert grant["identities"] == me["identity_set"]
    assert [each["id"] for each in grant["identities"]] == [ann["sub"], linked["sub"]]
    assert {each["status"] for each in grant["identities"]} == {"used"}


def test_one_introspection_serves_many_requests(globus: Any, auth: GlobusAuth) -> None:
    token = auth.token(identity("busy"))
    before = auth.asked[INTROSPECT]
    assert [status(globus, token) for _ in range(5)] == [200] * 5
    assert auth.asked[INTROSPECT] == before + 1
    # Refusals are asked anew: a token may become good.
    assert [status(globus, "Agxyz") for _ in range(2)] == [401] * 2


def test_a_revocation_is_felt_at_once(globus: Any, auth: GlobusAuth) -> None:
    token, other = auth.token(identity("rev")), auth.token(identity("oth"))
    assert [status(globus, each) for each in (token, other)] == [200, 200]
    # At Globus Auth, and the relay is told by somebody else's revocation.
    del auth.tokens[token]
    assert oauth(globus, "token/revoke", token=other).json() == {"active": False}
    assert status(globus, token) == 401
    # At the relay: though Globus Auth goes on believing it.
    assert other in auth.tokens
    assert status(globus, other) == 401


def test_globus_auth_is_down(globus: Any, auth: GlobusAuth) -> None:
    known, new = auth.token(identity("known")), auth.token(identity("new"))
    assert status(globus, known) == 200
    auth.down = True
    assert status(globus, known) == 200
    assert status(globus, new) == 503
    auth.down = False
    assert status(globus, new) == 200


def test_nobody_is_somebody_else_by_linking(globus: Any, auth: GlobusAuth) -> None:
    alice = globus.alice.ok("GET", "/v3/whoami")
    forged = identity("mallory") | {"sub": alice["sub"]}
    assert status(globus, auth.token(identity("mallory"), forged)) == 401
    group = globus.alice.ok("POST", "/v3/groups", json={"name": "g"})["id"]
    assert status(globus, auth.token(identity("mallory"), forged | {"sub": group})) == 401
    named = identity("mallory") | {"username": alice["preferred_username"]}
    assert status(globus, auth.token(named)) == 401
    # Sites map by the names of linked identities too.
    other = identity("alias") | {"username": alice["preferred_username"].upper()}
    assert status(globus, auth.token(identity("mallory"), other)) == 401
    assert status(globus, auth.token(identity("mallory"))) == 200
    assert status(globus, auth.token(identity("alias"))) == 200
    assert status(globus, auth.token(identity("mallory"), identity("alias"))) == 200


def test_flows_name_linked_identities(globus: Any, auth: GlobusAuth) -> None:
    body = {"endpoint": globus.admin.endpoint()["endpoint_id"], "function": globus.alice.function()}
    watched, other = identity("flo", GLOBUS_ID), identity("flo")
    request = {
        "request_id": "linked",
        "body": body,
        "monitor_by": [f"urn:globus:auth:identity:{other['sub']}"],
    }
    made = globus.alice("POST", "/actions/run", json=request).json()["action_id"]
    for who, expected in ((auth.token(watched, other), 200), (auth.token(watched), 404)):
        with holder(globus.url, who) as api:
            assert api("GET", f"/actions/{made}/status").status_code == expected
            assert api("POST", f"/actions/{made}/cancel").status_code == 404


def test_policies_look_at_linked_identities(globus: Any, auth: GlobusAuth) -> None:
    def endpoint(*options: object) -> str:
        made = policy(globus, *options)
        return str(globus.admin.endpoint(authentication_policy=made)["endpoint_id"])

    home = endpoint("--allow-domain", "example.edu", "--provider", UNIVERSITY)
    recent = endpoint("--provider", UNIVERSITY, "--session-s", 600)
    both = auth.token(identity("pol", GLOBUS_ID), identity("pol"))
    one = auth.token(identity("lone", GLOBUS_ID))
    with holder(globus.url, both) as linked, holder(globus.url, one) as lone:
        assert submits(linked, home) == (200, "")
        assert submits(lone, home) == REFUSED
        # The session proved the other identity.
        assert submits(linked, recent) == REFUSED
    fresh = auth.token(identity("fresh"))
    with holder(globus.url, fresh) as person:
        assert submits(person, recent) == (200, "")


def test_a_terminal_logs_in_by_globus(globus: Any, auth: GlobusAuth) -> None:
    auth.person = identity("terminal")
    browser, begun = Browser(globus.url), begin(globus)
    assert "Sign in with Globus Auth" in browser.get("/login").text
    page = browser.get(f"/login/globus?user_code={begun['user_code']}")
    assert "terminal@example.edu" in page.text
    browser.post("/device", page.text, user_code=begun["user_code"], answer="approve")
    with holder(globus.url, ask(globus, begun).json()["access_token"]) as person:
        assert person.ok("GET", "/v3/whoami")["sub"] == auth.person["sub"]
    browser.session.cookies.clear()
    assert browser.get("/login/globus/callback?code=x&state=y").status_code == 403
    browser.session.close()


def test_an_administrator_by_globus(globus: Any, auth: GlobusAuth) -> None:
    token = auth.token(identity("boss"))
    assert status(globus, token) == 200
    relay_cli("user", "admin", "boss@example.edu", "--data", globus.relay.data)
    again = auth.token(identity("boss"))
    with holder(globus.url, again) as boss:
        assert boss.endpoint()["endpoint_id"]


def test_no_token_and_no_secret_is_in_the_log(globus: Any, auth: GlobusAuth) -> None:
    token = auth.token(identity("quiet"))
    assert status(globus, token) == 200
    log = globus.relay.log.read_text()
    for secret in (token, *auth.tokens, f"{auth.CLIENT}:{auth.SECRET}"):
        assert secret not in log


def test_a_sign_in_proves_the_identity_that_was_used(globus: Any, auth: GlobusAuth) -> None:
    """The account's first identity speaks, though it may be another one that signed in."""
    auth.person, used = identity("first"), identity("first", GLOBUS_ID)
    auth.linked = (used,)
    proofs = {used["sub"]: {"auth_time": int(time.time())}}
    auth.claims = {"session_info": {"session_id": "s", "authentications": proofs}}
    browser, begun = Browser(globus.url), begin(globus)
    page = browser.get(f"/login/globus?user_code={begun['user_code']}")
    browser.post("/device", page.text, user_code=begun["user_code"], answer="approve")
    tokens = ask(globus, begun).json()
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    renewed = oauth(globus, "token", **form).json()
    for token in (tokens["access_token"], renewed["access_token"]):
        with holder(globus.url, token) as person:
            assert person.ok("GET", "/v3/whoami")["sub"] == auth.person["sub"]
            for provider, answer in ((UNIVERSITY, REFUSED), (GLOBUS_ID, (200, ""))):
                made = policy(globus, "--provider", provider, "--session-s", 600)
                endpoint = globus.admin.endpoint(authentication_policy=made)["endpoint_id"]
                assert submits(person, endpoint) == answer
    auth.linked, auth.claims = (), {}
    browser.session.close()
