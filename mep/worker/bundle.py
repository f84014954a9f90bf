"""The zip that a worker of another Python runs from: its modules, the payload's, and dill."""

import hashlib
import importlib.util
import io
import os
import tempfile
import zipfile
from typing import Dict

MODULES = (
    "mep/__init__.py",
    "mep/bytecode.py",
    "mep/payload.py",
    "mep/wire/__init__.py",
    "mep/wire/frames.py",
    "mep/worker/__init__.py",
    "mep/worker/alone.py",
    "mep/worker/channel.py",
    "mep/worker/command.py",
    "mep/worker/execute.py",
    "mep/worker/recent.py",
    "mep/worker/tickets.py",
    "mep/worker/worker.py",
)

# Syntax of any Python, so that one that is too old can say so.
_MAIN = b"""\
import sys
if sys.version_info < (3, 8):
    sys.stderr.write("the worker's Python is %s: 3.8 is the oldest that serves\\n" % sys.version)
    sys.exit(72)
from mep.worker.alone import main
main()
"""


def bundle(directory: str) -> str:
    """The path of the zip in `directory`, made there unless it is the same already."""
    files = contents()
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(b"%s\0%d\0" % (name.encode(), len(files[name])) + files[name])
    path = os.path.join(directory, "worker-%s.zip" % digest.hexdigest()[:16])
    if not os.path.exists(path):
        _write(path, packed(files))
    return path


def contents() -> Dict[str, bytes]:
    """What lies in the zip, by name."""
    files = {"__main__.py": _MAIN}
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    for name in MODULES:
        files[name] = _read(os.path.join(home, name))
    found = importlib.util.find_spec("dill")
    assert found is not None, "dill is installed"
    assert found.origin is not None, "dill is a package"
    dills = os.path.dirname(found.origin)
    for name in os.listdir(dills):
        if name.endswith(".py"):
            files["dill/" + name] = _read(os.path.join(dills, name))
    return files


def packed(files: Dict[str, bytes]) -> bytes:
    """A zip of these files."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(name, files[name])
    return made.getvalue()


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: str, data: bytes) -> None:
    """Two pools may do this at once: the file appears whole."""
    descriptor, fresh = tempfile.mkstemp(dir=os.path.dirname(path))
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    os.replace(fresh, path)
