"""Every way to be logged in, at a real relay: browser, authorizers, managers, service clients."""

import dataclasses
import json
import os
import pty
import re
import select
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mep_sdk import Client, Executor, auth, oauth
from mep_sdk.errors import AuthenticationError, CredentialsError, NotLoggedIn, RelayUnreachable

from mep.wire import limits
from mep.wire.rest import Submit, Uploaded

sys.path.append(str(Path(__file__).parent / "relay"))
from relay_driver import RelayProcess, relay_cli, run_cli
from test_relay_login import PASSWORD, Browser

WAIT_S = 30.0


class Relay(RelayProcess):
    """A relay that can be started again."""

    def restart(self) -> None:
        self.stop()
        super().__init__(self.data, port=self.port)


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    data = tmp_path_factory.mktemp("login") / "data"
    relay_cli("init", data)
    relay = Relay(data)
    relay_cli("user", "add", "dora", "--data", data)
    done = run_cli("user", "password", "dora", "--data", data, stdin=PASSWORD + "\n")
    assert done.returncode == 0, done.stderr
    yield relay
    relay.stop()


@pytest.fixture(scope="module")
def token(relay: Relay) -> str:
    relay_cli("user", "add", "alice", "--data", relay.data)
    made: str = relay_cli("token", "create", "alice", "--data", relay.data)["token"]
    return made


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MEP_RELAY_URL", "MEP_TOKEN", "MEP_CA_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def python(home: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    def run(code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-c", "from mep_sdk import Client\n" + code],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )

    return run


class Terminal:
    """A process on a terminal of its own."""

    def __init__(self, code: str, **environment: str) -> None:
        pid, self._fd = pty.fork()
        if pid == 0:
            command = [sys.executable, "-c", "from mep_sdk import Client\n" + code]
            os.execve(sys.executable, command, {**os.environ, **environment})
        self._pid = pid
        self.text = ""

    def until(self, pattern: str) -> re.Match[str]:
        deadline = time.monotonic() + WAIT_S
        while (found := re.search(pattern, self.text)) is None:
            left = deadline - time.monotonic()
            assert select.select([self._fd], [], [], max(left, 0.0))[0], self.text
            self.text += os.read(self._fd, 4096).decode()
        return found

    def end(self) -> int:
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


def approve(relay: Relay, code: str) -> None:
    browser = Browser(relay.url)
    browser.sign_in("dora")
    page = browser.get(f"/device?user_code={code}").text
    answer = browser.post("/device", page, user_code=code, answer="approve")
    assert "Approved" in answer.text
    browser.session.close()


WHO = 'print("I am", Client({}).whoami()["preferred_username"], flush=True); input()'


def test_a_client_on_a_terminal_logs_in(
    relay: Relay, home: Path, python: Callable[..., Any]
) -> None:
    terminal = Terminal(WHO.format(""), MEP_RELAY_URL=relay.url)
    approve(relay, terminal.until(r"approve the code\s+(\S+)")[1])
    terminal.until("I am dora")
    terminal.end()
    # It is stored, for its owner alone: the next one needs no terminal and no variable.
    assert auth.path().stat().st_mode & 0o077 == 0
    assert python('print(Client().whoami()["preferred_username"])').stdout == "dora@relay.local\n"
    # Another login, though there is one.
    again = Terminal(WHO.format("force_login=True"))
    code = again.until(r"approve the code\s+(\S+)")[1]
    before = json.loads(auth.path().read_text())["login"]
    approve(relay, code)
    again.until("I am dora")
    again.end()
    assert json.loads(auth.path().read_text())["login"] != before
    tokens_are_renewed(relay)
    assert Client().logout()
    assert not Client(relay.url, "a token").logout()
    done = python("Client()", MEP_RELAY_URL=relay.url)
    assert "NotLoggedIn: you are not logged in; run `mep login`" in done.stderr


def tokens_are_renewed(relay: Relay) -> None:
    # By the clock.
    stored = json.loads(auth.path().read_text())
    auth.path().write_text(json.dumps({**stored, "expires": time.time() + 1}))
    client = Client()
    assert client.whoami()["preferred_username"] == "dora@relay.local"
    fresh = json.loads(auth.path().read_text())
    assert fresh["token"] != stored["token"]
    # By the relay's word: its clock is ahead of ours. All threads at once.
    expire(relay, fresh["token"])
    relay.restart()  # it remembers for a while whom a token names
    names: list[str] = []
    threads = [
        threading.Thread(target=lambda: names.append(client.whoami()["preferred_username"]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert names == ["dora@relay.local"] * 4
    newest = json.loads(auth.path().read_text())["token"]
    assert newest != fresh["token"]
    # In midst of large arguments.
    large = client.connection.large
    large.check(2 * limits.INLINE)
    expire(relay, newest)
    relay.restart()
    (sent,) = large.submit(Submit(tasks={"f": [bytes(2 * limits.INLINE)]})).tasks["f"]
    assert isinstance(sent, Uploaded)
    assert json.loads(auth.path().read_text())["token"] != newest
    client.close()


def expire(relay: Relay, token: str) -> None:
    import hashlib

    database = sqlite3.connect(relay.data / "relay.sqlite3", timeout=WAIT_S)
    with database:
        hashed = hashlib.sha256(token.encode()).digest()
        done = database.execute("UPDATE tokens SET expires = 1 WHERE hash = ?", (hashed,))
        assert done.rowcount == 1
    database.close()


def test_a_relay_that_is_away_while_a_login_waits(relay: Relay, home: Path) -> None:
    begun = oauth.begin(relay.url, None)
    relay.stop()
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            Relay.__init__(relay, relay.data, port=relay.port)
            approve(relay, begun.user_code)

    found = oauth.wait(begun, relay.url, None, sleep=sleep)
    assert len(naps) == 3
    client = Client(relay.url, found.token)
    assert client.whoami()["preferred_username"] == "dora@relay.local"
    client.close()
    # Nobody waits for longer than the code is good.
    gone = dataclasses.replace(begun, expires_in=2 * begun.interval)
    with pytest.raises(RelayUnreachable):
        oauth.wait(gone, "http://127.0.0.1:9", None, sleep=naps.append)
    assert len(naps) == 5


def test_without_a_terminal_one_is_told_what_to_run(
    relay: Relay, home: Path, python: Callable[..., Any]
) -> None:
    done = python("Client(force_login=True)", MEP_RELAY_URL=relay.url)
    assert f"run `mep login --relay-url {relay.url}`" in done.stderr
    with pytest.raises(NotLoggedIn, match="no relay is known"):
        Client(authorizer="token")
    with pytest.raises(ValueError, match="new login"):
        Client(relay.url, "token", force_login=True)


def test_authorizers(relay: Relay, token: str, home: Path) -> None:
    class Header:
        def get_authorization_header(self) -> str:
            return f"Bearer {token}"

    for authorizer in (token, lambda: token, Header()):
        client = Client(relay.url, authorizer=authorizer)
        assert client.whoami()["preferred_username"] == "alice@relay.local"
        assert token not in repr(client)
        client.close()
    turns = iter(["stale", token, token])
    client = Client(relay.url, authorizer=lambda: next(turns))
    with pytest.raises((AuthenticationError, CredentialsError)):
        for _ in range(3):
            client.whoami()
    client.close()


def test_an_authorizer_that_fails_ends_futures(relay: Relay, home: Path) -> None:
    def broken() -> str:
        raise OSError("the vault is sealed")

    client = Client(relay.url, authorizer=broken)
    with Executor("7dd8a3a6-34a0-4e3c-8e75-98a4b1f7a0f5", client=client) as ex:
        with pytest.raises(CredentialsError, match="the vault is sealed"):
            ex.submit(len, "x").result(WAIT_S)
    client.close()
    with pytest.raises(TypeError, match="authorizer is a token"):
        Client(relay.url, authorizer=7)
    with pytest.raises(TypeError, match="one of token, authorizer"):
        Client(relay.url, "token", authorizer="other")


def test_a_login_manager(relay: Relay, token: str, home: Path) -> None:
    class Manager:
        calls: list[str] = []  # noqa: RUF012

        def ensure_logged_in(self) -> None:
            self.calls.append("ensure_logged_in")

        def logout(self) -> bool:
            self.calls.append("logout")
            return True

        def get_auth_client(self) -> Any:
            raise NotImplementedError

        def get_web_client(self, *, base_url: str) -> Any:
            self.calls.append(base_url)

            class WebClient:
                authorizer = staticmethod(lambda: token)

            return WebClient()

    client = Client(relay.url, login_manager=Manager())
    assert client.whoami()["preferred_username"] == "alice@relay.local"
    assert client.logout()
    assert Manager.calls == ["ensure_logged_in", relay.url, "logout"]
    client.close()


def test_a_service_client_beats_the_stored_login(
    relay: Relay, token: str, home: Path, python: Callable[..., Any]
) -> None:
    made = relay_cli("client", "create", "robot", "--data", relay.data)
    auth.store(auth.Credentials(relay.url, token))
    who = 'print(Client().whoami()["preferred_username"])'
    assert python(who).stdout == "alice@relay.local\n"
    for prefix in auth.CLIENTS:
        pair = {f"{prefix}_ID": made["client_id"], f"{prefix}_SECRET": made["client_secret"]}
        assert python(who, **pair).stdout == f"{made['username']}\n"
        halved = python(who, **{f"{prefix}_ID": made["client_id"]})
        assert f"{prefix}_SECRET is not; set both, or neither" in halved.stderr
