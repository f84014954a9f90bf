"""The relay and the process of its database: one at a time, and what the end of it means."""

import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from relay_driver import BOUND_S, RelayProcess, relay_cli, run_cli
from testbed.postgres import Server, missing


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A PostgreSQL server that the test may end."""
    if reason := missing():
        pytest.skip(reason)
    with Server() as server:
        yield server


def init(server: Server, tmp_path: Path) -> Path:
    password = tmp_path / "password"
    password.write_text(server.password + "\n")
    data = tmp_path / "data"
    where = ("--database", server.new_database(), "--database-password-file", password)
    relay_cli("init", data, *where)
    return data


def test_a_second_process_is_refused(any_relay: Callable[[], Any]) -> None:
    running = any_relay()
    done = run_cli("serve", "--port", 0, "--data", running.relay.data)
    assert done.returncode == 1
    assert "Another process serves the relay" in done.stderr, done.stderr
    assert running.alice.ok("GET", "/v3/whoami")
    assert running.relay.stop() == 0


def test_a_copied_directory_does_not_serve_the_same_database(
    postgres: Server, tmp_path: Path
) -> None:
    data = init(postgres, tmp_path)
    relay = RelayProcess(data)
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", data, copy], check=True, timeout=BOUND_S)
    done = run_cli("serve", "--port", 0, "--data", copy)
    assert done.returncode == 1
    assert "Another relay process serves this database" in done.stderr, done.stderr
    assert relay.stop() == 0


def test_the_directory_tells_where_the_data_is_and_keeps_the_password(
    postgres: Server, tmp_path: Path
) -> None:
    data = init(postgres, tmp_path)
    assert sorted(path.name for path in data.iterdir()) == [
        "database.password",
        "master.key",
        "relay.toml",
    ]
    for path in (data, *data.iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path
    assert postgres.password not in (data / "relay.toml").read_text()
    relay = RelayProcess(data)
    command_line = Path(f"/proc/{relay.process.pid}/cmdline").read_bytes()
    environment = Path(f"/proc/{relay.process.pid}/environ").read_bytes()
    assert relay.stop() == 0
    for where in (command_line, environment, relay.log.read_bytes()):
        assert postgres.password.encode() not in where


def test_a_database_that_is_not_empty_is_left_alone(postgres: Server, tmp_path: Path) -> None:
    url = postgres.new_database()
    postgres.sql("CREATE TABLE precious (x int)", url.rsplit("/", 1)[1])
    password = tmp_path / "password"
    password.write_text(postgres.password)
    data = tmp_path / "data"
    done = run_cli("init", data, "--database", url, "--database-password-file", password)
    assert done.returncode == 1
    assert "not empty" in done.stderr
    assert list(data.iterdir()) == []
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    assert postgres.sql(tables, url.rsplit("/", 1)[1]) == "precious"


def test_the_relay_ends_with_its_database_and_comes_back_with_it(
    own_server: Server, tmp_path: Path
) -> None:
    data = init(own_server, tmp_path)
    relay_cli("user", "add", "alice", "--data", data)
    relay = RelayProcess(data)
    own_server.kill()
    own_server.start()
    # The server's death is noticed at the next write; this one is not acknowledged.
    token = relay_cli("token", "create", "alice", "--data", data)["token"]
    body = {"function_name": "f", "function_code": "10\n01\nAAAABB\n"}
    answer = requests.post(
        f"{relay.url}/v3/functions",
        json=body,
        headers={"Authorization": f"Bearer {token}"},
        timeout=BOUND_S,
    )
    assert answer.status_code == 503, "what a client tries again"
    assert relay.process.wait(BOUND_S) == 1
    assert relay.process.stdout is not None
    relay.process.stdout.close()
    assert "the connection to the database was lost" in relay.log.read_text()
    again = RelayProcess(data, port=relay.port)
    answer = requests.post(
        f"{again.url}/v3/functions",
        json=body,
        headers={"Authorization": f"Bearer {token}"},
        timeout=BOUND_S,
    )
    assert answer.status_code == 200
    assert again.stop() == 0


def test_a_server_that_comes_up_later_is_waited_for(own_server: Server, tmp_path: Path) -> None:
    data = init(own_server, tmp_path)
    own_server.stop()
    command = ["serve", "--data", str(data), "--port", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "mep_cloud", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "waiting for the database" in process.stderr.readline()
        own_server.start()
        ready, _, _ = select.select([process.stdout], [], [], BOUND_S)
        line = process.stdout.readline() if ready else ""
        process.terminate()
        assert line.startswith("relay listening on ")


def test_what_is_waited_for_is_told_once(own_server: Server, tmp_path: Path) -> None:
    data = init(own_server, tmp_path)
    own_server.stop()
    command = ["serve", "--data", str(data), "--port", "0"]
    with (
        socket.create_server(("127.0.0.1", own_server.port)) as listener,
        subprocess.Popen(
            [sys.executable, "-m", "mep_cloud", *command], stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        listener.settimeout(BOUND_S)
        for _ in range(4):
            connection, _ = listener.accept()
            connection.close()
        process.terminate()
        _, told = process.communicate(timeout=BOUND_S)
    assert told.count("waiting for the database, for at most 30 s: The database postgresql://") == 1
