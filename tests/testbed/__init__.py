"""Real components of an HPC site on one machine, for tests and for `bench`.

Plain classes that know nothing of pytest; the fixtures are in ``tests/conftest.py``. All but
`postgres` and `slapd` need root.

=============  ====================================================================================
`machines`     a simulated machine: host name, process tree and mounts of its own, ended as one
`slurm`        a Slurm cluster of such machines
`slurm_conf`   its configuration files, as text
`accounting`   slurmdbd over a private MariaDB, for `sacct`
`mpi`          Open MPI and MPICH, and a program compiled with each
`postgres`     a PostgreSQL server (needs no root)
`slapd`        an OpenLDAP server (needs no root)
=============  ====================================================================================
"""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def until(condition: Callable[[], Value], what: str, seconds: float = 60.0) -> Value:
    """The condition's first true value.

    Raises:
        TimeoutError: it does not come in time; the message says `what` was waited for.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s in vain: {what}")
        time.sleep(0.02)
    return value
