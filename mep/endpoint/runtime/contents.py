"""Which files a runtime has."""

from dataclasses import dataclass
from pathlib import Path

import mep
from mep import sources
from mep.endpoint.runtime import pyzmq

_MODULES = ("mep/__init__.py", "mep/bytecode.py", "mep/shell.py", "mep/sources.py")
_PACKAGES = ("mep/payload", "mep/wire", "mep/worker")
"""The pool needs some of :mod:`mep.wire`: what is standard library alone."""
_START = Path(__file__).with_name("start.sh")


@dataclass(frozen=True)
class Contents:
    """A runtime."""

    name: str
    """Version and digest: other content, another name."""
    files: dict[str, bytes]


def contents(wheels: Path = pyzmq.WHEELS) -> Contents:
    """The runtime of this installation.

    Args:
        wheels: see :func:`mep.endpoint.runtime.pyzmq.builds`.

    Raises:
        RuntimeUnavailable: see there.
    """
    files = sources.modules(_MODULES) | sources.dill()
    for package in _PACKAGES:
        files |= sources.modules_in(package)
    files["__main__.py"] = files["mep/worker/boot.py"]
    files["start"] = start()
    for tag, build in pyzmq.builds(wheels).items():
        files |= {f"pyzmq/{tag}/{name}": data for name, data in build.items()}
    return Contents(f"{mep.__version__}-{sources.digest(files)}", files)


def start() -> bytes:
    """The shell lines that choose a Python on the node."""
    return _START.read_bytes()
