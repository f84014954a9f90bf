"""A relay with OIDC issuers: bearer tokens, signing in on the page, groups, and what is refused."""

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from identity_relay import holder, relay_with, toml
from relay_driver import BOUND_S, FakeManager, FakeSdk, RelayProcess, kept, relay_cli, run_cli
from test_relay_login import Browser, ask, begin, oauth
from test_relay_policies import REFUSED, policy, submits
from testbed.issuer import Issuer, Key, KeysDownIssuer

from mep.link import LinkRefused


class Two:
    """A relay with two issuers, and a third that is down."""

    def __init__(self, running: Any, university: Issuer, lab: Issuer, away: Issuer) -> None:
        self.running, self.university, self.lab, self.away = running, university, lab, away


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    university, lab, away = Issuer(), Issuer("ES256"), KeysDownIssuer()
    tables = {
        "oidc.university": {
            "issuer": university.url,
            "title": "Example <University>",
            "domains": ["example.org"],
            "audience": Issuer.AUDIENCE,
            "client_id": Issuer.CLIENT,
            "groups_claim": "groups",
        },
        "oidc.lab": {
            "issuer": lab.url,
            "domains": ["lab.example"],
            "audience": Issuer.AUDIENCE,
            "groups_claim": "groups",
        },
        "oidc.away": {
            "issuer": away.url,
            "domains": ["away.example"],
            "audience": Issuer.AUDIENCE,
        },
    }
    data = tmp_path_factory.mktemp("relay") / "data"
    with relay_with(data, tables, {"oidc.university": Issuer.SECRET}) as running:
        yield Two(running, university, lab, away)
    for issuer in (university, lab, away):
        issuer.close()


@pytest.fixture
def browser(two: Two) -> Iterator[Browser]:
    made = Browser(two.running.url)
    yield made
    made.session.close()


def test_an_issuer_that_is_down_is_no_refusal_and_others_go_on(two: Two) -> None:
    with holder(two.running.url, two.away.token(preferred_username="early")) as early:
        response = early("GET", "/v3/whoami")
        assert response.status_code == 503
        assert response.json()["code"] == "IDENTITY_PROVIDER_UNAVAILABLE"
        assert int(response.headers["Retry-After"]) > 0
    assert status(two, two.university.token()) == 200


def status(two: Two, token: str) -> int:
    with holder(two.running.url, token) as api:
        return api("GET", "/v3/whoami").status_code


def test_an_access_token_is_a_bearer_token_here(two: Two) -> None:
    with holder(two.running.url, two.university.token(groups=["hpc"])) as carol:
        me = carol.ok("GET", "/v3/whoami")
        (record,) = me["identity_set"]
        assert record["username"] == me["preferred_username"] == "carol@example.org"
        assert record["identity_provider_display_name"] == "Example <University>"
        assert me["sub"] == record["id"]
        assert not me["is_admin"]
        (group,) = carol.ok("GET", "/v3/groups")
        assert me["groups"] == [group["id"]]
        assert group["name"] == "hpc"
        assert carol.ok("GET", f"/v3/groups/{group['id']}") == group | {"members": []}
        # What people of a provider are is not theirs to change here.
        for method, path in (
            ("DELETE", f"/v3/groups/{group['id']}"),
            ("POST", f"/v3/groups/{group['id']}/members"),
        ):
            assert carol(method, path, json={"user": "bob"}).status_code == 404
        assert two.running.alice("GET", f"/v3/groups/{group['id']}").status_code == 404


def test_the_grant_holds_the_identity_as_the_issuer_tells_it(two: Two) -> None:
    registered = two.running.admin.endpoint()
    token = two.university.token(sub="granted", preferred_username="grant@example.org")

    async def main() -> Any:
        manager = FakeManager(two.running.url, registered)
        async with kept(manager.link):
            return json.loads((await manager.next_start()).grant)

    with holder(two.running.url, token) as api:
        api.submit(registered["endpoint_id"], api.function(), ["x"])
        (told,) = api.ok("GET", "/v3/whoami")["identity_set"]
    grant = asyncio.run(main())
    assert grant["identities"] == [told]
    assert told["status"] == "used"
    assert told["sub"] == "granted"


