"""The nodes of the batch job that this process is in, as batch systems tell. Pure but for files.

Variables and files: Slurm's sbatch(1), PBS's qsub(1B), LSF's "Environment variables set for job
execution", Cobalt's qsub, Grid Engine's sge_pe(5).
"""

import itertools
import re
from typing import Callable, Iterable, List, Mapping, Sequence, Tuple

_PART = re.compile(r"[^\[\],]+|\[[^\]]*\]")
_NODE_FILES = ("PBS_NODEFILE", "COBALT_NODEFILE", "LSB_DJOB_HOSTFILE")
_WITH_COLUMNS = "PE_HOSTFILE"


class NodesError(ValueError):
    """The batch system's list of nodes cannot be used; the message is a sentence."""


def job_nodes(
    environment: Mapping[str, str], hostname: str, read: Callable[[str], str]
) -> List[str]:
    """Each node once, in the batch system's order; outside of a batch job this one.

    Args:
        environment: of the job.
        hostname: this node's name.
        read: the text of a file by its path.

    Raises:
        NodesError: a list that cannot be read.
    """
    compact = environment.get("SLURM_JOB_NODELIST") or environment.get("SLURM_NODELIST")
    if compact:
        return expanded(compact)
    try:
        for name in _NODE_FILES:
            if environment.get(name):
                return _each_once(read(environment[name]).split())
        if environment.get(_WITH_COLUMNS):
            lines = read(environment[_WITH_COLUMNS]).splitlines()
            return _each_once(line.split()[0] for line in lines if line.strip())
    except OSError as error:
        raise NodesError("The batch system's list of nodes cannot be read: %s" % error) from error
    if environment.get("LSB_MCPU_HOSTS"):  # name, slots, name, slots ...
        return _each_once(environment["LSB_MCPU_HOSTS"].split()[::2])
    if environment.get("LSB_HOSTS"):
        return _each_once(environment["LSB_HOSTS"].split())
    return [hostname]


def expanded(compact: str) -> List[str]:
    """``n1, n2, n3, n7, gpu-a0`` of ``n[1-3,7],gpu-a0``; several brackets are a product.

    Raises:
        NodesError: brackets that do not match, a range that is none.
    """
    names: List[str] = []
    for piece in _split(compact):
        parts = [_choices(part) for part in _PART.findall(piece)]
        names += ("".join(chosen) for chosen in itertools.product(*parts))
    return _each_once(names)


def _split(compact: str) -> Iterable[str]:
    """At the commas that are not in brackets."""
    depth, start = 0, 0
    for at, character in enumerate(compact):
        depth += {"[": 1, "]": -1}.get(character, 0)
        if depth not in (0, 1):
            break
        if character == "," and not depth:
            yield compact[start:at]
            start = at + 1
    if depth:
        raise NodesError("%r is no list of nodes: its brackets do not match" % compact)
    yield compact[start:]


def _choices(part: str) -> Sequence[str]:
    if not part.startswith("["):
        return [part]
    chosen: List[str] = []
    for piece in part[1:-1].split(","):
        first, last = _range(piece)
        chosen += (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
    return chosen


def _range(piece: str) -> Tuple[str, str]:
    first, dash, last = piece.partition("-")
    if not first.isdigit() or (dash and not last.isdigit()):
        raise NodesError("%r is no range of numbers in a list of nodes" % piece)
    return first, last or first


def _each_once(names: Iterable[str]) -> List[str]:
    return list(dict.fromkeys(name for name in names if name))
