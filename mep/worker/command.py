"""Workers by command: the argv of a worker that runs on a Python of its own, and becoming it.

The worker finds its end of the channel at descriptor :data:`CHANNEL`, and runs from the zip of
:mod:`mep.worker.bundle`.
"""

import contextlib
import fcntl
import json
import os
from typing import Any, Dict, List, NoReturn, Optional, Sequence

CHANNEL = 3

CANNOT_START = 72
"""Exit status of a worker whose Python cannot be started, or is too old."""


def chosen_python(wanted: str, path_before: Optional[str], path: str) -> str:
    """The Python that workers shall have; empty: the one that the node pool has.

    Args:
        wanted: ``worker_python`` of the engine.
        path_before: PATH before ``worker_init``; None where there was none.
        path: PATH after it.
    """
    if wanted or path_before is None:
        return wanted
    import shutil

    now = shutil.which("python3", path=path)
    return now if now and now != shutil.which("python3", path=path_before) else ""


def worker_command(python: str, bundle: str, told: Dict[str, Any]) -> List[str]:
    """The command of a worker.

    Args:
        python: name or path of an interpreter.
        bundle: path of the zip.
        told: see :func:`mep.worker.worker.main`.
    """
    return [python, "-I", bundle, json.dumps(told)]


def become(command: Sequence[str], channel: int, log: int) -> NoReturn:
    """Turn this process into a worker; the descriptors are those of :func:`mep.worker.worker.main`.

    A command that cannot be run is said in the log, and this process ends with CANNOT_START.
    """
    nothing = os.open(os.devnull, os.O_RDONLY)
    # Out of the way first, so that none lies where another one is about to be put.
    sources = [
        fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 10) for number in (nothing, log, log, channel)
    ]
    try:
        for number, source in enumerate(sources):
            os.dup2(source, number, inheritable=True)
        os.execvp(command[0], list(command))  # noqa: S606 - argv, as everywhere
    except OSError as error:
        text = "the worker's Python %s cannot be started: %s\n" % (command[0], error.strerror)
        with contextlib.suppress(OSError):
            os.write(2, text.encode("utf-8", "backslashreplace"))
    os._exit(CANNOT_START)