def test_groups_of_a_provider_share_functions_and_show_endpoints(two: Two) -> None:
    url, uni = two.running.url, two.university
    one = uni.token(sub="g1", preferred_username="g1", groups=["physics", "staff"])
    two_ = uni.token(sub="g2", preferred_username="g2", groups=["physics"])
    other = uni.token(sub="g3", preferred_username="g3", groups=["Physics"])
    elsewhere = two.lab.token(preferred_username="g4", groups=["physics"])
    with (
        holder(url, one) as owner,
        holder(url, two_) as member,
        holder(url, other) as stranger,
        holder(url, elsewhere) as same_name,
    ):
        physics = next(
            each["id"] for each in owner.ok("GET", "/v3/groups") if each["name"] == "physics"
        )
        function = owner.function(group=physics)
        listed = two.running.admin.endpoint(visible_to=[physics])["endpoint_id"]
        path = f"/v2/functions/{function}"
        seen = [api("GET", path).status_code for api in (owner, member, stranger, same_name)]
        assert seen == [200, 200, 403, 403]
        path = f"/v2/endpoints/{listed}"
        seen = [api("GET", path).status_code for api in (owner, member, stranger, same_name)]
        assert seen == [200, 200, 403, 403]
        body = {"function_name": "f", "function_code": "x", "group": physics}
        assert same_name("POST", "/v3/functions", json=body).status_code == 404
    # Out of the group at the provider, out of it here: the next token says so.
    left = uni.token(sub="g2", preferred_username="g2", groups=[])
    with holder(url, left) as member:
        assert member("GET", f"/v2/functions/{function}").status_code == 403


def test_nobody_gets_a_relay_group_by_claiming_its_id(two: Two) -> None:
    alice = two.running.alice
    group = alice.ok("POST", "/v3/groups", json={"name": "mine"})["id"]
    function = alice.function(group=group)
    token = two.university.token(sub="thief", preferred_username="thief", groups=[group, "mine"])
    with holder(two.running.url, token) as thief:
        assert thief("GET", f"/v2/functions/{function}").status_code == 403
        assert thief("GET", f"/v3/groups/{group}").status_code == 404
        assert group not in thief.ok("GET", "/v3/whoami")["groups"]


def test_an_email_or_a_domain_alone_makes_nobody_somebody(two: Two) -> None:
    """Each provider speaks for its own people: the same words of another are another person."""
    good = two.university.token()
    with holder(two.running.url, good) as carol:
        me = carol.ok("GET", "/v3/whoami")["sub"]
        function = carol.function()
    forged = two.lab.token(email="carol@example.org", preferred_username="carol@example.org")
    assert status(two, forged) == 401
    same = two.lab.token(preferred_username="carol", email="carol@example.org")
    with holder(two.running.url, same) as other:
        assert other.ok("GET", "/v3/whoami")["preferred_username"] == "carol@lab.example"
        assert other.ok("GET", "/v3/whoami")["sub"] != me
        assert other("GET", f"/v2/functions/{function}").status_code == 403
        # A policy by domain and provider is about one identity.
        pinned = policy(
            two.running, "--allow-domain", "example.org", "--provider", provider(two, good)
        )
        endpoint = two.running.admin.endpoint(authentication_policy=pinned)["endpoint_id"]
        assert submits(other, endpoint) == REFUSED
    # The relay's own alice@example.org was there before: her name is not the university's.
    taken = two.university.token(sub="new", preferred_username="alice@example.org")
    assert status(two, taken) == 401
    with holder(two.running.url, good) as carol:
        assert submits(carol, endpoint) == (200, "")


def provider(two: Two, token: str) -> str:
    with holder(two.running.url, token) as api:
        (record,) = api.ok("GET", "/v3/whoami")["identity_set"]
        return str(record["identity_provider"])


def test_tokens_that_are_none(two: Two) -> None:
    uni = two.university
    before = uni.asked["/jwks"]
    deep = base64.urlsafe_b64encode(b"[" * 9000).decode().rstrip("=")
    bad = [
        uni.token(aud="another"),
        uni.token(iss="https://accounts.example.org"),
        uni.token(exp=1),
        uni.token(Key("made-up")),
        f"{deep}.{deep}.x",
        "opaque",
        "a.b.c",
        "x" * 20000,
        "ключ.b.c".encode().decode("latin-1"),
    ]
    for token in bad:
        assert status(two, token) == 401, token[:50]
    assert uni.asked["/jwks"] <= before + 1


