"""The zip that a worker of another Python runs from: its modules, the payload's, and dill."""

import os
import tempfile
from typing import Dict

from mep.sources import digest, dill, modules, packed

MODULES = (
    "mep/__init__.py",
    "mep/bytecode.py",
    "mep/payload/__init__.py",
    "mep/payload/buffers.py",
    "mep/payload/calls.py",
    "mep/payload/code.py",
    "mep/payload/data.py",
    "mep/payload/errors.py",
    "mep/payload/pickles.py",
    "mep/payload/raw.py",
    "mep/shell.py",
    "mep/wire/__init__.py",
    "mep/wire/frames.py",
    "mep/wire/stream.py",
    "mep/wire/node.py",
    "mep/worker/__init__.py",
    "mep/worker/account.py",
    "mep/worker/alone.py",
    "mep/worker/begun.py",
    "mep/worker/channel.py",
    "mep/worker/command.py",
    "mep/worker/execute.py",
    "mep/worker/inside.py",
    "mep/worker/keep.py",
    "mep/worker/layout.py",
    "mep/worker/memory.py",
    "mep/worker/recent.py",
    "mep/worker/server.py",
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
    path = os.path.join(directory, "worker-%s.zip" % digest(files))
    if not os.path.exists(path):
        _write(path, packed(files))
    return path


def contents() -> Dict[str, bytes]:
    """What lies in the zip, by name."""
    return {"__main__.py": _MAIN, **modules(MODULES), **dill()}


def _write(path: str, data: bytes) -> None:
    """Two pools may do this at once: the file appears whole."""
    descriptor, fresh = tempfile.mkstemp(dir=os.path.dirname(path))
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    os.replace(fresh, path)
