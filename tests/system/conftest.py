"""Fixtures of the tests that start a real warden."""

import pwd
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from warden_harness import Warden


@pytest.fixture(scope="session")
def warden_accounts(
    session_accounts: Callable[[str], pwd.struct_passwd],
) -> dict[str, pwd.struct_passwd]:
    """One account of each kind, for all of these tests."""
    return {name: session_accounts(name) for name in ("manager", "map", "alice", "bob")}


@pytest.fixture
def warden(site_root: Path, warden_accounts: dict[str, pwd.struct_passwd]) -> Iterator[Warden]:
    """A site with accounts for alice and bob, not started yet."""
    made = Warden(site_root, warden_accounts["manager"], warden_accounts["map"])
    made.accounts = {name: warden_accounts[name] for name in ("alice", "bob")}
    yield made
    made.stop()
