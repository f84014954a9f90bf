"""Logging in a terminal: device codes, the page, refresh tokens, revocation."""

import asyncio
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
import requests
from relay_driver import BOUND_S, Api, FakeSdk, RelayProcess, kept, relay_cli, run_cli

from mep.link import LinkRefused

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
PASSWORD = "correct horse battery"


class Browser:
    """What a browser does with the pages, no more."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()

    def get(self, path: str) -> requests.Response:
        return self.session.get(self.url + path, timeout=BOUND_S)

    def post(self, path: str, page: str, **fields: Any) -> requests.Response:
        """Send the form of `page`, with its hidden fields."""
        hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page))
        headers = {"Origin": self.url, "Sec-Fetch-Site": "same-origin"}
        return self.session.post(
            self.url + path, data={**hidden, **fields}, headers=headers, timeout=BOUND_S
        )

    def sign_in(self, name: str, path: str = "/login") -> requests.Response:
        page = self.get(path).text
        return self.post("/login", page, username=name, password=PASSWORD)


@pytest.fixture
def browser(running: Any) -> Iterator[Browser]:
    made = Browser(running.url)
    yield made
    made.session.close()


@pytest.fixture(scope="module")
def dora(running: Any) -> str:
    """Somebody with a password; one's own, since tries are counted."""
    relay_cli("user", "add", "dora", "--data", running.relay.data)
    done = run_cli("user", "password", "dora", "--data", running.relay.data, stdin=PASSWORD + "\n")
    assert done.returncode == 0, done.stderr
    return "dora"


def oauth(running: Any, path: str, **form: str) -> requests.Response:
    return requests.post(f"{running.url}/v2/oauth2/{path}", data=form, timeout=BOUND_S)


def begin(running: Any) -> dict[str, Any]:
    made: dict[str, Any] = oauth(running, "device_authorization", client_id="mep").json()
    return made


def ask(running: Any, begun: dict[str, Any], client_id: str = "mep") -> requests.Response:
    code = begun["device_code"]
    return oauth(running, "token", grant_type=GRANT, device_code=code, client_id=client_id)


def log_in(running: Any, browser: Browser, name: str) -> dict[str, Any]:
    begun = begin(running)
    browser.sign_in(name)
    page = browser.get(f"/device?user_code={begun['user_code']}").text
    assert (
        "Approved"
        in browser.post("/device", page, user_code=begun["user_code"], answer="approve").text
    )
    answer = ask(running, begun)
    assert answer.status_code == 200, answer.text
    tokens: dict[str, Any] = answer.json()
    return tokens


def who(running: Any, token: str) -> int | str:
    api = Api(running.url, token)
    response = api("GET", "/v3/whoami")
    api.session.close()
    return response.json()["preferred_username"] if response.ok else response.status_code


def test_a_terminal_logs_in(running: Any, browser: Browser, dora: str) -> None:
    begun = begin(running)
    assert begun["verification_uri"] == f"{running.url}/device"
    assert ask(running, begun).json()["error"] == "authorization_pending"
    # Not signed in: the page asks for it, and brings one back to the code.
    page = browser.get(begun["verification_uri_complete"].removeprefix(running.url))
    assert page.url.startswith(f"{running.url}/login?user_code=")
    asked = browser.post("/login", page.text, username=dora, password=PASSWORD)
    assert "dora@relay.local" in asked.text
    assert begun["user_code"] in asked.text
    done = browser.post("/device", asked.text, user_code=begun["user_code"], answer="approve")
    assert "Approved" in done.text
    tokens = ask(running, begun).json()
    assert tokens["resource_server"] == "funcx_service"
    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] > 0
    assert who(running, tokens["access_token"]) == "dora@relay.local"
    assert who(running, tokens["refresh_token"]) == 401, "a refresh token opens nothing"
    # A code is good for one login, and cannot be approved again.
    assert ask(running, begun).json()["error"] == "invalid_grant"
    again = browser.post("/device", asked.text, user_code=begun["user_code"], answer="approve")
    assert again.status_code == 400


