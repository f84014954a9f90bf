"""``mep-relay`` as an administrator uses it."""

import base64
import os
import sqlite3
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from relay_driver import BOUND_S, Api, RelayProcess, relay_cli, run_cli


def test_init_makes_a_private_directory_and_refuses_a_second_time(tmp_path: Path) -> None:
    data = tmp_path / "new" / "relay"
    made = relay_cli("init", data, "--domain", "hpc.example")
    assert made["domain"] == "hpc.example"
    assert data.stat().st_mode & 0o777 == 0o700
    assert (data / "master.key").stat().st_mode & 0o777 == 0o600
    before = (data / "master.key").read_bytes()
    again = run_cli("init", data)
    assert again.returncode == 1
    assert "not empty" in again.stderr
    assert (data / "master.key").read_bytes() == before
    added = relay_cli("user", "add", "carol", "--data", data)
    assert added["username"] == "carol@hpc.example"


def test_what_the_file_system_refuses_is_said_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    data = tmp_path / "data"
    relay_cli("init", data)
    (data / "metrics.token.new").mkdir()
    (data / "relay.toml").write_text('[hooks]\nca_file = "/nonexistent.pem"\n')
    before = sorted(tmp_path.rglob("*"))
    for words in (
        ("init", file),
        ("init", file / "below"),
        ("serve", "--data", file / "below"),
        ("user", "list", "--data", tmp_path / ("x" * 300)),
        ("metrics-token", "--data", data),
        ("serve", "--data", data),
    ):
        done = run_cli(*words)
        assert done.returncode == 1, done.stderr
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_database_that_cannot_be_written_is_said_in_a_sentence(tmp_path: Path) -> None:
    data = tmp_path / "data"
    relay_cli("init", data)
    (data / "relay.sqlite3").chmod(0o400)
    # Root may write it all the same, unless that power is taken away.
    without = ["setpriv", "--bounding-set", "-dac_override"] if os.geteuid() == 0 else []
    for words in (("user", "add", "carol"), ("serve", "--port", "0")):
        done = subprocess.run(
            [*without, sys.executable, "-m", "mep_cloud", *words, "--data", data],
            capture_output=True,
            text=True,
            timeout=BOUND_S,
        )
        assert done.returncode == 1, done.stderr
        last = done.stderr.splitlines()[-1]
        assert last.startswith("Error: The database ")
        assert "relay.sqlite3 cannot be used: attempt to write a readonly database" in last
        assert "Traceback" not in done.stderr
    (data / "relay.sqlite3").chmod(0o600)
    relay_cli("user", "add", "carol", "--data", data)


def test_an_init_that_fails_is_not_in_the_way_of_the_next(tmp_path: Path) -> None:
    data, password = tmp_path / "data", tmp_path / "password"
    password.write_bytes(b"\xff\xfe")
    where = ["--database", "postgresql:///nothing", "--database-password-file", password]
    done = run_cli("init", data, *where)
    assert done.returncode == 2
    assert "--database-password-file" in done.stderr
    # Neither the key nor anything else can be written.
    command = ["prlimit", "--fsize=0", sys.executable, "-m", "mep_cloud", "init", data]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BOUND_S)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: No relay can be set up in {data}: ")
    relay_cli("init", data)


def test_an_empty_database_is_not_taken_for_a_relay(tmp_path: Path) -> None:
    relay_cli("init", tmp_path / "data")
    (tmp_path / "data" / "relay.sqlite3").write_bytes(b"")
    done = run_cli("serve", "--port", "0", "--data", tmp_path / "data")
    assert done.returncode == 1
    assert "Restore a backup" in done.stderr


@pytest.mark.parametrize("domain", ["a b", "HPC.example", "", "user@hpc.example"])
def test_init_refuses_a_domain_that_no_user_name_can_have(tmp_path: Path, domain: str) -> None:
    refused = run_cli("init", tmp_path / "data", "--domain", domain)
    assert refused.returncode == 2
    assert "no domain in lower case" in refused.stderr
    assert not (tmp_path / "data").exists()


