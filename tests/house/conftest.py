"""The whole house: a real relay, real accounts, warden, manager, user endpoints, SDK.

One relay and one multi-user site serve all tests of this folder; a test that damages them
(kill -9, restarts) leaves them working again.
"""

import pwd
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from house import BIN, DOMAIN, Relay, Site, run


def give_up_more_numbers(name: str) -> None:
    """Leave an account one number in its user namespaces.

    More take a set-uid program, which users of a warden without PAM cannot run. Done before
    anything runs as this account: usermod insists.
    """
    for file, option in (("/etc/subuid", "--del-subuids"), ("/etc/subgid", "--del-subgids")):
        for line in Path(file).read_text().splitlines():
            owner, first, count = line.split(":")
            if owner == name:
                run("usermod", option, f"{first}-{int(first) + int(count) - 1}", name)


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


@pytest.fixture(scope="session")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    data = tmp_path_factory.mktemp("relay") / "data"
    run(BIN / "mep-relay", "init", data, "--domain", DOMAIN)
    relay = Relay(data)
    relay.start()
    yield relay
    relay.stop()


@pytest.fixture(scope="session")
def site(
    relay: Relay, session_site_root: Path, session_accounts: Callable[[str], pwd.struct_passwd]
) -> Iterator[Site]:
    """Root's site: alice and bob have accounts; mallory is mapped to root, ghost to nobody."""
    with ExitStack() as stack:
        alice, bob = (session_accounts(name).pw_name for name in ("alice", "bob"))
        give_up_more_numbers(bob)
        accounts = {
            "alice": alice,
            "bob": bob,
            "mallory": "root",
            "daemon": "daemon",
            "ghost": "no-such-account-" + uuid.uuid4().hex[:6],
        }
        manager, callout = (session_accounts(name).pw_name for name in ("mgr", "map"))
        site = Site(session_site_root, "house", relay, accounts, manager, callout)
        site.configure()
        site.register()
        site.start()
        stack.callback(site.stop)
        yield site
