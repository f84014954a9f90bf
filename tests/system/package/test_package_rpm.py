"""The RPM package: the same files as the deb, and scriptlets that start nothing."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(240)

PYTHON = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
DEB_ALONE = "/usr/share/doc/hpc-mep/copyright"


def query(rpm: Path, *flags: str) -> str:
    command = ["rpm", "--query", "--package", *flags, str(rpm)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_it_holds_the_files_of_the_deb(rpm: Path, deb: Path) -> None:
    listed = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", deb], capture_output=True, timeout=60, check=True
    )
    names = subprocess.run(
        ["tar", "--list"], input=listed.stdout, capture_output=True, timeout=60, check=True
    ).stdout.decode()
    of_deb = {line.removeprefix(".") for line in names.splitlines() if not line.endswith("/")}
    of_rpm = set(query(rpm, "--list").splitlines())
    assert of_deb - of_rpm == {DEB_ALONE}
    assert "/usr/lib/mep/site-packages" in of_rpm


def test_all_of_it_is_roots(rpm: Path) -> None:
    owners = query(rpm, "--queryformat", "[%{FILEUSERNAME}:%{FILEGROUPNAME} ]").split()
    assert set(owners) == {"root:root"}


def test_it_depends_on_the_python_that_it_was_built_with(rpm: Path) -> None:
    assert PYTHON in query(rpm, "--requires").splitlines()


def test_scriptlets_make_accounts_and_directories_and_start_nothing(rpm: Path) -> None:
    scripts = query(rpm, "--scripts")
    assert "systemd-sysusers hpc-mep.conf" in scripts
    assert "systemd-tmpfiles --create hpc-mep.conf" in scripts
    for word in ("start ", "restart", "enable", "preset"):
        assert f"systemctl {word}" not in scripts


def test_scriptlets_are_valid_shell(rpm: Path) -> None:
    for tag in ("POSTIN", "PREUN", "POSTUN"):
        script = query(rpm, "--queryformat", f"%{{{tag}}}")
        subprocess.run(["sh", "-n"], input=script, text=True, timeout=10, check=True)


@pytest.mark.root
def test_its_scriptlets_make_the_accounts(rpm: Path, clean_root: Path, in_root: Callable) -> None:
    """In the clean root, which is no RPM system: `rpm` itself is not there, the scriptlet is."""
    script = query(rpm, "--queryformat", "%{POSTIN}")
    (clean_root / "postin").write_text(script)
    shutil.rmtree(clean_root / "var/log/mep")
    in_root("sh", "-e", "/postin", check=True)
    assert (clean_root / "var/log/mep").is_dir()
