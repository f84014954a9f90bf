"""What a node pool is told at its start, by a file of the user endpoint (``pool.json``).

Runs on Python 3.8 and newer; standard library only.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Union


class Settings(NamedTuple):
    """What a node pool is told at its start."""

    directory: str
    """The user endpoint's private directory: ``begun/``, ``workers/``."""
    connect: Dict[str, Any]
    """Where the interchange is, see :mod:`mep.worker.upstream`."""
    block_id: str
    mode: str
    """``process`` or ``thread``."""
    max_workers: Optional[int]
    """The node has at most so many; this and what follows: see :mod:`mep.worker.layout`."""
    cores_per_worker: Optional[float]
    mem_per_worker: Optional[float]
    """GB."""
    cpu_affinity: str
    """``none``, ``block``, ``block-reverse``, ``alternating`` or ``list:0,1:2-3``."""
    accelerators: Union[int, List[str], None]
    prefetch: int
    """Tasks that it takes beyond its workers."""
    terms: Dict[str, Any]
    """See :class:`mep.worker.execute.Terms`."""
    working_dir: str
    run_in_sandbox: bool
    """Each task in a directory of its own below `working_dir`."""
    walltime_s: float
    """What a task may take; 0: any time."""
    worker_python: str
    """Command of the workers' Python; empty: this process's, or what `path_before` tells."""
    path_before: Optional[str]
    """PATH before ``worker_init``; None where there was none."""
    container: Optional[Dict[str, str]]
    """Where workers run, see :class:`mep.worker.containers.Container`; None: beside the pool."""
    lifeline: Optional[int]
    """Descriptor of a pipe that the user endpoint holds open for as long as it lives."""
    heartbeat_period: float
    heartbeat_threshold: float
    ends_at: Optional[float] = None
    """Epoch seconds at which the batch system ends this job; None: not known."""
