"""GlobusMPIEngine on a real Slurm, as an ordinary account, with srun and both kinds of mpiexec."""

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from engine_harness import until
from remote_engine import RemoteEngine
from testbed import slurm

from mep.wire import codes

pytestmark = [pytest.mark.root, pytest.mark.timeout(200)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[slurm.Cluster]:
    if why := slurm.missing():
        pytest.skip(why)
    with slurm.Cluster(4, 2) as up:
        yield up


@pytest.fixture
def start(new_account, cluster) -> Iterator[Callable[..., RemoteEngine]]:
    """Starts an engine with blocks of four nodes; at the end its jobs are gone."""
    account = new_account("mpi")
    started: list[RemoteEngine] = []

    def make(path: str = "", **engine: Any) -> RemoteEngine:
        init = f"export PATH={path}:$PATH" if path else ""
        section = {
            "type": "GlobusMPIEngine",
            "mpi_launcher": "srun",
            "address": "127.0.0.1",
            **engine,
            "provider": {
                "type": "SlurmProvider",
                "partition": "debug",
                "walltime": "00:05:00",
                "nodes_per_block": 4,
                "init_blocks": 0,
                "launcher": {"type": "SimpleLauncher"},
                "worker_init": init,
            },
        }
        one = RemoteEngine(account, cluster.environment, **section)
        started.append(one)
        return one

    yield make
    for one in started:
        with one:
            pass
    cluster.reset()


def shell(command: str) -> tuple[int, str]:
    import subprocess

    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def variables() -> dict[str, str]:
    import os

    return {name: value for name, value in os.environ.items() if name.startswith("PARSL_")}


def nodes_of(answer: tuple[int, str]) -> Counter[str]:
    code, output = answer
    assert code == 0, output
    return Counter(output.split())


def steps_of(cluster: slurm.Cluster) -> list[str]:
    listing = cluster.run("squeue", "--noheader", "--steps", "--format=%i").split()
    return [step for step in listing if step.rpartition(".")[2].isdigit()]


def check_placement(engine: RemoteEngine) -> None:
    for ranks in (1, 2):
        task = engine.submit(shell, "$PARSL_MPI_PREFIX hostname", num_nodes=2, ranks_per_node=ranks)
        hosts = nodes_of(engine.value(task))
        assert len(hosts) == 2
        assert set(hosts.values()) == {ranks}


def test_srun_starts_ranks_where_they_belong(start):
    check_placement(start())


@pytest.mark.parametrize("kind", ["openmpi", "mpich"])
def test_mpiexec_starts_ranks_where_they_belong(start, cluster, kind):
    check_placement(start(str(cluster.mpi[kind].bin), mpi_launcher="mpiexec"))


@pytest.mark.parametrize("kind", ["openmpi", "mpich"])
def test_the_prefix_of_another_launcher_is_spelled_as_that_one_wants_it(start, cluster, kind):
    engine = start(str(cluster.mpi[kind].bin), mpi_launcher="srun")
    task = engine.submit(shell, "$PARSL_MPIEXEC_PREFIX hostname", num_nodes=2)
    assert len(nodes_of(engine.value(task))) == 2


def test_two_tasks_at_once_on_nodes_of_their_own(start):
    """Each rank waits until four are there."""
    engine = start()
    here = f"{engine.directory}/here"
    ranks = f"hostname; touch {here}.$(hostname); until [ -e {here}.n1 ] && [ -e {here}.n2 ]"
    ranks += f" && [ -e {here}.n3 ] && [ -e {here}.n4 ]; do sleep 0.1; done"
    command = f"$PARSL_MPI_PREFIX sh -c '{ranks}'"
    tasks = [engine.submit(shell, command, num_nodes=2) for _ in range(2)]
    nodes, others = (nodes_of(engine.value(task)) for task in tasks)
    assert len(nodes) == len(others) == 2
    assert nodes | others == dict.fromkeys(("n1", "n2", "n3", "n4"), 1)


def test_a_plain_function_has_one_node_and_the_variables(start):
    engine = start()
    told = engine.value(engine.submit(variables))
    assert (told["PARSL_NUM_NODES"], told["PARSL_RANKS_PER_NODE"]) == ("1", "1")
    assert told["PARSL_MPI_PREFIX"] == told["PARSL_SRUN_PREFIX"]
    told = engine.value(engine.submit(variables, num_ranks=6, num_nodes=3))
    assert (told["PARSL_NUM_RANKS"], told["PARSL_RANKS_PER_NODE"]) == ("6", "2")
    assert len(told["PARSL_MPI_NODELIST"].split(",")) == 3


def test_the_ranks_of_a_task_share_a_directory_of_its_own(start):
    engine = start(run_in_sandbox=True)
    command = "$PARSL_MPI_PREFIX sh -c 'touch $(hostname); pwd'; ls"
    tasks = [engine.submit(shell, command, num_nodes=2) for _ in range(3)]
    said = [nodes_of(engine.value(task)) for task in tasks]
    directories = [path for words in said for path in words if path.startswith("/")]
    assert len(set(directories)) == len(directories) == 3
    for words, directory in zip(said, directories, strict=True):
        assert words[directory] == 2
        assert len(words) == 3, "it, and a file for each node"


@pytest.mark.parametrize("launcher", ["srun", "mpiexec"])
def test_a_cancelled_task_leaves_nothing_on_any_node(start, cluster, launcher):
    engine = start(str(cluster.mpi["mpich"].bin), mpi_launcher=launcher)
    task = engine.submit(shell, "$PARSL_MPI_PREFIX sleep 1000", num_nodes=4)
    engine.running(task)
    until(lambda: len(sleepers(cluster)) == 4, "four ranks")
    engine.cancel(task)
    assert engine.result(task).outcome == "cancelled"
    assert sleepers(cluster) == []
    assert nodes_of(engine.value(engine.submit(shell, "$PARSL_MPI_PREFIX hostname", num_nodes=4)))


def test_a_launcher_that_is_killed_leaves_nothing_on_any_node(start, cluster):
    engine = start()
    command = "$PARSL_MPI_PREFIX sleep 1000 & sleep 1; kill -9 $! $PPID $$"
    task = engine.submit(shell, command, num_nodes=4)
    assert engine.result(task).failure.code == codes.WORKER_LOST
    assert sleepers(cluster) == []
    assert steps_of(cluster) == []


def test_a_walltime_ends_every_rank(start, cluster):
    engine = start()
    task = engine.submit(shell, "$PARSL_MPI_PREFIX sleep 1000", num_nodes=4, walltime=2)
    failure = engine.result(task).failure
    assert failure.code == codes.WALLTIME_EXCEEDED
    assert "2 seconds" in failure.message
    assert sleepers(cluster) == []


def test_what_a_function_leaves_behind_is_ended_with_it(start, cluster):
    engine = start()
    command = "$PARSL_MPI_PREFIX sleep 1000 >/dev/null 2>&1 & sleep 1"
    assert engine.value(engine.submit(shell, command, num_nodes=2))[0] == 0
    assert sleepers(cluster) == []


def test_what_could_never_run_fails_at_once(start, cluster):
    engine = start()
    failure = engine.result(engine.submit(variables, num_nodes=5)).failure
    assert failure.code == codes.RESOURCES_REFUSED
    assert "a block of this endpoint has 4" in failure.message
    assert cluster.squeue() == []


def test_a_node_that_fails_ends_its_tasks_and_the_next_block_runs_others(start, cluster):
    engine = start()
    task = engine.submit(shell, "$PARSL_MPI_PREFIX sleep 1000", num_nodes=4)
    engine.running(task)
    until(lambda: len(sleepers(cluster)) == 4, "four ranks")
    cluster.kill_slurmd("n4")
    cluster.down("n4")
    assert engine.result(task).failure.code == codes.WORKER_LOST
    cluster.start_slurmd("n4")
    cluster.resume("n4")
    assert nodes_of(engine.value(engine.submit(shell, "$PARSL_MPI_PREFIX hostname", num_nodes=4)))


def test_a_lead_node_without_power_takes_its_block_along_and_leaks_no_node(start, cluster):
    engine = start(heartbeat_period=1, heartbeat_threshold=8)
    tasks = [
        engine.submit(shell, "$PARSL_MPI_PREFIX sleep 1000", num_nodes=count) for count in (1, 3)
    ]
    for task in tasks:
        engine.running(task)
    until(lambda: len(sleepers(cluster)) == 4, "four ranks")
    (block,) = engine.live()
    cluster.power_off("n1")
    cluster.down("n1")
    assert [engine.result(task).failure.code for task in tasks] == [codes.WORKER_LOST] * 2
    until(lambda: sleepers(cluster) == [], "no rank on the other nodes")
    cluster.power_on("n1")
    cluster.resume("n1")
    assert nodes_of(engine.value(engine.submit(shell, "$PARSL_MPI_PREFIX hostname", num_nodes=4)))
    assert block["job_id"] not in [one["job_id"] for one in engine.live()]


def on_its_nodes(seconds: float) -> tuple[list[str], float, float]:
    """The nodes of this task; when its launcher began and ended."""
    import os
    import subprocess
    import time

    began = time.time()
    command = f"$PARSL_MPI_PREFIX sleep {seconds}"
    subprocess.run(command, shell=True, check=True)
    return os.environ["PARSL_MPI_NODELIST"].split(","), began, time.time()


def test_a_mix_of_tasks_never_has_a_node_twice(start):
    engine = start()
    draw = random.Random(1)
    mix = [(draw.randint(1, 4), draw.uniform(0.2, 1.0)) for _ in range(60)]
    tasks = [engine.submit(on_its_nodes, s, num_nodes=n) for n, s in mix]
    used: dict[str, list[tuple[float, float]]] = {}
    for task, (nodes, _) in zip(tasks, mix, strict=True):
        names, began, ended = engine.value(task)
        assert len(set(names)) == nodes
        for name in names:
            used.setdefault(name, []).append((began, ended))
    assert set(used) == {"n1", "n2", "n3", "n4"}
    for times in used.values():
        times.sort()
        assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(times))
    first, last = (
        pick(began for times in used.values() for began, _ in times) for pick in (min, max)
    )
    busy = sum(min(ended, last) - began for times in used.values() for began, ended in times)
    print(f"of the nodes' time {busy / (last - first) / 4:.3f} is used")


def sleepers(cluster: slurm.Cluster) -> list[Any]:
    names = ("n1", "n2", "n3", "n4")
    processes = [process for name in names for process in cluster.processes(name)]
    return [one for one in processes if one.name == "sleep" and one.argv[1:] == ("1000",)]
