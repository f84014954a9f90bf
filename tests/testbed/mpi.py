"""Open MPI and MPICH, each with a program that tells its ranks."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("ranks.c")


@dataclass(frozen=True)
class Mpi:
    """One MPI, and what it needs to be told."""

    name: str
    """``openmpi`` or ``mpich``."""
    bin: Path
    """A directory that has it as ``mpiexec``; to be put first in PATH."""
    program: Path
    """See ``ranks.c``."""
    srun_type: str
    """What ``srun --mpi=`` needs, or SLURM_MPI_TYPE."""


def install(top: Path) -> dict[str, Mpi]:
    """Compile for both below `top`; by name."""
    made = {}
    compilers = []
    for name, srun_type in (("openmpi", "pmix"), ("mpich", "pmi2")):
        where = top / name
        where.mkdir(parents=True)
        # No symbolic link: MPICH's finds its parts beside what it was called as, and hangs.
        mpiexec = where / "mpiexec"
        mpiexec.write_text(f'#!/bin/sh\nexec /usr/bin/mpiexec.{name} "$@"\n')
        mpiexec.chmod(0o755)
        program = where / "ranks"
        compilers.append(
            subprocess.Popen([f"/usr/bin/mpicc.{name}", "-O1", "-o", str(program), str(SOURCE)])
        )
        made[name] = Mpi(name, where, program, srun_type)
    for compiler in compilers:
        if compiler.wait(60):
            raise RuntimeError(f"{compiler.args} failed; its error is above")
    return made
