"""The Debian package, installed in a clean root: it works there, and starts nothing."""

import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

SITE_PACKAGES = (
    f"/usr/lib/mep/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
)
WARDEN = f"{SITE_PACKAGES}/mep/root/__main__.py"
IMPORT_ALL = """
import importlib, pkgutil
import mep, mep_cloud, mep_sdk
for package in (mep, mep_cloud, mep_sdk):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""


@pytest.mark.parametrize("command", ["mep", "mep-relay"])
def test_the_commands_run(in_root: Callable, command: str) -> None:
    done = in_root(command, "--help", check=True)
    assert done.stdout.startswith(f"Usage: {command}")


def test_every_module_finds_what_it_imports(in_root: Callable) -> None:
    in_root("/usr/lib/mep/bin/python3", "-I", "-c", IMPORT_ALL, check=True)


def test_every_library_finds_what_it_links(in_root: Callable) -> None:
    listed = in_root(
        *("find", SITE_PACKAGES, "-name", "*.so*", "-type", "f", "-exec", "ldd", "{}", "+"),
        check=True,
    )
    assert "libc.so" in listed.stdout
    assert "not found" not in listed.stdout


def test_the_warden_runs_and_refuses_to_without_a_configuration(in_root: Callable) -> None:
    done = in_root(
        *("/usr/lib/mep/bin/python3", "-I", "-S", WARDEN, "--config", "/etc/mep/none"),
        *("--state", "/var/lib/mep-warden/none", "--socket", "/run/mep-warden/none/warden.sock"),
        *("--audit", "/var/log/mep-warden/none/audit.log"),
    )
    assert done.returncode not in (0, 2), done
    assert "/etc/mep/none" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_warden_of_the_units_is_that_file(clean_root: Path) -> None:
    unit = (clean_root / "usr/lib/systemd/system/mep-warden@.service").read_text()
    match = re.search(r"-I -S /(\S+)", unit)
    assert match
    assert (clean_root / match[1]).resolve() == clean_root / WARDEN[1:]


def test_accounts_and_directories_are_there(in_root: Callable, clean_root: Path) -> None:
    for account in ("mep", "mep-map", "mep-relay"):
        assert in_root("getent", "passwd", account, check=True).stdout.endswith("nologin\n")
    for path in ("etc/mep", "var/lib/mep", "var/log/mep", "var/lib/mep-warden"):
        status = (clean_root / path).stat()
        assert status.st_uid == 0
        assert not status.st_mode & 0o022


def test_nothing_was_enabled_or_started(clean_root: Path) -> None:
    enabled = [*clean_root.glob("etc/systemd/system/**/mep*")]
    assert enabled == []


def test_nobody_but_root_can_change_what_root_runs(clean_root: Path) -> None:
    for path in [clean_root / "usr/lib/mep", *(clean_root / "usr/lib/mep").rglob("*")]:
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (0, 0), path
        assert stat.S_ISLNK(status.st_mode) or not status.st_mode & 0o022, path


def test_the_environment_does_not_reach_the_commands(in_root: Callable) -> None:
    done = in_root("env", "PYTHONPATH=/nowhere", "PYTHONHOME=/nowhere", "mep", "--help")
    assert done.returncode == 0, done.stderr


def test_compiled_files_are_taken_as_they_are(in_root: Callable) -> None:
    """No account but root can write them, so a stale one would be compiled at every start."""
    checked = in_root(
        *("/usr/lib/mep/bin/python3", "-v", "-I", "-c", "import mep.wire, click, msgspec"),
        check=True,
    )
    assert f"{SITE_PACKAGES}/mep/wire/__pycache__" in checked.stderr
    assert "could not create" not in checked.stderr
    assert "bytecode is stale" not in checked.stderr


def test_removal_leaves_what_cannot_be_made_again(in_root: Callable, clean_root: Path) -> None:
    (clean_root / "etc/mep/site").mkdir()
    (clean_root / "etc/mep/site/grant.key").write_text("1 00\n")
    (clean_root / "var/lib/mep-relay/master.key").write_text("00\n")
    (clean_root / "var/lib/mep/site").mkdir()

    in_root("dpkg", "--purge", "hpc-mep", check=True)
    assert not (clean_root / "usr/lib/mep").exists()
    assert not (clean_root / "var/lib/mep").exists()
    assert (clean_root / "etc/mep/site/grant.key").exists()
    assert (clean_root / "var/lib/mep-relay/master.key").exists()

    in_root("dpkg", "--install", "/package.deb", check=True)
    in_root("mep", "--help", check=True)


def test_an_upgrade_leaves_the_site_as_it_is(in_root: Callable, clean_root: Path) -> None:
    etc = clean_root / "etc/mep/upgraded"
    etc.mkdir()
    (etc / "policy.toml").write_text("minimum_uid = 5000\n")
    in_root("dpkg", "--install", "/package.deb", check=True)
    assert (etc / "policy.toml").read_text() == "minimum_uid = 5000\n"