def test_a_revoked_access_token_is_refused_at_once_by_requests_and_streams(two: Two) -> None:
    token = two.university.token(sub="leaver", preferred_username="leaver")
    assert status(two, token) == 200

    async def stream() -> LinkRefused:
        sdk = FakeSdk(two.running.url, token, ())
        async with kept(sdk.link) as task:
            async with asyncio.timeout(BOUND_S):
                while not sdk.link.up:
                    await asyncio.sleep(0.01)
                done = await asyncio.to_thread(oauth, two.running, "token/revoke", token=token)
                assert done.json() == {"active": False}
                with pytest.raises(LinkRefused) as refused:
                    await asyncio.shield(task)
        return refused.value

    assert asyncio.run(stream()).status == 401
    assert status(two, token) == 401
    again = two.university.token(sub="leaver", preferred_username="leaver", jti="2")
    assert status(two, again) == 200, "a new token is another one"


def rewritten(token: str) -> str:
    """The same token with another signature that holds as well: of (r, s), it is (r, n - s)."""
    signed, _, text = token.rpartition(".")
    raw = base64.urlsafe_b64decode(text + "==")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    other = order - int.from_bytes(raw[32:], "big")
    text = base64.urlsafe_b64encode(raw[:32] + other.to_bytes(32, "big")).rstrip(b"=").decode()
    return f"{signed}.{text}"


def test_a_revoked_token_is_not_revived_by_rewriting_its_signature(two: Two) -> None:
    token = two.lab.token(sub="thief", preferred_username="thief")
    assert [status(two, each) for each in (token, rewritten(token))] == [200, 200]
    oauth(two.running, "token/revoke", token=token)
    assert [status(two, each) for each in (token, rewritten(token))] == [401, 401]


def sign_in(two: Two, browser: Browser, user_code: str = "") -> requests.Response:
    page = browser.get(f"/login?user_code={user_code}").text
    assert "Sign in with Example &lt;University&gt;" in page
    assert "/login/lab" not in page
    return browser.get(f"/login/university?user_code={user_code}")


def test_a_terminal_logs_in_by_the_issuer(two: Two, browser: Browser) -> None:
    two.university.claims |= {"sub": "dan", "preferred_username": "dan"}
    two.university.told_later = {"groups": ["hpc"]}
    begun = begin(two.running)
    headers = {"Host": "elsewhere.example.org"}
    where = f"{two.running.url}/v2/oauth2/device_authorization"
    other = requests.post(where, {"client_id": "mep"}, headers=headers, timeout=BOUND_S).json()
    assert other["verification_uri"] == f"{two.running.url}/device"
    page = sign_in(two, browser, begun["user_code"])
    assert page.url.startswith(f"{two.running.url}/device?user_code=")
    assert "dan@example.org" in page.text
    done = browser.post("/device", page.text, user_code=begun["user_code"], answer="approve")
    assert "Approved" in done.text
    tokens = ask(two.running, begun).json()
    with holder(two.running.url, tokens["access_token"]) as dan:
        me = dan.ok("GET", "/v3/whoami")
        assert me["preferred_username"] == "dan@example.org"
        assert [each["name"] for each in dan.ok("GET", "/v3/groups")] == ["hpc"]
        recent = policy(two.running, "--session-s", 3600)
        endpoint = two.running.admin.endpoint(authentication_policy=recent)["endpoint_id"]
        assert submits(dan, endpoint) == (200, "")
    # The same person by the issuer's own token is the same user.
    with holder(two.running.url, two.university.token()) as same:
        assert same.ok("GET", "/v3/whoami")["sub"] == me["sub"]
    renewed = oauth(
        two.running, "token", grant_type="refresh_token", refresh_token=tokens["refresh_token"]
    )
    assert status(two, renewed.json()["access_token"]) == 200
    two.university.told_later = {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"nonce": "another"},
        {"aud": "another-client"},
        {"aud": ["relay-web", "other"], "azp": "other"},
        {"iss": "https://accounts.example.org"},
        {"exp": 1},
        {"sub": None},
        {"auth_time": 1},
    ],
    ids=str,
)
def test_an_id_token_that_is_wrong_signs_nobody_in(
    two: Two, browser: Browser, wrong: dict[str, Any]
) -> None:
    two.university.id_token = wrong
    page = browser.get("/login/university")
    two.university.id_token = {}
    assert page.status_code == 401
    assert "mep_session" not in browser.session.cookies


