"""What not even a block that has just begun has the nodes or the time for. Pure.

What is asked of a batch system is not always what it gives: fewer nodes, and a node pool takes its
time to come up. A task that waits for more would have one block after another come, and end idle.
"""

import math

from mep.endpoint.interchange.events import PoolUp
from mep.endpoint.interchange.request import Request


def too_much(request: Request, block: PoolUp, now: float) -> str:
    """Why a task can run on no block, as a sentence for the user; empty: it can on this one."""
    wanted, nodes = request.num_nodes, len(block.nodes)
    if block.nodes and wanted > nodes:
        return (
            f"The task asks for {wanted} nodes, and a new block of this endpoint has come up with "
            f"{nodes}, fewer than its nodes_per_block. Ask for at most {nodes}, or ask the "
            "endpoint's administrator to see to what its provider asks the batch system for."
        )
    if request.walltime_s is None or block.ends_at is None:
        return ""
    left = block.ends_at - now
    if request.walltime_s > left:
        return (
            f"The task needs {request.walltime_s:g} seconds (its walltime), and a new block of "
            f"this endpoint had {math.floor(left)} left when its node pool came up, so that none "
            "could ever run it; ask for less, or for blocks with a longer walltime."
        )
    return ""
