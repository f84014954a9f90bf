"""The mix of MPI tasks on Parsl's MPIExecutor: python mix_parsl.py DIRECTORY WORKERS

Runs where Slurm's commands work. Job N of the mix leaves its output in DIRECTORY/N.
"""

import os
import sys
from pathlib import Path

import parsl
from mix import NODES, mix
from parsl import bash_app
from parsl.config import Config
from parsl.executors import MPIExecutor
from parsl.launchers import SimpleLauncher
from parsl.providers import SlurmProvider

DEFINITELY_UP_S = 60


def run(command: str, parsl_resource_specification=None, stdout=None) -> str:
    """As Parsl wants it: the function's value is what bash executes."""
    return command


def main(directory: Path, workers: int) -> None:
    executables = Path(sys.executable).parent
    path = f"{executables}:{os.environ['PATH']}"
    os.environ["PATH"] = path
    executor = MPIExecutor(
        label="mpi",
        mpi_launcher="srun",
        max_workers_per_block=workers,
        address="127.0.0.1",
        encrypted=False,
        provider=SlurmProvider(
            "debug",
            nodes_per_block=NODES,
            init_blocks=1,
            min_blocks=1,
            max_blocks=1,
            walltime="00:10:00",
            exclusive=True,
            launcher=SimpleLauncher(),
            worker_init=f"export PATH={path}",
        ),
    )
    config = Config(executors=[executor], run_dir=str(directory / "runinfo"), strategy="none")
    with parsl.load(config):
        app = bash_app(run)
        request = {"num_nodes": 1, "ranks_per_node": 1}
        app("true", parsl_resource_specification=request).result(DEFINITELY_UP_S)
        futures = [
            app(
                job.command,
                parsl_resource_specification=job.request,
                stdout=str(directory / str(number)),
            )
            for number, job in enumerate(mix())
        ]
        for future in futures:
            future.result()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
