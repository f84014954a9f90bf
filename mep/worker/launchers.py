"""Command prefixes of MPI launchers, and the variables that hand them to functions. Pure.

The variables are Parsl's (``PARSL_MPI_PREFIX`` and others), which functions of users know. A prefix
is text for a shell, as in ``$PARSL_MPI_PREFIX ./program``: it is split at blanks there, and quotes
in it would not be understood. So no word of it has any; the endpoint refuses options that do.
"""

import re
import shlex
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence

LAUNCHERS = ("srun", "mpiexec", "aprun", "flux")

OPEN_MPI = "openmpi"
HYDRA = "hydra"
"""MPICH's mpiexec, and those of Intel, Cray PALS and MVAPICH, which take the same options."""


class Shape(NamedTuple):
    """What is to be launched."""

    nodes: Sequence[str]
    ranks_per_node: int
    options: str
    """Shell words, the user's."""

    @property
    def ranks(self) -> int:
        """Of all nodes together."""
        return len(self.nodes) * self.ranks_per_node


def variables(launcher: str, flavour: str, shape: Shape) -> Dict[str, str]:
    """The variables of a task.

    Args:
        launcher: one of LAUNCHERS.
        flavour: of ``mpiexec``, OPEN_MPI or HYDRA.
        shape: what is to be launched.
    """
    prefixes = {
        "PARSL_SRUN_PREFIX": text(srun(shape), shape.options),
        "PARSL_MPIEXEC_PREFIX": text(mpiexec(shape, flavour), shape.options),
        "PARSL_APRUN_PREFIX": text(aprun(shape), shape.options),
        "PARSL_FLUX_PREFIX": text(flux(shape), shape.options),
    }
    options = {"PARSL_LAUNCHER_OPTIONS": shape.options} if shape.options else {}
    return {
        **prefixes,
        **options,
        "PARSL_MPI_PREFIX": prefixes["PARSL_%s_PREFIX" % launcher.upper()],
        "PARSL_NUM_NODES": str(len(shape.nodes)),
        "PARSL_RANKS_PER_NODE": str(shape.ranks_per_node),
        "PARSL_NUM_RANKS": str(shape.ranks),
        "PARSL_MPI_NODELIST": ",".join(shape.nodes),
    }


def text(argv: Sequence[str], options: str) -> str:
    """Words for a shell that does not look at quotes in what it splits; options come last."""
    return " ".join([*argv, *shlex.split(options)])


def srun(shape: Shape) -> List[str]:
    """Slurm. Tasks share a job: none may wait for what another was given as a whole.

    ``--overlap``: a step takes no CPU away from others; which nodes are whose is decided already.
    ``--mem=0``: nor any memory.
    """
    return [
        "srun",
        "--overlap",
        "--mem=0",
        "--nodes=%d" % len(shape.nodes),
        "--ntasks=%d" % shape.ranks,
        "--ntasks-per-node=%d" % shape.ranks_per_node,
        "--nodelist=%s" % ",".join(shape.nodes),
    ]


def mpiexec(shape: Shape, flavour: str) -> List[str]:
    """Open MPI or Hydra: they name hosts, and ranks on each, differently."""
    if flavour == OPEN_MPI:
        hosts = ",".join("%s:%d" % (node, shape.ranks_per_node) for node in shape.nodes)
        return [
            "mpiexec", "-n", str(shape.ranks), "--host", hosts,
            "--map-by", "ppr:%d:node" % shape.ranks_per_node, "--oversubscribe",
        ]  # fmt: skip
    return [
        "mpiexec", "-n", str(shape.ranks), "-ppn", str(shape.ranks_per_node),
        "-hosts", ",".join(shape.nodes),
    ]  # fmt: skip


def aprun(shape: Shape) -> List[str]:
    """Cray ALPS, whose manual page calls candidate nodes ``-L`` (Parsl writes ``-node-list``)."""
    return [
        "aprun", "-n", str(shape.ranks), "-N", str(shape.ranks_per_node),
        "-L", ",".join(shape.nodes),
    ]  # fmt: skip


def flux(shape: Shape) -> List[str]:
    """Flux."""
    return [
        "flux", "run", "--nodes=%d" % len(shape.nodes), "--ntasks=%d" % shape.ranks,
        "--requires=hosts:%s" % ",".join(shape.nodes),
    ]  # fmt: skip


def flavour_of(version: str) -> str:
    """Which kind of ``mpiexec`` says this of itself when asked for its ``--version``."""
    return OPEN_MPI if re.search(r"open[ -]?mpi|open-rte|prte", version, re.IGNORECASE) else HYDRA


def shape_of(spec: Mapping[str, Any]) -> Shape:
    """From a task's ``spec``, see :mod:`mep.wire.frames`."""
    return Shape(spec["nodes"], spec["mpi"]["ranks_per_node"], spec["mpi"]["options"])
