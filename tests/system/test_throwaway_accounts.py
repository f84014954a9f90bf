"""The accounts and directories that other system tests rely on."""

import os
import pwd
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root
seen: dict[str, Any] = {}


def test_accounts_are_real_and_can_own_processes(
    new_account: Callable[..., pwd.struct_passwd],
) -> None:
    alice, bob = new_account("alice"), new_account("bob", "--shell", "/bin/sh")
    assert alice.pw_uid != bob.pw_uid
    assert Path(alice.pw_dir).stat().st_uid == alice.pw_uid
    assert pwd.getpwnam(bob.pw_name).pw_shell == "/bin/sh"
    seen["names"] = [alice.pw_name, bob.pw_name]
    seen["process"] = subprocess.Popen(["sleep", "100"], user=alice.pw_uid, group=alice.pw_gid)


def test_they_are_gone_afterwards_with_all_they_ran() -> None:
    for name in seen["names"]:
        with pytest.raises(KeyError):
            pwd.getpwnam(name)
        assert not Path("/home", name).exists()
    assert seen["process"].wait(10) == -9


def test_nobody_else_can_write_an_ancestor_of_the_site_root(site_root: Path) -> None:
    for directory in (site_root, *site_root.parents):
        status = directory.stat()
        assert status.st_uid == 0
        assert not stat.S_IMODE(status.st_mode) & 0o022
    assert os.access(site_root, os.W_OK)
