"""The pyzmqs that go into a runtime: wheels that were put aside for it, and the installed one."""

import importlib.metadata
import importlib.util
import re
import sys
import sysconfig
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Final

from mep.endpoint.runtime.errors import RuntimeUnavailable

WHEELS: Final = Path(sys.prefix, "share", "mep", "runtime")
"""Where an installation keeps the wheels of pyzmq for the Pythons of compute nodes."""

OLDEST: Final = (27, 3)
"""What ``pyproject.toml`` demands of the installed one."""

_WHEEL: Final = re.compile(r"pyzmq-([0-9.]+)-(cp3[0-9]+-[a-z0-9]+-[a-zA-Z0-9_.]+)\.whl")
_NEEDED: Final = re.compile(
    r"zmq/([a-z_]+|(backend|sugar|utils)/\w+|backend/cython/__init__)\.py"
    r"|zmq/backend/cython/_zmq\.[\w.-]+\.so"
    r"|pyzmq\.libs/[\w.+-]+"
)
"""Of pyzmq, what a client needs."""


def builds(wheels: Path) -> dict[str, dict[str, bytes]]:
    """The needed files of each pyzmq, by the tag of its wheel, then by name.

    Args:
        wheels: a directory; the newest wheel of a tag counts, and there may be none at all.

    Raises:
        RuntimeUnavailable: a wheel that cannot be read.
    """
    found = {tag: _of_wheel(wheel) for tag, wheel in _wheels(wheels).items()}
    for tag in _installed_too(found):
        found[tag] = _installed()
    return found


def tags(wheels: Path = WHEELS) -> list[str]:
    """The tags of :func:`builds`."""
    found = list(_wheels(wheels))
    return [*found, *_installed_too(found)]


def _wheels(directory: Path) -> dict[str, Path]:
    """The newest wheel of each tag."""
    named = [(_WHEEL.fullmatch(path.name), path) for path in directory.glob("*.whl")]
    versions = [
        (tuple(map(int, match[1].split("."))), match[2], path) for match, path in named if match
    ]
    return {tag: path for version, tag, path in sorted(versions) if version >= OLDEST}


def _installed_too(found: Collection[str]) -> list[str]:
    """The tag of the installed one, unless there is a wheel for this Python."""
    python, abi, _ = installed_tag().split("-", 2)
    covered = any(tag.startswith(f"{python}-{abi}-") for tag in found)
    return [] if covered else [installed_tag()]


def _of_wheel(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist() if _NEEDED.fullmatch(name)}
    except (OSError, zipfile.BadZipFile) as error:
        raise RuntimeUnavailable(
            f"The wheel {path} for node pools cannot be read: {error}; the administrator must "
            "fetch it anew or remove it."
        ) from error


def installed_tag() -> str:
    """The tag of the pyzmq that this Python imports, with all platforms that it declares.

    A pyzmq that came by no wheel was built for this Python and this machine.
    """
    text = importlib.metadata.distribution("pyzmq").read_text("WHEEL") or ""
    tags = [tag.split("-", 2) for tag in re.findall(r"^Tag: (\S+)$", text, re.MULTILINE)]
    if tags:
        return "-".join((*tags[0][:2], ".".join(platform for *_, platform in tags)))
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    platform = re.sub("[^a-z0-9_]", "_", sysconfig.get_platform())
    return f"{python}-{python}-{platform}"


def _installed() -> dict[str, bytes]:
    found = importlib.util.find_spec("zmq")
    assert found is not None, "pyzmq is installed"
    assert found.origin is not None, "pyzmq is a package"
    top = Path(found.origin).parents[1]
    paths = [path for part in ("zmq", "pyzmq.libs") for path in (top / part).rglob("*")]
    named = {str(path.relative_to(top)): path for path in paths}
    return {name: path.read_bytes() for name, path in named.items() if _NEEDED.fullmatch(name)}
