"""The Debian package, installed in a clean root: it works there, and starts nothing."""

import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mep.cli import examples
from mep.cli.listener import listen
from mep.manager import packets

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

SITE_PACKAGES = (
    f"/usr/lib/mep/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
)
WARDEN = f"{SITE_PACKAGES}/mep/root/__main__.py"
# Entries are run, not imported, and so is alembic's script. What needs python-ldap finds it in the
# distribution's Python.
IMPORT_ALL = """
import importlib, pkgutil
import mep, mep_cloud, mep_sdk
LDAP = ("directory.search", "directory.look_up")
for package in (mep, mep_cloud, mep_sdk):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith(("__main__", "migrations.env", *LDAP)):
            importlib.import_module(module.name)
"""


STAGE = """
import sys
from mep.endpoint.runtime.runtime import Runtime
from mep.worker.boot import fitting, tags_in, this_python
runtime = Runtime(sys.argv[1])
runtime.command("pool.json")
for minor in range(9, 15):
    fitting(tags_in(runtime.staged), this_python()._replace(version="3.%d.0" % minor))
print(runtime.staged)
"""


@pytest.mark.parametrize("command", ["mep", "mep-relay"])
def test_the_commands_run(in_root: Callable, command: str) -> None:
    done = in_root(command, "--help", check=True)
    assert done.stdout.startswith(f"Usage: {command}")


def test_an_image_with_it_has_a_node_pool(in_root: Callable) -> None:
    assert in_root("mep-pool").stderr.startswith("usage: mep-pool FILE [VERSION]")


def test_the_program_for_directories_says_what_it_lacks(in_root: Callable) -> None:
    done = in_root("mep-ldap-mapping")
    assert done.returncode == 1
    assert "install the distribution's python3-ldap" in done.stderr


def test_node_pools_elsewhere_get_a_runtime_for_any_python(in_root: Callable) -> None:
    said = in_root("mep", "version", check=True).stdout
    assert "compute nodes may have Python 3.9, 3.10, 3.11, 3.12 and newer" in said
    python = "/usr/lib/mep/bin/python3"
    staged = in_root(python, "-I", "-c", STAGE, "/var/tmp/runtime", check=True).stdout.strip()
    assert staged.startswith("/var/tmp/runtime/")
    system = f"python{sys.version_info.major}.{sys.version_info.minor}"
    in_root(system, "-I", "-S", staged, "--serves", check=True)


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
        *("/usr/lib/mep/bin/python3", "-I", "-S", WARDEN, "/etc/mep/none"),
        *("/var/lib/mep-warden/none", "/var/log/mep-warden/none/audit.log", "/run/none", "3"),
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
    (gid,) = re.findall(r"^mep:x:(\d+):", (clean_root / "etc/group").read_text(), re.MULTILINE)
    listener = listen(clean_root / "run/mep-warden/site/warden.sock", int(gid))
    # systemd passes it as 3, which is what the unit says.
    words = [*command.replace("%i", "site").split()[:-1], str(listener.fileno())]
    assert command.endswith(" 3")
    warden = subprocess.Popen(
        in_root_command(*words), stderr=subprocess.PIPE, pass_fds=(listener.fileno(),)
    )
    try:
        said = packet_from(clean_root / "run/mep-warden/site/warden.sock", clean_root, warden)
        assert isinstance(said, packets.Running)
        assert said.user_endpoint_ids == []
    finally:
        listener.close()
        warden.kill()
        warden.communicate(timeout=20)
        shutil.rmtree(etc)


def packet_from(path: Path, root: Path, warden: "subprocess.Popen[bytes]") -> packets.Reply:
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
