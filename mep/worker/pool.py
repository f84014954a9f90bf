"""Entry of the node pool: ``python -I -m mep.worker.pool SETTINGS``, a process of the user's.

SETTINGS is one JSON object, see :class:`mep.worker.node.Settings`. The order of things is the
reason for this module: the fork server is forked while the process is small and has no thread,
and imports dill while this process imports zmq.
"""

import json
import os
import sys
from typing import Any, Dict, Optional

from mep.worker.forkserver import ForkServer


def main() -> int:
    """Run a node pool to its end, and return its exit status."""
    settings: Dict[str, Any] = json.loads(sys.argv[1])
    if settings["lifeline"] is not None:
        os.set_inheritable(settings["lifeline"], False)
    os.makedirs(settings["working_dir"], mode=0o700, exist_ok=True)
    forks: Optional[ForkServer] = None
    if settings["mode"] == "process":
        forks = ForkServer.launch(
            {"directory": settings["working_dir"], "limits": settings["limits"]}
        )
    from mep.worker.node import NodePool, Settings

    return NodePool(Settings(**settings), forks).run()


if __name__ == "__main__":
    sys.exit(main())