def test_a_login_is_refused(running: Any, browser: Browser, dora: str) -> None:
    begun = begin(running)
    page = browser.sign_in(dora).text
    said = browser.post("/device", page, user_code=begun["user_code"].lower(), answer="refuse")
    assert "Refused" in said.text
    assert ask(running, begun).json()["error"] == "access_denied"


def test_who_asks_too_often_waits_longer(running: Any) -> None:
    begun = begin(running)
    errors = [ask(running, begun).json()["error"] for _ in range(2)]
    assert errors == ["authorization_pending", "slow_down"]
    assert ask(running, begun, "other").json()["error"] == "invalid_grant"


def test_codes_expire(running: Any, browser: Browser, dora: str) -> None:
    begun = begin(running)
    page = browser.sign_in(dora).text
    sql = "UPDATE device_codes SET expires = ?"
    with sqlite3.connect(running.relay.data / "relay.sqlite3", timeout=BOUND_S) as database:
        database.execute(sql, (time.time(),))
    database.close()
    late = browser.post("/device", page, user_code=begun["user_code"], answer="approve")
    assert late.status_code == 400
    assert ask(running, begun).json()["error"] == "expired_token"


def test_refresh(running: Any, browser: Browser, dora: str) -> None:
    first = log_in(running, browser, dora)

    def refresh(token: str) -> requests.Response:
        return oauth(running, "token", grant_type="refresh_token", refresh_token=token)

    second = refresh(first["refresh_token"]).json()
    assert who(running, second["access_token"]) == "dora@relay.local"
    assert second["refresh_token"] != first["refresh_token"]
    # At once again: the answer may have been lost.
    assert refresh(first["refresh_token"]).status_code == 200
    # Much later: it was stolen, and the whole login ends.
    sql = "UPDATE tokens SET used = used - 3600 WHERE used IS NOT NULL"
    with sqlite3.connect(running.relay.data / "relay.sqlite3", timeout=BOUND_S) as database:
        database.execute(sql)
    database.close()
    assert refresh(first["refresh_token"]).json()["error"] == "invalid_grant"
    assert refresh(second["refresh_token"]).json()["error"] == "invalid_grant"
    assert who(running, second["access_token"]) == 401, "it was remembered"
    for nonsense in ("", "x", second["access_token"]):
        assert refresh(nonsense).json()["error"] == "invalid_grant"


def test_revocation_is_felt_at_once_by_requests_and_streams(
    running: Any, browser: Browser, dora: str
) -> None:
    tokens = log_in(running, browser, dora)
    access = tokens["access_token"]
    assert who(running, access) == "dora@relay.local"  # remembered from now on

    async def stream() -> LinkRefused:
        sdk = FakeSdk(running.url, access, ())
        async with kept(sdk.link) as task:
            async with asyncio.timeout(BOUND_S):
                while not sdk.link.up:
                    await asyncio.sleep(0.01)
                answer = await asyncio.to_thread(
                    oauth, running, "token/revoke", token=tokens["refresh_token"]
                )
                assert answer.status_code == 200
                with pytest.raises(LinkRefused) as refused:
                    await asyncio.shield(task)
        return refused.value

    refused = asyncio.run(stream())
    assert refused.status == 401
    assert who(running, access) == 401
    refresh = tokens["refresh_token"]
    answer = oauth(running, "token", grant_type="refresh_token", refresh_token=refresh)
    assert answer.json()["error"] == "invalid_grant"
    # Nobody learns whether there was such a token.
    assert oauth(running, "token/revoke", token="x").json() == {"active": False}