def test_verbs_explain_what_is_wrong(running: Any, tmp_path: Path) -> None:
    data = running.relay.data
    for words, hint in (
        (("user", "add", "alice@example.org", "--data", data), "already"),
        (("user", "add", "Alice@Example.org", "--data", data), "already, and sites"),
        (("user", "add", "al\udcffice", "--data", data), "printable"),
        (("user", "add", "@", "--data", data), "NAME@DOMAIN"),
        (("user", "add", "a b", "--data", data), "blanks"),
        (("user", "add", "a\nb", "--data", data), "printable"),
        (("token", "create", "nobody", "--data", data), "no user nobody@relay.local"),
        (("token", "create", "bob", "--data", tmp_path), "mep-relay init"),
        (("serve", "--data", tmp_path), "mep-relay init"),
    ):
        done = run_cli(*words)
        assert done.returncode == 1, words
        assert hint in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["", "init", "serve", "user add", "token create", "client create"])
def test_help_teaches(verb: str) -> None:
    done = run_cli(*verb.split(), "--help")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) > 8


def test_plain_http_stays_on_this_machine(running: Any, tmp_path: Path) -> None:
    done = run_cli("serve", "--data", running.relay.data, "--host", "0.0.0.0", "--port", 0)
    assert done.returncode == 1
    assert "--tls-cert" in done.stderr
    assert "--insecure-http" in done.stderr
    done = run_cli("serve", "--data", running.relay.data, "--tls-cert", __file__)
    assert "go together" in done.stderr
    relay_cli("init", tmp_path / "own")
    done = run_cli(
        *("serve", "--data", tmp_path / "own", "--port", 0),
        *("--tls-cert", __file__, "--tls-key", __file__),
    )
    assert done.returncode == 1
    assert "certificate" in done.stderr


def test_a_taken_port_is_a_sentence(running: Any) -> None:
    done = run_cli("serve", "--data", running.relay.data, "--port", running.relay.port)
    assert done.returncode == 1
    assert "cannot listen" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_open_master_credential_is_not_used(tmp_path: Path) -> None:
    data = tmp_path / "data"
    relay_cli("init", data)
    (data / "master.key").chmod(0o640)
    done = run_cli("serve", "--data", data, "--port", 0)
    assert done.returncode == 1
    assert "open to other accounts" in done.stderr
    (data / "master.key").chmod(0o600)
    (data / "master.key").write_text("abcd\n")
    assert "damaged" in run_cli("serve", "--data", data, "--port", 0).stderr
    data.chmod(0o755)
    assert "open to other accounts" in run_cli("serve", "--data", data, "--port", 0).stderr


def test_tls(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
        timeout=BOUND_S,
    )
    data = tmp_path / "data"
    relay_cli("init", data)
    arguments = ("--tls-cert", str(certificate), "--tls-key", str(key))
    relay = RelayProcess(data, arguments=arguments)
    try:
        assert relay.url.startswith("https://127.0.0.1:")
        answer = requests.get(relay.url + "/healthz", verify=str(certificate), timeout=BOUND_S)
        assert answer.json() == {"status": "ok"}
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(relay.url + "/healthz", timeout=BOUND_S)
        context = ssl.create_default_context(cafile=str(certificate))
        assert context.verify_mode is ssl.CERT_REQUIRED
    finally:
        assert relay.stop() == 0


def test_tokens_expire(running: Any) -> None:
    made = relay_cli("token", "create", "bob", "--data", running.relay.data, "--expires-days", 1e-8)
    assert made["expires"] < time.time()
    api = Api(running.url, made["token"])
    assert api("GET", "/v3/whoami").status_code == 401
    api.session.close()


def test_tokens_can_be_revoked(running: Any) -> None:
    data = running.relay.data
    token = run_cli("token", "create", "bob", "--data", data).stdout.strip()
    assert token.startswith("mep_user_")
    done = run_cli("token", "revoke", "--data", data, stdin=token + "\n")
    assert done.stdout == "revoked\n"
    api = Api(running.url, token)
    assert api("GET", "/v3/whoami").status_code == 401
    api.session.close()
    again = run_cli("token", "revoke", "--data", data, stdin=token + "\n")
    assert again.returncode == 1
    assert "no such token" in again.stderr


@pytest.mark.parametrize("days", ["nan", "inf", "0", "-1", "1e9"])
def test_a_token_expires_on_a_day(running: Any, days: str) -> None:
    words = ("token", "create", "bob", "--data", running.relay.data, "--expires-days", days)
    refused = run_cli(*words)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--expires-days" in refused.stderr


