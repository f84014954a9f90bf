"""Entry of the node pool: ``python -I -m mep.worker.pool SETTINGS``, a process of the user's.

SETTINGS is one JSON object, see :class:`mep.worker.node.Settings`. The order of things is the
reason for this module: the fork server is forked while the process is small and has no thread,
and imports dill while this process imports zmq.
"""

import json
import os
import socket
import sys
from typing import Any, Dict, List, Optional

from mep.worker.command import chosen_python, worker_command
from mep.worker.forkserver import ForkServer
from mep.worker.layout import LayoutError, Node, layout

WORKERS_SETTINGS = ("working_dir", "run_in_sandbox", "terms")
"""What workers are told too, see :func:`mep.worker.worker.main`."""


def main() -> int:
    """Run a node pool to its end, and return its exit status."""
    settings: Dict[str, Any] = json.loads(sys.argv[1])
    if settings["lifeline"] is not None:
        os.set_inheritable(settings["lifeline"], False)
    os.makedirs(settings["working_dir"], mode=0o700, exist_ok=True)
    os.environ["HOSTNAME"] = socket.gethostname()
    try:
        shares = layout(_this_node(), settings)
    except LayoutError as error:
        sys.exit(str(error))
    settings["walltime_s"] = _walltime(os.environ.get("GC_TASK_TIMEOUT", ""))
    forks: Optional[ForkServer] = None
    if settings["mode"] == "process":
        told = {name: settings[name] for name in WORKERS_SETTINGS}
        forks = ForkServer.launch(told, shares, _command(settings, told))
    from mep.worker.node import NodePool, Settings

    return NodePool(Settings(**settings), len(shares), forks).run()


def _walltime(text: str) -> float:
    try:
        return max(float(text or 0), 0.0)
    except ValueError:
        sys.exit("GC_TASK_TIMEOUT is %r, which is no number of seconds" % text)


def _this_node() -> Node:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Node(sorted(os.sched_getaffinity(0)), memory / 2**30)


def _command(settings: Dict[str, Any], told: Dict[str, Any]) -> Optional[List[str]]:
    """How workers are started; None: by a fork of this very Python."""
    path = os.environ.get("PATH", os.defpath)
    python = chosen_python(settings["worker_python"], settings["path_before"], path)
    if not python:
        return None
    from mep.worker.bundle import bundle

    return worker_command(python, bundle(settings["directory"]), told)


if __name__ == "__main__":
    sys.exit(main())
