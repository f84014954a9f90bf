"""Packages, built once for a run; a clean machine's file system with the deb installed."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import mep

TOP = Path(__file__).parents[3]
BUILD_S = 600
SOURCES = (
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d/debian.sources",
    "/etc/apt/sources.list.d/ubuntu.sources",
)

InRoot = Callable[..., "subprocess.CompletedProcess[str]"]


def need(program: str, package: str) -> None:
    """Skip where a tool is missing."""
    if not shutil.which(program):
        pytest.skip(f"needs {program} (package {package})")


def run(*command: str | Path) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=BUILD_S, check=False, cwd=TOP
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def build(kind: str, directory: Path) -> Path:
    """What ``make deb`` or ``make rpm`` does, into another directory."""
    return Path(run("sh", f"packaging/{kind}/build", mep.__version__, directory).split()[-1])


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("dpkg-deb", "dpkg")
    return build("deb", tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="session")
def rpm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("rpmbuild", "rpm")
    return build("rpm", tmp_path_factory.mktemp("rpm"))


@pytest.fixture(scope="session")
def clean_root(deb: Path, session_site_root: Path) -> Path:
    """A minimal system with what the package declares to depend on, and then the package."""
    need("mmdebstrap", "mmdebstrap")
    root = session_site_root / "clean"
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if line
    )
    depends = run("dpkg-deb", "--field", deb, "Depends").strip()
    first_choices = [clause.split("|")[0].split("(")[0].strip() for clause in depends.split(",")]
    run(
        *("mmdebstrap", "--quiet", "--variant=minbase", "--include=" + ",".join(first_choices)),
        *(release["VERSION_CODENAME"].strip('"'), root),
        *(source for source in SOURCES if Path(source).exists()),
    )
    shutil.copy(deb, root / "package.deb")
    chroot(root, "dpkg", "--install", "/package.deb", check=True)
    return root


def chroot_command(root: Path, *command: str) -> list[str]:
    """A command in a root, in process, mount and network namespaces of its own."""
    namespaces = ("--mount", "--pid", "--net", "--fork", "--kill-child")
    return ["unshare", *namespaces, f"--mount-proc={root}/proc", "chroot", str(root), *command]


def chroot(root: Path, *command: str, check: bool = False) -> "subprocess.CompletedProcess[str]":
    """Run a command in a root."""
    done = subprocess.run(
        chroot_command(root, *command),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
    )
    assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done


@pytest.fixture
def in_root(clean_root: Path) -> InRoot:
    """Runs a command in the clean root; ``check=True`` demands success."""

    def run_there(*command: str, check: bool = False) -> "subprocess.CompletedProcess[str]":
        return chroot(clean_root, *command, check=check)

    return run_there


@pytest.fixture
def in_root_command(clean_root: Path) -> Callable[..., list[str]]:
    """The words that run a command in the clean root, for what is to keep running."""

    def words(*command: str) -> list[str]:
        return chroot_command(clean_root, *command)

    return words
