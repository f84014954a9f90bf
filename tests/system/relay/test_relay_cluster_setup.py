"""What a relay process that is to be one of several refuses to start with."""

import secrets
import shutil
from pathlib import Path

import pytest
from relay_driver import relay_cli, run_cli
from relay_pair import Pair

NOWHERE = '[database]\nurl = "postgresql://mep@127.0.0.1:1/mep"\n'


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("refused") / "data"
    relay_cli("init", data)
    return data


@pytest.mark.parametrize(
    ("settings", "options", "sentence"),
    [
        ("[cluster]\nenabled = true\n", (), "SQLite serves one process"),
        (
            NOWHERE + "[cluster]\nenabled = true\n",
            ("--host", "0.0.0.0", "--insecure-http"),
            "cannot reach this one at http://0.0.0.0",
        ),
        (
            NOWHERE + '[cluster]\nenabled = true\nurl = "http://relay1.example:8443"\n',
            (),
            "handed on to http://relay1.example:8443 without TLS",
        ),
        (
            NOWHERE + '[cluster]\nenabled = true\nca_file = "/nonexistent.pem"\n',
            (),
            "ca_file of [cluster], /nonexistent.pem, cannot be used",
        ),
        ('[cluster]\nurl = "relay1.example"\n', (), "url must be https://HOST:PORT"),
    ],
)
def test_refused_with_the_remedy(
    directory: Path, settings: str, options: tuple[str, ...], sentence: str
) -> None:
    (directory / "relay.toml").write_text(settings)
    done = run_cli("serve", "--port", 0, "--data", directory, *options)
    assert done.returncode == 1
    assert sentence in done.stderr, done.stderr


def test_a_process_with_another_master_key_does_not_join(pair: Pair, tmp_path: Path) -> None:
    third = tmp_path / "third"
    shutil.copytree(pair.relays[0].data, third)
    (third / "master.key").write_text(secrets.token_hex(32) + "\n")
    done = run_cli("serve", "--port", 0, "--data", third)
    assert done.returncode == 1
    assert "has another master.key than this one" in done.stderr, done.stderr
    pair.people.alice.ok("GET", "/v3/whoami")
