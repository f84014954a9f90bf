"""Fixtures of the tests that start a real warden."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from warden_harness import Warden


@pytest.fixture
def warden(site_root: Path, session_accounts: Callable[..., Any]) -> Iterator[Warden]:
    """A site with accounts for alice and bob, not started yet."""
    made = Warden(site_root, session_accounts("manager"), session_accounts("map"))
    made.accounts = {name: session_accounts(name) for name in ("alice", "bob")}
    yield made
    made.stop()
