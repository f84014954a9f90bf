"""The simulated cluster is what tests of batch blocks and MPI take it for."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from pwd import struct_passwd

import pytest
from testbed import until
from testbed.slurm import Cluster

pytestmark = pytest.mark.root


def test_a_user_s_job_runs_on_every_node(slurm: Cluster, new_account: Callable) -> None:
    user = new_account("slurm").pw_name
    hosts = slurm.run("srun", "--nodes=4", "--ntasks=8", "hostname", user=user).split()
    assert sorted(hosts) == ["n1", "n1", "n2", "n2", "n3", "n3", "n4", "n4"]


@pytest.mark.parametrize("name", ["openmpi", "mpich"])
def test_both_mpis_span_nodes_by_srun_and_by_mpiexec(
    slurm: Cluster, new_account: Callable, name: str
) -> None:
    account: struct_passwd = new_account("mpi")
    mpi = slurm.mpi[name]
    program, kind = str(mpi.program), f"--mpi={mpi.srun_type}"
    by_srun = slurm.run("srun", "-N4", "-n8", kind, program, user=account.pw_name)
    output = Path(account.pw_dir, "output")
    script = f"{mpi.bin}/mpiexec -n 8 {program}"
    slurm.run(
        *("sbatch", "--wait", "-N4", "--ntasks-per-node=2", f"--output={output}"),
        f"--wrap={script}",
        user=account.pw_name,
    )
    for text in (by_srun, output.read_text()):
        lines = [line.split() for line in text.splitlines() if line.startswith("rank ")]
        assert sorted(line[5] for line in lines) == sorted(slurm.nodes * 2)
        assert {(line[3], line[7]) for line in lines} == {("8", "28")}


def test_a_dead_node_ends_its_jobs_and_comes_back(slurm: Cluster) -> None:
    slurm.run("sbatch", "-N4", "--no-requeue", "--output=/dev/null", "--wrap=srun sleep 60")
    (job,) = slurm.squeue()
    until(lambda: all(len(slurm.processes(name)) > 1 for name in slurm.nodes), "the job started")
    slurm.kill_slurmd("n4")
    slurm.down("n4")
    until(lambda: slurm.job(job.job_id)["JobState"] == "NODE_FAIL", "NODE_FAIL")
    assert slurm.node_state("n4").rstrip("*") == "down"  # *: it does not answer, as is noticed soon
    slurm.reset()
    assert [slurm.node_state(name) for name in slurm.nodes] == ["idle"] * 4
    # What led the job's step may be on its way out.
    until(lambda: [len(slurm.processes(name)) for name in slurm.nodes] == [1] * 4, "slurmd alone")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--partition=closed"], "partition"),
        (["--partition=members"], "account"),
        (["--partition=short", "--time=11"], "time limit"),
        (["--nodes=5"], "Node count"),
    ],
)
def test_refusals_in_slurm_s_own_words(slurm: Cluster, options: list[str], words: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        slurm.run("sbatch", *options, "--output=/dev/null", "--wrap=true")
    assert words in caught.value.stderr


def test_with_accounting_sacct_remembers(slurm_with_accounting: Cluster) -> None:
    cluster = slurm_with_accounting
    cluster.run("sbatch", "--wait", "--job-name=kept", "--output=/dev/null", "--wrap=true")
    ended = ["sacct", "--noheader", "--allocations", "--parsable2", "--format=JobName,State"]
    until(lambda: "kept|COMPLETED" in cluster.run(*ended), "the job in sacct")


def test_nothing_is_left_of_a_cluster_that_was_stopped() -> None:
    with Cluster(nodes=1) as cluster:
        cluster.run("sbatch", "--output=/dev/null", "--wrap=sleep 60")
        until(lambda: len(cluster.processes("n1")) > 1, "the job started")
        pids = [process.pid for process in cluster.processes("n1")]
    assert not cluster.top.exists()
    assert not [pid for pid in pids if Path("/proc", str(pid)).exists()]
