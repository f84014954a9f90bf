"""How many workers a node has: the endpoint expects so many, its node pool then says.

Runs on Python 3.8 and newer; standard library only.
"""

from typing import Optional


def workers_of(
    cores: int,
    memory_gb: float,
    accelerators: int,
    max_workers: Optional[int],
    cores_per_worker: Optional[float],
    mem_per_worker: Optional[float],
) -> int:
    """At least 1: as many as every given limit allows; settings as in Parsl's HighThroughput.

    Args:
        cores: that may be used.
        memory_gb: of the node.
        accelerators: that there are to share out, one a worker; 0: none.
        max_workers: at most so many.
        cores_per_worker: may be a fraction; None: cores are no limit.
        mem_per_worker: GB.
    """
    limits = [int(cores / cores_per_worker)] if cores_per_worker else []
    if max_workers is not None:
        limits.append(max_workers)
    if mem_per_worker:
        limits.append(int(memory_gb / mem_per_worker))
    if accelerators:
        limits.append(accelerators)
    return max(1, min(limits, default=cores))
