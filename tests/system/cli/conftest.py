"""A real relay; root's site with throw-away service accounts; a plain account's endpoints."""

import json
import pwd
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_site import BIN, CommandLine, RunningRelay
from mep_sdk import Client

NAME = "test"


@pytest.fixture(scope="session")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRelay]:
    data = tmp_path_factory.mktemp("cli-relay") / "data"
    subprocess.run(
        [str(BIN / "mep-relay"), "init", str(data), "--domain", "example.edu"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    with subprocess.Popen(
        [str(BIN / "mep-relay"), "serve", "--data", str(data), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            assert line.startswith("relay listening on ")
            yield RunningRelay(line.split()[-1], data)
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def admin_token(relay: RunningRelay) -> str:
    return relay.token("cli-admin", admin=True)


@pytest.fixture
def mep(
    site_root: Path, session_accounts: Callable[..., pwd.struct_passwd], relay: RunningRelay
) -> Iterator[CommandLine]:
    """Root's command line, with the endpoint `test` configured; stopped at the end."""
    command = CommandLine({"MEP_PREFIX": str(site_root), "HOME": "/root"})
    command("configure", NAME, "--relay-url", relay.url)
    manager, callout = (session_accounts(name).pw_name for name in ("manager", "callout"))
    with (site_root / "etc/mep" / NAME / "policy.toml").open("r+") as file:
        text = file.read()
        text = text.replace('manager_user = "mep"', f'manager_user = "{manager}"')
        text = text.replace('callout_user = "mep-map"', f'callout_user = "{callout}"')
        file.seek(0)
        file.write(text)
        file.truncate()
    assert manager in text
    assert callout in text
    yield command
    _stop(command)


@pytest.fixture
def etc(mep: CommandLine) -> Path:
    return Path(mep.environment["MEP_PREFIX"]) / "etc/mep" / NAME


@pytest.fixture
def registered(mep: CommandLine, admin_token: str) -> CommandLine:
    mep("register", NAME, MEP_TOKEN=admin_token)
    return mep


@pytest.fixture
def plain(new_account: Callable[..., pwd.struct_passwd]) -> Iterator[CommandLine]:
    """The command line of an account without privilege."""
    account = new_account("owner")
    command = CommandLine({"HOME": account.pw_dir, "USER": account.pw_name}, account)
    yield command
    _stop(command)


def _stop(command: CommandLine) -> None:
    """In order: children of a supervisor that is killed would still write to what is removed."""
    command.try_("stop", NAME)
    if command.foreground is not None:
        with command.foreground as process:
            if process.poll() is None:
                process.kill()


@pytest.fixture
def alice(etc, session_accounts, relay):
    """Maps a relay user to an account; asks for a user endpoint and returns the account."""
    account = session_accounts("alice")
    rule = {"source": "{username}", "match": "cli-alice@example\\.edu", "output": account.pw_name}
    document = {"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": [rule]}
    (etc / "identity_mapping.json").write_text(json.dumps(document))
    return account


@pytest.fixture(scope="session")
def client(relay):
    client = Client(relay.url, relay.token("cli-alice"))
    yield client
    client.close()
