"""Files of this installation that travel: our own modules, and dill; and zips of them.

Workers of another Python run from such a zip, node pools on other machines from a runtime that has
these files. Runs on Python 3.8 and newer; standard library only.
"""

import hashlib
import importlib.util
import io
import os
import zipfile
from typing import Dict, Iterable

_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file in a zip: the same files make the same bytes."""


def modules(names: Iterable[str]) -> Dict[str, bytes]:
    """Files of ours by their names, as ``mep/bytecode.py``."""
    return {name: _read(os.path.join(_HOME, name)) for name in names}


def modules_in(package: str) -> Dict[str, bytes]:
    """All modules of a package of ours, by name."""
    names = os.listdir(os.path.join(_HOME, package))
    return modules(package + "/" + name for name in names if name.endswith(".py"))


def dill() -> Dict[str, bytes]:
    """The modules of dill, by name."""
    found = importlib.util.find_spec("dill")
    assert found is not None, "dill is installed"
    assert found.origin is not None, "dill is a package"
    home = os.path.dirname(found.origin)
    names = [name for name in os.listdir(home) if name.endswith(".py")]
    return {"dill/" + name: _read(os.path.join(home, name)) for name in names}


def digest(files: Dict[str, bytes]) -> str:
    """16 hexadecimal digits that name exactly these files."""
    made = hashlib.sha256()
    for name in sorted(files):
        made.update(b"%s\0%d\0" % (name.encode(), len(files[name])) + files[name])
    return made.hexdigest()[:16]


def packed(files: Dict[str, bytes]) -> bytes:
    """A zip of these files."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name])
    return made.getvalue()


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