def test_an_operator_ends_whatever_speaks_for_somebody(running: Any, browser: Browser) -> None:
    data = running.relay.data
    relay_cli("user", "add", "lea", "--data", data)

    def set_password() -> None:
        done = run_cli("user", "password", "lea", "--data", data, stdin=PASSWORD + "\n")
        assert done.returncode == 0, done.stderr

    set_password()
    alone = relay_cli("token", "create", "lea", "--data", data)["token"]
    tokens = log_in(running, browser, "lea")
    begun = begin(running)
    page = browser.get("/device").text
    assert "lea@relay.local" in page
    browser.post("/device", page, user_code=begun["user_code"], answer="approve")
    assert relay_cli("user", "revoke", "lea", "--data", data)["username"] == "lea@relay.local"
    refresh = tokens["refresh_token"]
    renewed = oauth(running, "token", grant_type="refresh_token", refresh_token=refresh)
    assert renewed.json()["error"] == "invalid_grant"
    assert ask(running, begun).json()["error"] == "invalid_grant"
    assert [who(running, token) for token in (alone, tokens["access_token"])] == [401, 401]
    assert "Sign in" in browser.get("/device").text
    assert browser.sign_in("lea").status_code == 401
    set_password()
    assert who(running, log_in(running, browser, "lea")["access_token"]) == "lea@relay.local"


def test_a_link_credential_is_no_person_s_to_revoke(running: Any) -> None:
    registered = running.admin.endpoint()
    oauth(running, "token/revoke", token=registered["link_token"])
    with sqlite3.connect(running.relay.data / "relay.sqlite3", timeout=BOUND_S) as database:
        query = "SELECT count(*) FROM tokens WHERE endpoint_id = ?"
        (count,) = database.execute(query, (registered["endpoint_id"],)).fetchone()
    database.close()
    assert count == 1


def test_forms_from_elsewhere_are_refused(running: Any, browser: Browser, dora: str) -> None:
    begun = begin(running)
    page = browser.sign_in(dora).text
    guard = re.search(r'name="guard" value="(\w+)"', page)
    assert guard
    good = {"guard": guard[1], "user_code": begun["user_code"], "answer": "approve"}
    url = running.url + "/device"
    for form, headers in (
        ({**good, "guard": "0" * 64}, {}),
        ({**good, "guard": ""}, {}),
        (good, {"Origin": "https://evil.example"}),
        (good, {"Origin": "null"}),
        (good, {"Sec-Fetch-Site": "cross-site"}),
    ):
        answer = browser.session.post(url, data=form, headers=headers, timeout=BOUND_S)
        assert answer.status_code == 403
    assert ask(running, begun).json()["error"] == "authorization_pending"


def test_the_page_keeps_to_itself(running: Any, browser: Browser, dora: str) -> None:
    page = browser.get("/login?user_code=%22%3E%3Cscript%3E")
    assert "<script" not in page.text
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["Cache-Control"] == "no-store"
    wrong = browser.post("/login", page.text, username='"><script>', password="x")
    assert wrong.status_code == 401
    assert "<script" not in wrong.text
    browser.sign_in(dora)
    cookies: SimpleCookie = SimpleCookie()
    answer = browser.session.post(
        running.url + "/login",
        data={
            "username": dora,
            "password": PASSWORD,
            "guard": dict(re.findall(r'name="(guard)" value="(\w+)"', browser.get("/login").text))[
                "guard"
            ],
        },
        headers={"X-Forwarded-Proto": "https"},
        allow_redirects=False,
        timeout=BOUND_S,
    )
    cookies.load(answer.headers["Set-Cookie"])
    morsel = cookies["mep_session"]
    assert morsel["httponly"]
    assert morsel["secure"]
    assert morsel["samesite"] == "lax"


def test_signing_out(running: Any, browser: Browser, dora: str) -> None:
    page = browser.sign_in(dora).text
    kept_cookie = browser.session.cookies["mep_session"]
    assert "Signed out" in browser.post("/logout", page).text
    browser.session.cookies.set("mep_session", kept_cookie)
    assert browser.get("/device").url == f"{running.url}/login"


def test_passwords_are_not_guessed(running: Any, browser: Browser) -> None:
    data = running.relay.data
    relay_cli("user", "add", "erik", "--data", data)
    assert run_cli("user", "password", "erik", "--data", data, stdin="short\n").returncode == 1
    run_cli("user", "password", "erik", "--data", data, stdin=PASSWORD + "\n")
    page = browser.get("/login").text
    answers = [
        browser.post("/login", page, username=name, password="wrong").status_code
        for name in ["erik", "erik@relay.local"] * 6
    ]
    assert answers == [401] * 10 + [429] * 2
    right = browser.post("/login", page, username="erik", password=PASSWORD)
    assert right.status_code == 429
    for name in ("alice@example.org", "nobody", ""):  # who has no password
        assert browser.post("/login", page, username=name, password="").status_code == 401


