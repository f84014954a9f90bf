"""How tasks end that no worker finished, and in which words."""

import os
import signal
import time

from mep.worker.command import CANNOT_START
from mep.worker.execute import Outcome
from mep.worker.memory import readable
from mep.worker.worker import CANNOT_SPEAK

LOG_TAIL = 4096


def cancelled(task_id: str, began: float) -> Outcome:
    """The outcome of a task that was cancelled; `began` is 0 when no worker had it."""
    return [
        task_id,
        "cancelled",
        "CANCELLED",
        "The task was cancelled.",
        "",
        began,
        time.time(),
    ], b""


def describe(status: int, cause: str) -> str:
    """How a worker ended, in words; see :class:`mep.worker.forkserver.Exit`."""
    if os.WIFSIGNALED(status):
        return _by_signal(os.WTERMSIG(status), cause)
    code = os.WEXITSTATUS(status)
    if code == CANNOT_SPEAK:
        return "ended because the function closed the worker's own descriptors"
    if code == CANNOT_START:
        return "could not be started; the end of its output says why"
    return "exited with status %d before the function returned" % code


def _by_signal(number: int, cause: str) -> str:
    words = "was ended by signal %d (%s)" % (number, signal_name(number))
    what, _, size = cause.partition("=")
    if what == "memory":
        limit = " (a node's workers may have %s together)" % readable(int(size)) if size else ""
        return (
            "%s because memory ran out%s. Use less, or ask for more memory or for fewer workers "
            "that share it (mem_per_worker, max_workers_per_node)"
        ) % (words, limit)
    if what == "dropped":
        return (
            "was ended because it had left the node pool: the function replaced the process by "
            "another program (exec), or closed the worker's own descriptors"
        )
    if number == signal.SIGKILL:
        return words + ", as the kernel does when memory runs out"
    if number == signal.SIGXCPU:
        return words + ": it had all the CPU time that a process may have (ulimit -t)"
    return words


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return "real-time signal"


def tail(path: str, start: int) -> str:
    """The last of what was written to a log from `start` on; empty where there is none."""
    try:
        with open(path, "rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(start, end - LOG_TAIL))
            return log.read(LOG_TAIL).decode("utf-8", "replace")
    except OSError:
        return ""
