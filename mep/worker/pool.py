"""Entry of the node pool: ``python -I -m mep.worker.pool SETTINGS``, a process of the user's.

SETTINGS is one JSON object, see :class:`mep.worker.node.Settings`. The order of things is the
reason for this module: the fork server is forked while the process is small and has no thread,
and imports dill while this process imports zmq.
"""

import json
import os
import sys
from typing import Any, Dict, List, Optional

from mep.worker.command import chosen_python, worker_command
from mep.worker.forkserver import ForkServer


def main() -> int:
    """Run a node pool to its end, and return its exit status."""
    settings: Dict[str, Any] = json.loads(sys.argv[1])
    if settings["lifeline"] is not None:
        os.set_inheritable(settings["lifeline"], False)
    os.makedirs(settings["working_dir"], mode=0o700, exist_ok=True)
    forks: Optional[ForkServer] = None
    if settings["mode"] == "process":
        told = {
            "directory": settings["working_dir"],
            "limits": settings["limits"],
            "submitted": settings["submitted"],
        }
        forks = ForkServer.launch(told, _command(settings, told))
    from mep.worker.node import NodePool, Settings

    return NodePool(Settings(**settings), forks).run()


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
