"""Runtimes for tests: wheels for all Pythons, as packaging fetches them, and Pythons to try."""

import contextlib
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parents[2]
FETCH_S = 150
SYSTEM_PYTHON = Path("/usr/bin/python3").resolve()


def fetch_wheels(directory: Path) -> Path:
    """What ``packaging/wheels`` puts into a package."""
    command = ["sh", TOP / "packaging/wheels", sys.executable, importlib.metadata.version("pyzmq")]
    done = subprocess.run(
        [*command, directory], capture_output=True, text=True, timeout=FETCH_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return directory


def pythons() -> dict[str, Path]:
    """Homes of interpreters of other versions on this machine, by minor version."""
    found = {}
    for home in (Path.home() / ".pyenv" / "versions").glob("3.*"):
        with contextlib.suppress(OSError):
            if (home / "bin" / "python3").exists():
                found[".".join(home.name.split(".")[:2])] = home
    return found


def served() -> dict[str, Path]:
    """Those that a node pool runs on."""
    return {version: home for version, home in pythons().items() if int(version[2:]) >= 9}


def in_namespace(preparation: str, *command: str | Path) -> list[str]:
    """A command in a mount namespace of its own, after shell lines that are run there as root."""
    return [
        *("unshare", "--mount", "--propagation", "private", "sh", "-ec"),
        f'{preparation}\nexec "$@"',
        "sh",
        *map(str, command),
    ]


def without_system_python() -> str:
    """Shell lines that take ``/usr/bin/python3`` away."""
    return f"mount --bind /dev/null {SYSTEM_PYTHON}"


def run(*command: str | Path, path: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """A command with hardly an environment."""
    return subprocess.run(
        [*command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": f"{path}{os.pathsep}/usr/bin{os.pathsep}/bin", **variables},
    )
