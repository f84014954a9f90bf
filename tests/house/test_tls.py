"""Everything over TLS with a CA of the site's own: each part verifies the relay."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from house import BIN, DOMAIN, Owner, Relay, run
from mep_sdk import Client, Executor
from mep_sdk.errors import MEPError

pytestmark = pytest.mark.root


def hello(name: str) -> str:
    return f"Hello {name}"


def test_a_task_over_tls(
    tmp_path: Path, certificate: tuple[Path, Path], new_account: Callable[..., Any]
) -> None:
    data = tmp_path / "data"

    run(BIN / "mep-relay", "init", data, "--domain", DOMAIN)
    relay = Relay(data, tls=certificate)
    relay.start()
    owner = Owner(new_account("tls"), relay)
    try:
        chain = str(certificate[0])
        owner.mep("configure", "mine", "--relay-url", relay.url, "--ca-file", chain)
        said = owner.mep("start", "mine", "--detach", token=relay.token("carol"))
        endpoint_id = said.split("registered ID: ")[1].split()[0]
        with Executor(endpoint_id, client=relay.client("carol")) as ex:
            assert ex.submit(hello, "TLS").result(60) == "Hello TLS"
        stranger = Client(relay_url=relay.url, token=relay.token("carol"))
        with pytest.raises(MEPError, match=r"(?i)certificate"):
            stranger.whoami()
        owner.mep("stop", "mine")
    finally:
        relay.stop()
