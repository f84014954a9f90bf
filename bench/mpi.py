"""A mix of 60 MPI tasks on one block of four nodes: how much of the nodes our engine and Parsl use.

On a real Slurm of four simulated nodes (tests/testbed), the same mix in turn on our GlobusMPIEngine
and on Parsl's MPIExecutor, through srun. Prints a table and writes bench/out/mpi.json. Needs root.

Parsl's executor takes as many tasks as a block has workers, whether or not they fit, and goes round
in circles when two of them do not. So it gets four workers first, as our engine has; when that gets
stuck (counted as ``stuck_parsl``) it is run again with two, which cannot.

python bench/mpi.py [RUNS]
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "tests"))

from parts.mix import NODES, figures, mix, read  # noqa: E402
from parts.table import Figures, report  # noqa: E402
from testbed.slurm import Cluster, missing  # noqa: E402

LIMIT_S = 180
START_S = 90
"""Longer than it takes until the first task begins, on a machine that does something else too."""
SILENCE_S = 25
"""Longer than anything takes from then on until a task begins or ends."""
UNITS = {
    "node_utilisation": "x",
    "makespan": "s",
    "launcher_overhead": "s",
    "passed_over": "tasks",
    "stuck": "runs",
}


def measure(cluster: Cluster, side: str, workers: int = NODES) -> Figures | None:
    """One run of the mix; None: it did not end in time."""
    script = TOP / "bench" / "parts" / f"mix_{side}.py"
    directory = Path(tempfile.mkdtemp(prefix="mix-", dir=cluster.top))
    environment = {**os.environ, **cluster.environment}
    process = subprocess.Popen(
        [sys.executable, script, directory, str(workers)],
        env=environment,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        if not ends(process, directory):
            return None
        if process.returncode:
            raise RuntimeError(f"{script.name} failed; its error is above")
        outputs = [(directory / str(at)).read_text() for at in range(len(mix()))]
    finally:
        with contextlib.suppress(ProcessLookupError):  # Parsl leaves its interchange behind
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        cluster.reset()
        shutil.rmtree(directory)
    return figures([read(job, output) for job, output in zip(mix(), outputs, strict=True)])


def ends(process: subprocess.Popen[bytes], directory: Path) -> bool:
    """Wait for its end; False: no task has begun or ended for long, or it takes far too long."""
    began = time.monotonic()
    moved = began + START_S - SILENCE_S
    seen = 0
    while time.monotonic() < min(began + LIMIT_S, moved + SILENCE_S):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
            return True
        if (size := sum(one.stat().st_size for one in directory.glob("[0-9]*"))) != seen:
            moved, seen = time.monotonic(), size
    return False


def compare(cluster: Cluster) -> Figures:
    """One run of each, with the same mix."""
    ours = measure(cluster, "ours")
    theirs = measure(cluster, "parsl")
    stuck = theirs is None
    theirs = theirs or measure(cluster, "parsl", 2)
    if ours is None or theirs is None:
        raise TimeoutError(f"{'Parsl' if ours else 'our engine'} got stuck")
    return {
        **ours,
        **{f"{name}_parsl": value for name, value in theirs.items()},
        "stuck_parsl": stuck,
    }


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    if why := missing():
        sys.exit(f"bench/mpi.py {why}")
    with Cluster() as cluster:
        measured = [compare(cluster) for _ in range(runs)]
    report("mpi", measured, {name: UNITS[name.removesuffix("_parsl")] for name in measured[0]})


if __name__ == "__main__":
    main()
