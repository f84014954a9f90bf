"""Ends the steps that run on some nodes of a Slurm job, and returns when they are gone.

A process of its own, so that a slow controller holds up nobody: ``main`` takes one argument, JSON
with ``job`` and ``nodes``. What cannot be asked is asked again, until the job itself is gone.
"""

import json
import subprocess
import sys
import time
from typing import List, Optional, Sequence

from mep.worker.job_nodes import expanded

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0
_COMMAND_S = 60.0
_OURS = ("batch", "extern", "interactive")
"""Steps that are no launcher's; their ids are words."""


def main() -> int:
    """Sweep, and return the exit status."""
    told = json.loads(sys.argv[1])
    pause_s = _FIRST_PAUSE_S
    while True:
        listing = listed(told["job"])
        steps = None if listing is None else steps_on(listing, told["nodes"])
        if steps == []:
            return 0
        for step in steps or ():
            _run(["scancel", "--signal=KILL", step])
        time.sleep(pause_s)  # Slurm tells nobody of the end of a step: it has to be asked again
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


def listed(job: str) -> Optional[str]:
    """What ``squeue`` says of the job's steps; None: it could not be asked."""
    return _run(["squeue", "--noheader", "--steps", "--jobs=" + job, "--format=%i|%N"])


def steps_on(listing: str, nodes: Sequence[str]) -> List[str]:
    """Ids of the steps that have one of these nodes, from lines as ``12.3|n[1-2]``."""
    found = []
    for line in listing.splitlines():
        step, _, compact = line.strip().partition("|")
        number = step.partition(".")[2]
        if number and number not in _OURS and set(expanded(compact)) & set(nodes):
            found.append(step)
    return found


def _run(argv: List[str]) -> Optional[str]:
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=_COMMAND_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode() if done.returncode == 0 else None