def test_codes_are_not_guessed(running: Any, browser: Browser) -> None:
    data = running.relay.data
    relay_cli("user", "add", "fay", "--data", data)
    run_cli("user", "password", "fay", "--data", data, stdin=PASSWORD + "\n")
    page = browser.sign_in("fay").text
    answers = [
        browser.post("/device", page, user_code="BBBB-BBBB", answer="approve").status_code
        for _ in range(11)
    ]
    assert answers == [400] * 10 + [429]


@pytest.mark.parametrize(
    ("path", "form", "error"),
    [
        ("device_authorization", {}, "invalid_request"),
        ("device_authorization", {"client_id": "x" * 2000}, "invalid_request"),
        ("device_authorization", {"client_id": "x", "scope": "a\nb"}, "invalid_request"),
        ("device_authorization", {"client_id": "x\0"}, "invalid_request"),
        ("device_authorization", {"client_id": "x", "scope": "x" * 2000}, "invalid_scope"),
        ("token", {"grant_type": GRANT}, "invalid_grant"),
        ("token", {"grant_type": "password"}, "unsupported_grant_type"),
        ("token/revoke", {}, "invalid_request"),
    ],
)
def test_what_is_malformed(running: Any, path: str, form: dict[str, str], error: str) -> None:
    answer = oauth(running, path, **form)
    assert answer.status_code == 400
    assert answer.json()["error"] == error


@pytest.mark.parametrize("path", ["device_authorization", "token", "token/revoke"])
def test_a_form_of_nobody_is_bounded(running: Any, path: str) -> None:
    """Where requests may be large, one such form would keep the relay busy for half a minute."""
    answer = oauth(running, path, scope="A" * 100_000)
    assert answer.status_code == 413
    assert answer.json()["error"] == "invalid_request"


def test_a_terminal_is_sent_to_the_address_that_browsers_know(running: Any) -> None:
    """Behind a proxy that ends TLS."""
    answer = requests.post(
        f"{running.url}/v2/oauth2/device_authorization",
        data={"client_id": "mep"},
        headers={"Host": "relay.example.org", "X-Forwarded-Proto": "https"},
        timeout=BOUND_S,
    )
    assert answer.json()["verification_uri"] == "https://relay.example.org/device"


def test_who_begins_too_many_logins_is_told_when_to_try_again(
    own_relay: Callable[[], Any],
) -> None:
    people = own_relay()
    # Nobody who says so is a proxy.
    answers = [begin_for(people, f"192.0.2.{number}") for number in range(31)]
    assert [each.status_code for each in answers] == [200] * 30 + [429]
    assert int(answers[-1].headers["Retry-After"]) == 60


def begin_for(running: Any, address: str) -> requests.Response:
    """As a proxy that says for whom it asks."""
    return requests.post(
        f"{running.url}/v2/oauth2/device_authorization",
        data={"client_id": "mep"},
        headers={"X-Forwarded-For": f"203.0.113.9, {address}", "X-Forwarded-Proto": "https"},
        timeout=BOUND_S,
    )


def test_people_behind_a_known_proxy_are_told_apart(tmp_path: Path) -> None:
    data = tmp_path / "data"
    relay_cli("init", data)
    (data / "relay.toml").write_text('[identity]\nproxies = ["127.0.0.0/8"]\n')
    relay = RelayProcess(data)
    try:
        answers = [begin_for(relay, "192.0.2.1").status_code for _ in range(31)]
        assert answers == [200] * 30 + [429]
        assert begin_for(relay, "192.0.2.2").status_code == 200
    finally:
        assert relay.stop() == 0


def test_two_at_once_get_one_login(running: Any, browser: Browser, dora: str) -> None:
    begun = begin(running)
    page = browser.sign_in(dora).text
    browser.post("/device", page, user_code=begun["user_code"], answer="approve")
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(running, begun).status_code))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND_S)
    assert sorted(answers) == [200, 400, 400, 400]
