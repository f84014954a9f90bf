"""The units: without fault for systemd; the daemons are confined, users' processes are not."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
SYSTEM = "usr/lib/systemd/system"
INSTANCES = ["mep@site.service", "mep-warden@site.service", "mep-warden@site.socket"]
# What a unit says about its own process or its bookkeeping; anything else is inherited by every
# process that the warden starts for a user.
NOT_INHERITED = {
    *("Type", "ExecStart", "ExecReload", "KillMode", "Restart", "RestartSec", "OOMPolicy"),
    *("StateDirectory", "StateDirectoryMode", "LogsDirectory", "LogsDirectoryMode"),
}
UNDOES_A_DEFAULT = {"TasksMax": "infinity", "IgnoreSIGPIPE": "no", "KeyringMode": "inherit"}

if not shutil.which("systemd-analyze"):
    pytest.skip("needs systemd-analyze (package systemd)", allow_module_level=True)


def unit_files() -> list[Path]:
    return [file for file in UNITS.iterdir() if file.suffix in {".service", ".socket"}]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A file system with our units, systemd's targets, and something to be found as ExecStart."""
    units = tmp_path / SYSTEM
    units.mkdir(parents=True)
    for target in Path("/", SYSTEM).glob("*.target"):
        shutil.copy(target, units)
    for unit in unit_files():
        shutil.copy(unit, units)
    for binary in ("usr/lib/mep/bin/python3", "usr/bin/mep"):
        (tmp_path / binary).parent.mkdir(parents=True)
        shutil.copy("/bin/true", tmp_path / binary)
    return tmp_path


def analyze(*arguments: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def settings(unit: str) -> dict[str, str]:
    """The [Service] section; of a repeated key the last line."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS / unit)
    return dict(parser["Service"])


@pytest.mark.parametrize("unit", [*INSTANCES, "mep-relay.service"])
def test_systemd_finds_no_fault(root: Path, unit: str) -> None:
    assert analyze("verify", "--recursive-errors=one", f"--root={root}", unit) == ""


@pytest.mark.parametrize("unit", ["mep@site.service", "mep-relay.service"])
def test_daemons_without_privilege_are_confined(root: Path, unit: str) -> None:
    # Of 10: the remainder is the network, which is their work.
    analyze("security", "--offline=yes", "--threshold=15", f"--root={root}", unit)


def test_the_warden_confines_no_process_of_a_user() -> None:
    warden = settings("mep-warden@.service")
    inherited = {key: value for key, value in warden.items() if key not in NOT_INHERITED}
    assert inherited == UNDOES_A_DEFAULT


def test_user_endpoints_outlive_warden_and_manager() -> None:
    warden = settings("mep-warden@.service")
    assert warden["KillMode"] == "process"
    assert warden["OOMPolicy"] == "continue"
    # The manager's unit is not what users' processes hang on, and does not take the warden along.
    for unit in ("mep-warden@.service", "mep-warden@.socket"):
        assert "mep@" not in (UNITS / unit).read_text()


def test_the_warden_runs_isolated_on_the_standard_library() -> None:
    command = settings("mep-warden@.service")["ExecStart"].split()
    assert command[1:3] == ["-I", "-S"]
    assert command[3].endswith("/mep/root/__main__.py")


def test_every_directory_that_root_uses_is_roots_alone() -> None:
    rules = (UNITS / "tmpfiles.d/hpc-mep.conf").read_text()
    lines = [line.split() for line in rules.splitlines() if line.startswith("d ")]
    owned = {path: (mode, user) for _, path, mode, user, _ in lines}
    for path in ("/etc/mep", "/run/mep", "/run/mep-warden", "/var/lib/mep", "/var/log/mep"):
        assert owned[path] == ("0755", "root")
    for path in ("/var/lib/mep-warden", "/var/log/mep-warden"):
        assert owned[path] == ("0700", "root")


def test_units_and_directories_name_only_accounts_that_are_made() -> None:
    made = set(re.findall(r"^u (\S+)", (UNITS / "sysusers.d/hpc-mep.conf").read_text(), re.M))
    assert made == {"mep", "mep-map", "mep-relay"}
    used = {
        account
        for unit in unit_files()
        for account in re.findall(
            r"^(?:User|Group|SocketUser|SocketGroup)=(\S+)", unit.read_text(), re.M
        )
    }
    assert used <= made | {"root"}


@pytest.mark.root
def test_accounts_and_directories_are_made_as_declared(site_root: Path) -> None:
    (site_root / "etc").mkdir()
    for tool, *flags in (["systemd-sysusers"], ["systemd-tmpfiles", "--create"]):
        kind = tool.removeprefix("systemd-") + ".d"
        shutil.copytree(UNITS / kind, site_root / "usr/lib" / kind)
        command = [tool, *flags, f"--root={site_root}", "hpc-mep.conf"]
        subprocess.run(command, check=True, timeout=60)
    lines = (site_root / "etc/passwd").read_text().splitlines()
    accounts = {line.split(":")[0]: line.split(":") for line in lines}
    for name in ("mep", "mep-map", "mep-relay"):
        assert 0 < int(accounts[name][2]) < 1000
        assert accounts[name][6] == "/usr/sbin/nologin"
    relay = (site_root / "var/lib/mep-relay").stat()
    assert (relay.st_mode & 0o7777, relay.st_uid) == (0o700, int(accounts["mep-relay"][2]))
    assert (site_root / "var/lib/mep-warden").stat().st_mode & 0o7777 == 0o700