def location(browser: Browser, path: str) -> str:
    response = browser.session.get(browser.url + path, allow_redirects=False, timeout=BOUND_S)
    assert response.status_code == 303, response.text
    return str(response.headers["Location"])


def test_the_way_back_is_for_the_browser_that_left(two: Two, browser: Browser) -> None:
    there = location(browser, "/login/university")
    back = requests.get(there, allow_redirects=False, timeout=BOUND_S).headers["Location"]
    path = back.removeprefix(two.running.url)
    stranger = Browser(two.running.url)
    assert stranger.get(path).status_code == 403
    stranger.get("/login")  # with a cookie of its own
    assert stranger.get(path).status_code == 403
    assert "mep_session" not in stranger.session.cookies
    stranger.session.close()
    for changed in (
        path.replace("/university/", "/lab/"),
        path.replace("state=university", "state=lab"),
        path.replace("iss=http", "iss=https"),
        path.split("state=")[0] + "state=x",
        path.split("?")[0],
    ):
        assert browser.get(changed).status_code in (403, 404), changed
    assert browser.get(path).url == f"{two.running.url}/device"
    # A code is good for once.
    browser.session.cookies.pop("mep_session")
    assert browser.get(path).status_code == 401


def test_whoever_says_no_at_the_issuer_is_not_signed_in(two: Two, browser: Browser) -> None:
    there = location(browser, "/login/university")
    state = dict(each.split("=", 1) for each in there.split("?")[1].split("&"))["state"]
    page = browser.get(f"/login/university/callback?error=access_denied&state={state}")
    assert page.status_code == 401
    assert "did not sign you in" in page.text


def test_an_operator_makes_administrators_and_frees_names(two: Two) -> None:
    data, uni = two.running.relay.data, two.university
    token = uni.token(sub="olga", preferred_username="olga")
    assert status(two, token) == 200
    assert relay_cli("user", "admin", "olga@example.org", "--data", data)["is_admin"]
    with holder(two.running.url, oauth_free(two, "olga@example.org")) as olga:
        assert olga.ok("GET", "/v3/whoami")["is_admin"]
    done = run_cli("user", "password", "olga@example.org", "--data", data, stdin="x" * 12 + "\n")
    assert done.returncode == 1
    assert "identity provider" in done.stderr
    successor = uni.token(sub="olga-2", preferred_username="olga")
    assert status(two, successor) == 401
    relay_cli("user", "rename", "olga@example.org", "olga.old@example.org", "--data", data)
    with holder(two.running.url, successor) as other:
        assert other.ok("GET", "/v3/whoami")["is_admin"] is False


def oauth_free(two: Two, username: str) -> str:
    """A token that the operator makes."""
    made = relay_cli("token", "create", username, "--data", two.running.relay.data)
    return str(made["token"])


def test_operators_see_who_vouches_for_whom(two: Two) -> None:
    data = two.running.relay.data
    token = two.university.token(sub="seen", preferred_username="seen")
    vouches = provider(two, token)
    told = relay_cli("provider", "list", "--data", data)["providers"]
    assert [each["table"] for each in told] == [None, "oidc.university", "oidc.lab", "oidc.away"]
    assert told[0]["domains"] == ["relay.local"]
    assert told[1] | {"title": ""} == {
        "id": vouches,
        "table": "oidc.university",
        "title": "",
        "domains": ["example.org"],
    }
    users = {each["username"]: each for each in relay_cli("user", "list", "--data", data)["users"]}
    assert users["seen@example.org"]["provider"] == vouches
    assert users["bob@relay.local"]["provider"] is None
    assert users["admin@relay.local"]["is_admin"]


def test_a_provider_that_was_taken_out_vouches_for_nobody(two: Two) -> None:
    """Last: it changes the relay's settings and starts it anew."""
    token = two.university.token(sub="last", preferred_username="last")
    assert status(two, token) == 200
    made = oauth_free(two, "last@example.org")
    assert status(two, made) == 200
    relay = two.running.relay
    assert relay.stop() == 0
    (relay.data / "relay.toml").write_text(toml({"identity": {"url": relay.url}}))
    again = RelayProcess(relay.data, port=relay.port)
    try:
        for each in (token, made):
            with holder(again.url, each) as api:
                assert api("GET", "/v3/whoami").status_code == 401
        assert two.running.alice.ok("GET", "/v3/whoami")["preferred_username"]
    finally:
        again.stop()