@pytest.fixture(scope="module")
def client(running: Any) -> dict[str, str]:
    made: dict[str, str] = relay_cli("client", "create", "robot", "--data", running.relay.data)
    return made


class TestServiceClient:
    """OAuth2 client credentials."""

    @staticmethod
    def ask(running: Any, client_id: str, secret: str, **form: str) -> requests.Response:
        return requests.post(
            running.url + "/v2/oauth2/token",
            auth=(client_id, secret),
            data={"grant_type": "client_credentials", **form},
            timeout=BOUND_S,
        )

    def test_token(self, running: Any, client: dict[str, str]) -> None:
        response = self.ask(running, client["client_id"], client["client_secret"])
        assert response.headers["Cache-Control"] == "no-store"
        body = response.json()
        assert body["token_type"] == "Bearer"
        assert body["expires_in"] > 3600
        assert body["other_tokens"] == []
        assert body["resource_server"] == "funcx_service"
        api = Api(running.url, body["access_token"])
        me = api.ok("GET", "/v3/whoami")
        assert me["sub"] == client["client_id"]
        assert me["preferred_username"] == client["username"]
        assert me["is_admin"] is False
        api.session.close()
        other = self.ask(
            running, client["client_id"], client["client_secret"], scope="openid"
        ).json()
        assert (other["resource_server"], other["scope"]) == ("auth.globus.org", "openid")

    def test_wrong_credentials(self, running: Any, client: dict[str, str]) -> None:
        for client_id, secret in (
            (client["client_id"], "wrong"),
            ("00000000-0000-4000-8000-000000000000", client["client_secret"]),
            (running.alice.ok("GET", "/v3/whoami")["sub"], ""),
            ("", ""),
        ):
            response = self.ask(running, client_id, secret)
            assert response.status_code == 401
            assert response.json()["error"] == "invalid_client"

    def test_a_secret_is_replaced(self, running: Any) -> None:
        data = running.relay.data
        client = relay_cli("client", "create", "leaky", "--data", data)
        client_id, old = client["client_id"], client["client_secret"]
        token = self.ask(running, client_id, old).json()["access_token"]
        made = relay_cli("client", "secret", client_id, "--data", data)
        assert made["client_id"] == client_id
        assert self.ask(running, client_id, old).status_code == 401
        assert self.ask(running, client_id, made["client_secret"]).status_code == 200
        api = Api(running.url, token)
        assert api("GET", "/v3/whoami").status_code == 401
        api.session.close()
        relay_cli("user", "revoke", client["username"], "--data", data)
        assert self.ask(running, client_id, made["client_secret"]).status_code == 401
        again = relay_cli("client", "secret", client_id, "--data", data)["client_secret"]
        assert self.ask(running, client_id, again).status_code == 200
        person = running.bob.ok("GET", "/v3/whoami")["sub"]
        refused = run_cli("client", "secret", person, "--data", data)
        assert refused.returncode == 1
        assert "mep-relay user list" in refused.stderr

    def test_malformed(self, running: Any, client: dict[str, str]) -> None:
        url = running.url + "/v2/oauth2/token"
        good = base64.b64encode(b"a:b").decode()
        form = {"grant_type": "client_credentials"}
        for authorization in ("", "Basic", "Basic !!", "Basic YQ==", f"Bearer {good}"):
            headers = {"Authorization": authorization}
            response = requests.post(url, data=form, headers=headers, timeout=BOUND_S)
            assert response.status_code == 401
            assert response.json()["code"] == "USER_UNAUTHENTICATED"
        response = self.ask(running, "a", "b", grant_type="password")
        assert response.status_code == 400
        assert response.json()["error"] == "unsupported_grant_type"


def test_migrate_says_what_is_missing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    relay_cli("init", data)
    assert relay_cli("migrate", "--data", data) == {"made": []}
    assert relay_cli("migrate", "--check", "--data", data) == {"missing": []}
    with sqlite3.connect(data / "relay.sqlite3") as connection:
        connection.execute("DELETE FROM alembic_version")
        connection.execute("INSERT INTO alembic_version VALUES ('of_the_future')")
    connection.close()
    for verb in (("migrate",), ("migrate", "--check"), ("serve", "--port", 0)):
        done = run_cli(*verb, "--data", data)
        assert done.returncode == 1
        assert "newer version of mep-relay" in done.stderr, done.stderr
