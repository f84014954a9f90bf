"""Who the user is: arguments, environment, stored login, and what is refused."""

import json
import os
from pathlib import Path

import pytest
from mep_sdk import Client, auth
from mep_sdk.auth import Credentials
from mep_sdk.errors import CredentialsError

STORED = Credentials("https://relay.example.org", "stored", "/ca.pem")


def test_arguments_beat_the_environment_and_that_the_stored_login(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    auth.store(STORED)
    assert auth.find() == STORED
    monkeypatch.setenv("MEP_TOKEN", "environment")
    assert auth.find() == Credentials(STORED.relay_url, "environment", STORED.ca_file)
    monkeypatch.setenv("MEP_RELAY_URL", "https://other.example.org/")
    assert auth.find() == Credentials("https://other.example.org", "environment", None)
    assert auth.find(token="given", ca_file="/x").token == "given"


def test_a_stored_token_goes_to_no_other_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    auth.store(STORED)
    monkeypatch.setenv("MEP_RELAY_URL", "https://other.example.org")
    with pytest.raises(CredentialsError, match="is for https://relay"):
        auth.find()


def test_nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CredentialsError, match="not logged in; run `mep login`"):
        Client()
    monkeypatch.setenv("MEP_TOKEN", "t")
    with pytest.raises(CredentialsError, match="no relay is known"):
        Client()


def test_the_stored_login_is_private_and_can_be_forgotten() -> None:
    where = auth.store(STORED)
    where = auth.store(STORED)
    assert where.stat().st_mode & 0o777 == 0o600
    assert where.parent.stat().st_mode & 0o777 == 0o700
    assert list(where.parent.iterdir()) == [where]
    assert auth.forget()
    assert not auth.forget()
    assert auth.load() is None


def test_a_login_that_others_can_read_is_refused() -> None:
    where = auth.store(STORED)
    where.chmod(0o640)
    with pytest.raises(CredentialsError, match=f"chmod 600 {where}"):
        auth.find()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it gives a file away")
def test_a_login_of_somebody_else_is_refused() -> None:
    os.chown(auth.store(STORED), 12345, -1)
    with pytest.raises(CredentialsError, match="somebody else"):
        auth.find()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"relay_url": "https://x"}', "nonsense"])
def test_a_file_that_is_no_login(text: str, tmp_path: Path) -> None:
    auth.store(STORED).write_text(text)
    with pytest.raises(CredentialsError, match="mep login"):
        auth.load()


@pytest.mark.parametrize("url", ["relay.example.org", "ftp://x", "https://", "http://10.0.0.1"])
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(CredentialsError):
        Client(url, "t")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"])
def test_plain_http_stays_on_this_machine(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert auth.usable_url(url + "/") == url
    monkeypatch.setenv("MEP_INSECURE_HTTP", "1")
    assert auth.usable_url("http://10.0.0.1") == "http://10.0.0.1"


def test_the_token_is_not_shown() -> None:
    assert "stored" not in repr(STORED)
    assert "stored" not in repr(Client(STORED.relay_url, STORED.token))
    assert json.loads(auth.store(STORED).read_text())["token"] == "stored"


@pytest.mark.parametrize("prefix", auth.CLIENTS)
def test_a_client_beats_the_stored_login(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    auth.store(STORED)
    monkeypatch.setenv(f"{prefix}_ID", "id")
    with pytest.raises(CredentialsError, match=f"{prefix}_SECRET is not"):
        auth.find()
    monkeypatch.setenv(f"{prefix}_SECRET", "secret")
    found = auth.find()
    assert (found.relay_url, found.ca_file) == (STORED.relay_url, STORED.ca_file)
    assert (found.token, found.client_id, found.client_secret) == ("", "id", "secret")
    assert "secret'" not in repr(found)
    monkeypatch.setenv("MEP_RELAY_URL", "https://other.example.org")
    assert auth.find().relay_url == "https://other.example.org"
    assert auth.find(token="given").client_id == ""
    monkeypatch.delenv(f"{prefix}_ID")
    with pytest.raises(CredentialsError, match=f"{prefix}_ID is not"):
        auth.find()


def test_our_own_client_variables_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEP_RELAY_URL", "https://relay.example.org")
    for prefix in reversed(auth.CLIENTS):
        monkeypatch.setenv(f"{prefix}_ID", prefix)
        monkeypatch.setenv(f"{prefix}_SECRET", "s")
        assert auth.find().client_id == prefix


def test_a_client_s_secret_is_not_stored() -> None:
    where = auth.store(Credentials("https://x", "t", client_id="id", client_secret="hidden"))
    assert "hidden" not in where.read_text()
