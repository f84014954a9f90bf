"""The SDK and ``mep login`` with tokens that expire, against a running relay."""

import errno
import fcntl
import os
import pty
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from mep_sdk import Client, auth, bearer, oauth
from mep_sdk.errors import CredentialsError
from relay_driver import BOUND_S, relay_cli, run_cli
from test_relay_login import PASSWORD, Browser


@pytest.fixture(autouse=True)
def no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("MEP_", *auth.CLIENTS))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture(scope="module")
def browser(running: Any) -> Iterator[Browser]:
    data = running.relay.data
    relay_cli("user", "add", "gil", "--data", data)
    run_cli("user", "password", "gil", "--data", data, stdin=PASSWORD + "\n")
    made = Browser(running.url)
    made.sign_in("gil")
    yield made
    made.session.close()


def approve(browser: Browser, user_code: str) -> None:
    page = browser.get("/device").text
    said = browser.post("/device", page, user_code=user_code, answer="approve")
    assert "Approved" in said.text


@pytest.fixture
def login(running: Any, browser: Browser) -> auth.Credentials:
    """A stored login."""
    begun = oauth.begin(running.url, None)
    approve(browser, begun.user_code)
    found = oauth.wait(begun, running.url, None, sleep=lambda _: None)
    auth.store(found)
    return found


def whoami() -> str:
    client = Client()
    try:
        return str(client.whoami()["preferred_username"])
    finally:
        client.close()


def test_a_login_renews_itself(login: auth.Credentials) -> None:
    assert whoami() == "gil@relay.local"
    assert auth.load() == login
    auth.store(replace(login, expires=time.time()))
    assert whoami() == "gil@relay.local"
    renewed = auth.load()
    assert renewed is not None
    assert renewed.token != login.token
    assert renewed.refresh_token != login.refresh_token
    assert renewed.person == login.person


def test_a_login_that_another_process_renewed(login: auth.Credentials) -> None:
    old = bearer.of(auth.find())
    late = replace(login, token="before that", expires=time.time())
    assert bearer.Bearer(late).token() == login.token, "the stored one is good"
    auth.store(replace(login, token="of another process"))
    assert bearer.Bearer(late).token() == "of another process"
    assert old.token() == login.token


def test_a_home_on_a_file_system_without_locks(
    login: auth.Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", without)
    auth.store(replace(login, expires=time.time()))
    assert whoami() == "gil@relay.local"
    renewed = auth.load()
    assert renewed is not None
    assert renewed.token != login.token


def test_a_home_that_is_full_ends_no_login_of_a_running_program(
    login: auth.Credentials, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was renewed is not stored then, and what is stored was exchanged already."""

    def full(**_: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    auth.store(replace(login, expires=time.time()))
    exchanged: list[str] = []
    refreshed = oauth.refreshed

    def noted(credentials: auth.Credentials, now: float) -> auth.Credentials:
        exchanged.append(credentials.refresh_token)
        return refreshed(credentials, now)

    monkeypatch.setattr(oauth, "refreshed", noted)
    monkeypatch.setattr(tempfile, "mkstemp", full)
    # Nor can the file be made that keeps others from exchanging it meanwhile.
    auth.path().with_suffix(".lock").mkdir()
    keeper = bearer.Bearer(replace(login, expires=time.time()))
    tokens = [keeper.token()]
    assert "Disk quota exceeded" in caplog.text
    for _ in range(2):
        assert keeper.refused(tokens[-1])
        tokens.append(keeper.token())
    assert len({login.token, *tokens}) == 4
    assert len(set(exchanged)) == 3
    monkeypatch.undo()


def test_whoever_logged_out_gets_no_new_token(login: auth.Credentials) -> None:
    late = bearer.Bearer(replace(login, expires=time.time()))
    auth.forget()
    with pytest.raises(CredentialsError, match="logged out"):
        late.token()


def test_a_login_that_was_revoked_says_so(login: auth.Credentials) -> None:
    oauth.revoke(login)
    auth.store(replace(login, expires=time.time()))
    with pytest.raises(CredentialsError, match="mep login"):
        whoami()


@pytest.mark.parametrize("prefix", auth.CLIENTS)
def test_a_service_client(
    running: Any, login: auth.Credentials, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    made = relay_cli("client", "create", "robot", "--data", running.relay.data)
    monkeypatch.setenv(f"{prefix}_ID", made["client_id"])
    monkeypatch.setenv(f"{prefix}_SECRET", made["client_secret"])
    assert whoami() == made["username"]
    assert auth.load() == login, "nothing of the client is stored"
    monkeypatch.setenv(f"{prefix}_SECRET", "wrong")
    with pytest.raises(CredentialsError, match="wrong client secret"):
        whoami()


def test_a_client_in_the_form(running: Any) -> None:
    made = relay_cli("client", "create", "robot", "--data", running.relay.data)
    form = {
        "grant_type": "client_credentials",
        "client_id": made["client_id"],
        "client_secret": made["client_secret"],
    }
    url = f"{running.url}/v2/oauth2/token"
    assert requests.post(url, data=form, timeout=BOUND_S).json()["expires_in"] > 0
    form["client_secret"] = "wrong"
    assert requests.post(url, data=form, timeout=BOUND_S).json()["error"] == "invalid_client"


def test_mep_login_on_a_terminal(running: Any, browser: Browser) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "mep.cli", "login", "--relay-url", running.url],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    os.close(theirs)
    assert process.stdout is not None
    said = ""
    while "approve the code" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    code = re.search(r"approve the code\s+([A-Z]{4}-[A-Z]{4})", said)
    assert code
    approve(browser, code[1])
    rest, _ = process.communicate(timeout=BOUND_S)
    os.close(ours)
    assert process.returncode == 0, rest
    assert f"logged in to {running.url} as gil@relay.local" in rest
    assert whoami() == "gil@relay.local"
    stored = auth.load()
    assert stored is not None
    logout = [sys.executable, "-m", "mep.cli", "logout"]
    done = subprocess.run(logout, capture_output=True, text=True, timeout=BOUND_S)
    assert done.stdout == "logged out\n"
    with pytest.raises(CredentialsError):
        oauth.refreshed(stored, time.time())
