"""What tests of the SDK share: no login of the person who runs them, and relays on loopback."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from mep_sdk import Client, auth
from relays import TOKEN, EchoRelay


@pytest.fixture(autouse=True)
def no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clients = [f"{prefix}_{end}" for prefix in auth.CLIENTS for end in ("ID", "SECRET")]
    plain = ("MEP_RELAY_URL", "MEP_TOKEN", "MEP_CA_FILE", "MEP_INSECURE_HTTP")
    for name in (*plain, *clients):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def client_of() -> Iterator[Callable[[EchoRelay], Client]]:
    """Starts a relay; a client of it."""
    with ExitStack() as stack:

        def start(relay: EchoRelay) -> Client:
            url = stack.enter_context(relay.serving())
            client = Client(url, TOKEN, timeout_s=20, patience_s=5)
            stack.callback(client.close)
            return client

        yield start
