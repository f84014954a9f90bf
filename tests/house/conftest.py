"""The whole house: a real relay, real accounts, warden, manager, user endpoints, SDK.

One relay and one multi-user site serve all tests of this folder; a test that damages them
(kill -9, restarts) leaves them working again.
"""

import pwd
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from house import BIN, DOMAIN, Relay, Site, run


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
