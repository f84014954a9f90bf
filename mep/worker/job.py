"""What a node pool knows of the batch job that it is part of. Pure.

The job's script says when it began and what PATH was before ``worker_init``, in variables that the
pool takes out of its environment: they are none of the functions' business.
"""

from typing import MutableMapping, Optional

BEGAN = "MEP_BLOCK_BEGAN"
"""Epoch seconds, by the clock of the job's first node."""
PATH_BEFORE = "MEP_PATH_BEFORE"
SLURM_END = "SLURM_JOB_END_TIME"
"""Slurm's own knowledge of the job's end, which an administrator may have altered."""


def ends_at(
    environment: MutableMapping[str, str], walltime_s: Optional[float], now: float
) -> Optional[float]:
    """Epoch seconds at which the batch system ends this job; None: that is not known.

    Args:
        environment: the pool's; our own variable is taken out of it.
        walltime_s: what the job was granted.
        now: epoch seconds.
    """
    began = _number(environment.pop(BEGAN, ""))
    if walltime_s is None:
        return None
    told = _number(environment.get(SLURM_END, ""))
    if told is not None and told > now:
        return told
    return (now if began is None else began) + walltime_s


def path_before(environment: MutableMapping[str, str], told: Optional[str]) -> Optional[str]:
    """PATH before ``worker_init``: as the job's script saw it, else as the endpoint has `told`."""
    seen = environment.pop(PATH_BEFORE, None)
    return told if told is None or seen is None else seen


def _number(text: str) -> Optional[float]:
    try:
        return float(text)
    except ValueError:
        return None
