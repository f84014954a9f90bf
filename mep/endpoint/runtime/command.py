"""The command that starts a node pool on a node of which nothing is known. Pure.

It goes into scripts of batch systems and launchers, some of which have a shell expand it on the way
(a here-document): so there is no ``$``, backquote or backslash in it but for what a path brings.
"""

import shlex
from typing import Final

CANNOT_START: Final = 72
"""Exit status where no node pool can run."""

_CHECK: Final = "import sys, mep; sys.exit(mep.__version__ != sys.argv[1])"


def command(python: str, version: str, start: str | None, pool_file: str) -> list[str]:
    """A node pool from the endpoint's own installation, else from a runtime, else from the image.

    Args:
        python: the endpoint's own; it serves where it is there with the same version of MEP.
        version: that version.
        start: path of a runtime's ``start``, or of one that was carried, and may yet not be there;
            None: there is none.
        pool_file: path of the pool's settings.
    """
    own, file = map(shlex.quote, (python, pool_file))
    lines = (
        f"{own} -I -c {shlex.quote(_CHECK)} {version} 2>/dev/null && "
        f"exec {own} -I -m mep.worker.pool {file}",
        *([] if start is None else [_from_runtime(shlex.quote(start), file, version)]),
        f"command -v mep-pool >/dev/null 2>&1 && exec mep-pool {file} {version}",
        f"echo {shlex.quote(_missing(python, version, start))} >&2",
        f"exit {CANNOT_START}",
    )
    return ["/bin/sh", "-c", "; ".join(lines)]


def _from_runtime(runtime: str, file: str, version: str) -> str:
    return f"test -r {runtime} && exec sh {runtime} {file} {version}"


def _missing(python: str, version: str, start: str | None) -> str:
    nothing = f"No node pool can run on this machine: there is no MEP {version} at {python}"
    if start is None:
        return f"{nothing} and no mep-pool on PATH. Use an image that has hpc-mep[endpoint]."
    return (
        f"{nothing}, no runtime at {start} and no mep-pool on PATH. Set engine.runtime_dir to a "
        "directory that the compute nodes see too, or use an image that has hpc-mep[endpoint]."
    )
