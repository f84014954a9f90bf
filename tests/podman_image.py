"""A podman of the tests' own, and an image that holds Python and nothing of ours."""

import os
import re
import shutil
import subprocess
import sysconfig
import tarfile
from collections.abc import Mapping
from pathlib import Path

LIMIT_S = 60.0
IMAGE = "localhost/mep-test-python:1"
PROGRAMS = ("/usr/bin/python3", "/bin/sh", "/bin/sleep")
LEFT_OUT = {"test", "idlelib", "tkinter", "ensurepip", "lib2to3", "pydoc_data", "__pycache__"}

STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{0}/graph"
runroot = "{0}/run"
"""
CONTAINERS = """\
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


def missing() -> list[str]:
    """Packages that a test with podman lacks."""
    return [name for name in ("podman", "runc") if shutil.which(name, path=_PATH) is None]


_PATH = "/usr/bin:/usr/sbin:/bin:/sbin"


def make_root(path: Path) -> None:
    """A tar of a root directory: the system's Python, a shell, ``sleep`` and their libraries."""
    stdlib = Path("/usr/lib") / f"python{sysconfig.get_python_version()}"
    compiled = sorted(map(str, (stdlib / "lib-dynload").glob("*.so")))
    with tarfile.open(path, "w") as tar:
        for program in PROGRAMS:
            tar.add(Path(program).resolve(), f"usr/bin/{Path(program).name}")
        for library in libraries([*PROGRAMS, *compiled]):
            tar.add(Path(library).resolve(), library.lstrip("/"))
        tar.add(stdlib, str(stdlib).lstrip("/"), filter=_wanted)
        for directory in ("tmp", "proc", "sys", "dev", "etc"):
            tar.addfile(_directory(directory))
        tar.addfile(_link("bin", "usr/bin"))


def libraries(files: list[str]) -> set[str]:
    """What the dynamic linker loads for these, the linker among them."""
    said = subprocess.run(["ldd", *files], capture_output=True, text=True, timeout=LIMIT_S)
    found = re.findall(r"^\s.*?(/\S+) \(0x", said.stdout, re.MULTILINE)
    return set(found)


def _wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = Path(member.name).name
    return None if name in LEFT_OUT or name.startswith("config-") else member


def _directory(name: str) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
    return made


def _link(name: str, target: str) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = tarfile.SYMTYPE, target
    return made


def configure(directory: Path, storage: Path) -> dict[str, str]:
    """Write podman's configuration into `directory`, all else below `storage`.

    Returns the environment variables by which podman finds it, where it does not by itself.
    """
    (directory / "storage.conf").write_text(STORAGE.format(storage))
    (directory / "containers.conf").write_text(CONTAINERS)
    return {
        "CONTAINERS_STORAGE_CONF": str(directory / "storage.conf"),
        "CONTAINERS_CONF": str(directory / "containers.conf"),
    }


def podman(variables: Mapping[str, str], *arguments: str) -> str:
    """What podman says."""
    done = subprocess.run(
        ["podman", *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
