"""A directory that stands for the user endpoint's own, where no file system is shared with it."""

import contextlib
import os
from typing import Any, Dict, Iterator

DIRECTORIES = ("begun", "workers")
"""What the user endpoint makes in its own."""


@contextlib.contextmanager
def with_directory(settings: Dict[str, Any]) -> Iterator[None]:
    """While this lasts, ``directory`` of the settings is one that is here.

    Where the user endpoint's is not, that is a private one below TMPDIR, and ``working_dir`` lies
    in it too if it was to lie in the other. It is removed at the end, with all that tasks left
    there.
    """
    theirs = settings["directory"]
    if all(os.path.isdir(os.path.join(theirs, name)) for name in DIRECTORIES):
        yield
        return
    import shutil
    import tempfile

    ours = tempfile.mkdtemp(prefix="mep-node-")
    try:
        for name in DIRECTORIES:
            os.mkdir(os.path.join(ours, name), 0o700)
        settings["directory"] = ours
        settings["working_dir"] = moved(settings["working_dir"], theirs, ours)
        yield
    finally:
        shutil.rmtree(ours, ignore_errors=True)


def moved(path: str, theirs: str, ours: str) -> str:
    """The place of `path` in `ours` if it lies in `theirs`, else itself."""
    inner = os.path.relpath(path, theirs)
    return path if inner.split(os.sep)[0] == os.pardir else os.path.join(ours, inner)
