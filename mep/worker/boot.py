"""Entry of a node pool that runs from a runtime: ``python -I RUNTIME FILE``.

This file is the ``__main__.py`` of a runtime (:mod:`mep.endpoint.runtime`): a directory, or a zip
of the same that is unpacked into a private directory for as long as the pool lives. It finds the
pyzmq that serves this Python, and then becomes :mod:`mep.worker.pool`. With ``--serves`` in place
of FILE it only says whether it could; what is wrong completes the sentence "this Python ...".

Syntax of Python 3.6, so that one that is too old can say so; standard library only.
"""

import os
import re
import sys
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

CANNOT_START = 72
"""Exit status where this Python does not serve; equals :data:`mep.worker.command.CANNOT_START`."""


class Here(NamedTuple):
    """What decides which pyzmq serves a Python."""

    implementation: str
    version: str
    free_threaded: bool
    machine: str
    """As ``x86_64``."""
    glibc: Optional[Tuple[int, int]]
    """None: another C library."""


class Build(NamedTuple):
    """A pyzmq, as the tag of its wheel describes it."""

    tag: str
    minor: int
    """It is for Python 3.minor."""
    newer_too: bool
    machine: str
    glibc: Tuple[int, int]
    """At least."""


_OLDER_PLATFORMS = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
_PLATFORM = re.compile(r"(manylinux1|manylinux2010|manylinux2014|manylinux_\d+_\d+|linux)_(.+)")


class Unserved(Exception):
    """No pyzmq of this runtime serves; the message completes "this Python ..."."""


def build_of(tag: str) -> Optional[Build]:
    """What a wheel's tag says, as ``cp310-cp310-manylinux_2_26_x86_64``; None: not for here.

    https://packaging.python.org/en/latest/specifications/platform-compatibility-tags/
    """
    found = re.match(r"cp3(\d+)-(cp3\1|abi3)-(.+)", tag)
    platforms = found.group(3).split(".") if found else []
    named = [match.groups() for match in map(_PLATFORM.match, platforms) if match]
    if not found or not named:
        return None
    glibc, machine = min((_glibc_of(name), machine) for name, machine in named)
    return Build(tag, int(found.group(1)), found.group(2) == "abi3", machine, glibc)


def _glibc_of(platform: str) -> Tuple[int, int]:
    if platform == "linux":  # built where it is used
        return (0, 0)
    if platform in _OLDER_PLATFORMS:
        return _OLDER_PLATFORMS[platform]
    _, major, minor = platform.split("_")
    return (int(major), int(minor))


def fitting(tags: Sequence[str], here: Here) -> str:
    """The tag of the pyzmq that serves best.

    Raises:
        Unserved: none does.
    """
    builds = [build for build in map(build_of, tags) if build]
    if here.implementation != "CPython":
        raise Unserved("is %s, and pyzmq is here for CPython alone" % here.implementation)
    if here.free_threaded:
        raise Unserved("is free-threaded, and pyzmq is here for Pythons that are not")
    machines = sorted({build.machine for build in builds})
    if here.machine not in machines:
        text = "runs on %s, and pyzmq is here for %s"
        raise Unserved(text % (here.machine, " and ".join(machines) or "no machine"))
    builds = [build for build in builds if build.machine == here.machine]
    served = [build for build in builds if _serves(build, here)]
    if not served:
        raise Unserved("is Python %s, and pyzmq is here for %s" % (here.version, named(builds)))
    loadable = [build for build in served if here.glibc and build.glibc <= here.glibc]
    if not loadable:
        least = min(build.glibc for build in served)
        own = "glibc %d.%d" % here.glibc if here.glibc else "not glibc"
        text = "is Python %s, whose pyzmq needs glibc %d.%d; the C library here is %s"
        raise Unserved(text % (here.version, least[0], least[1], own))
    return max(loadable, key=lambda build: (build.minor, not build.newer_too, build.glibc)).tag


def _serves(build: Build, here: Here) -> bool:
    minor = int(here.version.split(".")[1])
    return build.minor == minor or (build.newer_too and build.minor < minor)


def named(builds: Sequence[Build]) -> str:
    """The Pythons that these serve, as ``Python 3.9, 3.10, 3.12 and newer``."""
    minors: Dict[int, bool] = {}
    for build in builds:
        minors[build.minor] = minors.get(build.minor, False) or build.newer_too
    words = []
    for minor in sorted(minors):
        words.append("3.%d" % minor)
        if minors[minor]:
            return "Python %s and newer" % ", ".join(words)
    return "Python %s" % ", ".join(words) if words else "no Python"


def this_python() -> Here:
    """The one that runs this."""
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        libc = ""
    numbers = re.match(r"glibc (\d+)\.(\d+)", libc)
    return Here(
        sys.implementation.name.replace("cpython", "CPython"),
        "%d.%d.%d" % sys.version_info[:3],
        "t" in getattr(sys, "abiflags", ""),
        os.uname().machine,
        (int(numbers.group(1)), int(numbers.group(2))) if numbers else None,
    )


def main(runtime: str, arguments: List[str]) -> int:
    """Run the node pool of this runtime, a directory or a zip; returns the exit status."""
    packed = not os.path.isdir(runtime)
    try:
        tag = fitting(tags_in_zip(runtime) if packed else tags_in(runtime), this_python())
    except Unserved as error:
        sys.stderr.write("%s\n" % error)
        return CANNOT_START
    if arguments == ["--serves"]:
        return 0
    if not packed:
        return run(runtime, tag)
    import shutil

    home = unpacked(runtime, tag)
    try:
        return run(home, tag)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def tags_in(runtime: str) -> List[str]:
    """The tags of the pyzmqs of a directory."""
    return os.listdir(os.path.join(runtime, "pyzmq"))


def tags_in_zip(runtime: str) -> List[str]:
    """The tags of the pyzmqs of a zip."""
    import zipfile

    with zipfile.ZipFile(runtime) as archive:
        names = [name.split("/") for name in archive.namelist()]
    return sorted({name[1] for name in names if name[0] == "pyzmq"})


def unpacked(archive: str, tag: str) -> str:
    """A private directory, to be removed by the caller, with what this Python needs.

    Raises:
        OSError: there is no room for it.
    """
    import tempfile
    import zipfile

    home = tempfile.mkdtemp(prefix="mep-pool-", dir=executable_directory())
    with zipfile.ZipFile(archive) as files:
        for name in files.namelist():
            if not name.startswith("pyzmq/") or name.startswith("pyzmq/%s/" % tag):
                files.extract(name, home)
    return home


def executable_directory() -> str:
    """TMPDIR or what stands for it; if libraries cannot be loaded there, the working directory."""
    import tempfile

    directory = tempfile.gettempdir()
    forbidden = os.statvfs(directory).f_flag & os.ST_NOEXEC
    return os.getcwd() if forbidden else directory


def run(home: str, tag: str) -> int:
    """The node pool, on our own modules and pyzmq before any other."""
    sys.path[0:1] = [home, os.path.join(home, "pyzmq", tag)]
    from mep.worker.pool import main as pool

    try:
        return pool()
    except ImportError as error:
        if not (error.path or "").startswith(home):
            raise
        text = (
            "no node pool can run on %s: %s cannot load pyzmq: %s; let worker_init bring what is "
            "missing, or another python3\n"
        )
        sys.stderr.write(text % (os.uname().nodename, sys.executable, error))
        return CANNOT_START


if __name__ == "__main__":
    sys.exit(main(os.path.dirname(os.path.abspath(__file__)), sys.argv[1:]))
