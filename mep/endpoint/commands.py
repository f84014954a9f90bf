"""``endpoint_setup`` and ``endpoint_teardown``: bash commands around the engine's life."""

import logging
import os
import signal
import subprocess
from typing import Final

from mep.endpoint.errors import StartFailed

log = logging.getLogger(__name__)

SETUP_S: Final = 120.0
TEARDOWN_S: Final = 3.0
"""Below the warden's grace after SIGTERM."""
_TAIL: Final = 500


def set_up(script: str) -> None:
    """Run ``endpoint_setup``.

    Raises:
        StartFailed: it failed or took longer than :data:`SETUP_S`; with the end of its output.
    """
    status, output = _run(script, SETUP_S)
    if status != 0:
        raise StartFailed(f"endpoint_setup {_ended(status, SETUP_S)}: {output[-_TAIL:].strip()}")


def tear_down(script: str) -> None:
    """Run ``endpoint_teardown``; what goes wrong is logged."""
    status, output = _run(script, TEARDOWN_S)
    if status != 0:
        log.warning("endpoint_teardown %s: %s", _ended(status, TEARDOWN_S), output[-_TAIL:].strip())


def _ended(status: int | None, bound_s: float) -> str:
    return f"ended with status {status}" if status is not None else f"took more than {bound_s:g} s"


def _run(script: str, bound_s: float) -> tuple[int | None, str]:
    """Exit status (None: out of time) and output."""
    with subprocess.Popen(
        ["/bin/bash", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        errors="replace",
    ) as process:
        try:
            output, _ = process.communicate(timeout=bound_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            return None, output
    return process.returncode, output
