"""Everything over TLS with a CA of the site's own: each part verifies the relay."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from house import BIN, DOMAIN, Owner, Relay, run
from mep_sdk import Client, Executor
from mep_sdk.errors import MEPError

pytestmark = pytest.mark.root


@pytest.fixture
def certificate(site_root: Path) -> tuple[Path, Path]:
    """For 127.0.0.1, signed by itself; all may read the certificate."""
    chain, key = site_root / "relay.pem", site_root / "relay.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=relay"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", chain),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    chain.chmod(0o644)
    return chain, key


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
            assert ex.submit(hello, "TLS").result(30) == "Hello TLS"
        stranger = Client(relay_url=relay.url, token=relay.token("carol"))
        with pytest.raises(MEPError, match=r"(?i)certificate"):
            stranger.whoami()
        owner.mep("stop", "mine")
    finally:
        relay.stop()
