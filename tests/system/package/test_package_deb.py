"""The Debian package, installed in a clean root: it works there, and starts nothing."""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mep.cli import examples
from mep.manager import packets
from mep.root import messages

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
    for parent in ("/var/lib", "/var/log", "/run"):
        in_root("mkdir", f"{parent}/mep-warden/none", check=True)
    done = in_root(
        *("/usr/lib/mep/bin/python3", "-I", "-S", WARDEN, "--config", "/etc/mep/none"),
        *("--state", "/var/lib/mep-warden/none", "--socket", "/run/mep-warden/none/warden.sock"),
        *("--audit", "/var/log/mep-warden/none/audit.log"),
    )
    assert done.returncode != 0
    assert "can't open file" not in done.stderr
    assert "/etc/mep/none" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_warden_serves_the_manager_of_that_machine(
    clean_root: Path, in_root_command: Callable
) -> None:
    etc = clean_root / "etc/mep/site"
    etc.mkdir()
    for name in examples.NAMES:
        (etc / name).write_text(examples.text(name))
    shutil.copy(Path(__file__).parents[3] / "configs/parent.json", etc)
    (etc / "grant.key").touch(mode=0o600)
    (etc / "grant.key").write_text("1 " + "5a" * 32 + "\n")
    for path in ("var/lib/mep-warden/site", "var/log/mep-warden/site", "run/mep-warden/site"):
        (clean_root / path).mkdir(parents=True)
    unit = (clean_root / "usr/lib/systemd/system/mep-warden@.service").read_text()
    (command,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    warden = subprocess.Popen(
        in_root_command(*command.replace("%i", "site").split()), stderr=subprocess.PIPE
    )
    try:
        said = packet_from(clean_root / "run/mep-warden/site/warden.sock", clean_root, warden)
        assert isinstance(said, messages.Running)
        assert said.user_endpoint_ids == []
        os.kill(child_of(warden.pid), signal.SIGTERM)
        assert warden.wait(20) == 0
    finally:
        warden.kill()
        warden.communicate(timeout=20)
        shutil.rmtree(etc)


def packet_from(
    path: Path, root: Path, warden: "subprocess.Popen[bytes]"
) -> messages.Running | object:
    """What the warden says first to a peer that has the uid of `mep` in that root."""
    (uid,) = re.findall(r"^mep:x:(\d+):", (root / "etc/passwd").read_text(), re.MULTILINE)
    (gid,) = re.findall(r"^mep:x:(\d+):", (root / "etc/group").read_text(), re.MULTILINE)
    deadline = time.monotonic() + 20
    while not path.exists():
        assert warden.poll() is None, warden.stderr and warden.stderr.read()
        assert time.monotonic() < deadline, "the warden does not listen"
        time.sleep(0.02)
    listen = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET);"
        "s.settimeout(20); s.connect(sys.argv[1]); sys.stdout.buffer.write(s.recv(131072))"
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", listen, path],
        user=int(uid),
        group=int(gid),
        extra_groups=[],
        capture_output=True,
        timeout=40,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    return packets.parse_reply(done.stdout)


def child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


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
