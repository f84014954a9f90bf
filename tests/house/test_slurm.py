"""A person's tasks on the nodes of a Slurm: from `Executor` to `sbatch` and back, with MPI."""

import json
import pwd
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest
from house import Relay, Site, until
from mep_sdk import Executor, MPIFunction
from testbed.slurm import Cluster

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

LIMIT_S = 100
IDLE_S = 2
NODES = {"PARTITION": "debug", "WALLTIME": "00:05:00"}
LAUNCHERS = ("srun", "openmpi", "mpich")

TEMPLATE = """\
engine:
  address: 127.0.0.1
  job_status_kwargs: {max_idletime: {{ IDLE|default(60) }}}
{% if LAUNCHER is defined %}
  type: GlobusMPIEngine
  mpi_launcher: {{ LAUNCHER }}
{% else %}
  type: GlobusComputeEngine
  max_workers_per_node: 1
{% endif %}
  provider:
    type: SlurmProvider
    partition: {{ PARTITION }}
    nodes_per_block: {{ NODES_PER_BLOCK }}
    walltime: {{ WALLTIME }}
    init_blocks: 0
    min_blocks: 0
    max_blocks: 1
    worker_init: {{ WORKER_INIT|default("") }}
    launcher:
      type: {{ "SimpleLauncher" if LAUNCHER is defined else "SrunLauncher" }}
"""


@pytest.fixture(scope="module")
def batch_site(
    relay: Relay,
    session_site_root: Path,
    session_accounts: Callable[[str], pwd.struct_passwd],
    slurm_cluster: Cluster,
) -> Iterator[Site]:
    """A site whose template asks the cluster for nodes; carol has an account."""
    prefix = session_site_root / "batch"
    prefix.mkdir(mode=0o755)
    accounts = [session_accounts(label).pw_name for label in ("carol", "mgr", "map")]
    site = Site(prefix, "batch", relay, {"carol": accounts[0]}, *accounts[1:])
    site.configure()
    (site.etc / "user_config_template.yaml.j2").write_text(TEMPLATE)
    (site.etc / "user_config_schema.json").write_text(json.dumps({"type": "object"}))
    (site.etc / "user_environment.yaml").write_text(f"SLURM_CONF: {slurm_cluster.conf}\n")
    site.register()
    site.start()
    yield site
    site.stop()


@pytest.fixture
def carol(batch_site: Site, slurm: Cluster) -> Iterator[Callable[..., Executor]]:
    """Makes executors of Carol's, each with a user endpoint of its own."""
    made = []

    def make(**options: Any) -> Executor:
        config = {**NODES, "TAG": uuid.uuid4().hex, **options}
        made.append(batch_site.executor("carol", user_endpoint_config=config))
        return made[-1]

    yield make
    for executor in made:
        executor.shutdown(cancel_futures=True)


@pytest.fixture
def shared(batch_site: Site) -> Path:
    """A directory that Carol's tasks share, made by none yet."""
    return Path(pwd.getpwnam(batch_site.accounts["carol"]).pw_dir, f"shared-{uuid.uuid4().hex}")


def with_mpi(cluster: Cluster, launcher: str) -> dict[str, str]:
    """Options for one of LAUNCHERS."""
    if launcher == "srun":
        return {"LAUNCHER": "srun"}
    return {
        "LAUNCHER": "mpiexec",
        "WORKER_INIT": f"export PATH={cluster.mpi[launcher].bin}:$PATH",
    }


def meet(directory: str) -> str:
    """The node's name, once the test has let go."""
    import pathlib
    import socket
    import time
    import uuid

    place = pathlib.Path(directory)
    place.mkdir(exist_ok=True)
    (place / uuid.uuid4().hex).touch()
    while not (place / "go").exists():
        time.sleep(0.02)
    return socket.gethostname()


def have_met(shared: Path, count: int) -> None:
    """Wait until so many tasks run at once; they go on, and so does their job."""
    until(lambda: shared.is_dir() and len(list(shared.iterdir())) == count, "the tasks", LIMIT_S)


def test_tasks_on_four_nodes_and_no_job_when_idle(
    batch_site: Site, slurm: Cluster, carol: Callable[..., Executor], shared: Path
) -> None:
    user = batch_site.accounts["carol"]
    ex = carol(NODES_PER_BLOCK=4, IDLE=IDLE_S)
    futures = [ex.submit(meet, str(shared)) for _ in range(4)]
    have_met(shared, 4)
    (job,) = slurm.squeue(user)
    about = slurm.job(job.job_id)
    (shared / "go").touch()
    assert sorted(future.result(LIMIT_S) for future in futures) == ["n1", "n2", "n3", "n4"]
    assert (about["Partition"], about["NumNodes"]) == ("debug", "4")
    assert about["TimeLimit"] == "00:05:00"

    def running(task_id: str | None) -> list[dict[str, Any]]:
        said = batch_site.mep("audit", batch_site.name, "--task", str(task_id), "--json")
        records = [json.loads(line) for line in said.splitlines()]
        return [record for record in records if record["event"] == "RUNNING"]

    for future in futures:
        (record,) = until(lambda: running(future.task_id), "the audit log's word")  # noqa: B023
        assert (record["account"], record["job_id"]) == (user, job.job_id)
        assert record["block_id"]
    until(lambda: not slurm.squeue(user), "the idle job gone", LIMIT_S)


def blocks_of(site: Site) -> list[dict[str, Any]]:
    """What `mep status` says of the blocks of all user endpoints."""
    told = [user["figures"] or {} for user in site.user_endpoints()]
    return [block for each in told for block in each.get("detail", {}).get("blocks", ())]


def test_a_blocks_life_in_mep_status(
    batch_site: Site, slurm: Cluster, carol: Callable[..., Executor], shared: Path
) -> None:
    user = batch_site.accounts["carol"]
    ex = carol(NODES_PER_BLOCK=2, IDLE=IDLE_S)
    futures = [ex.submit(meet, str(shared)) for _ in range(2)]
    have_met(shared, 2)
    (job,) = slurm.squeue(user)

    def block() -> dict[str, Any]:
        return next((one for one in blocks_of(batch_site) if one["job_id"] == job.job_id), {})

    up = until(lambda: block().get("pools") == 2 and block(), "the block with both its pools")
    assert (up["nodes"], up["workers"], up["state"]) == (2, 2, "running")
    assert job.job_id in batch_site.mep("status", batch_site.name)
    (shared / "go").touch()
    assert not wait(futures, LIMIT_S).not_done
    ended = until(lambda: block().get("state") == "ended" and block(), "its end", LIMIT_S)
    assert ended["why"]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_each_of_two_hosts_once_and_twice(
    slurm: Cluster, carol: Callable[..., Executor], launcher: str
) -> None:
    """The example of the documentation."""
    ex = carol(NODES_PER_BLOCK=4, **with_mpi(slurm, launcher))
    function = MPIFunction("hostname")
    for ranks in (1, 2):
        ex.resource_specification = {"num_nodes": 2, "ranks_per_node": ranks}
        result = ex.submit(function).result(LIMIT_S)
        assert result.returncode == 0, result
        hosts = Counter(result.stdout.split())
        assert list(hosts.values()) == [ranks, ranks], result
        assert hosts.keys() <= {*slurm.nodes}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_ranks_on_four_nodes_speak_with_each_other(
    slurm: Cluster, carol: Callable[..., Executor], launcher: str
) -> None:
    mpi = slurm.mpi["openmpi" if launcher == "srun" else launcher]
    options = with_mpi(slurm, launcher)
    if launcher == "srun":
        options["WORKER_INIT"] = f"export SLURM_MPI_TYPE={mpi.srun_type}"
    ex = carol(NODES_PER_BLOCK=4, **options)
    ex.resource_specification = {"num_nodes": 4, "ranks_per_node": 2}
    result = ex.submit(MPIFunction(f"{mpi.program} 0 {{status}}"), status=0).result(LIMIT_S)
    lines = [line for line in result.stdout.splitlines() if line.startswith("rank ")]
    assert len(lines) == 8, result
    assert all(line.endswith("sum 28") for line in lines)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_walltime_ends_the_ranks_on_every_node(
    batch_site: Site, slurm: Cluster, carol: Callable[..., Executor], launcher: str
) -> None:
    uid = pwd.getpwnam(batch_site.accounts["carol"]).pw_uid

    def sleepers() -> list[str]:
        return [
            name
            for name, processes in slurm.users_processes(uid).items()
            if any((each.name, each.argv[1:]) == ("sleep", ("4321",)) for each in processes)
        ]

    ex = carol(NODES_PER_BLOCK=4, **with_mpi(slurm, launcher))
    ex.resource_specification = {"num_nodes": 4, "ranks_per_node": 1}
    ex.submit(MPIFunction("true")).result(LIMIT_S)
    future = ex.submit(MPIFunction("sleep 4321", walltime=12))
    until(lambda: sorted(sleepers()) == ["n1", "n2", "n3", "n4"], "a rank on each node")
    assert future.result(LIMIT_S).returncode == 124
    until(lambda: not sleepers(), "no rank on any node")
    assert ex.submit(MPIFunction("true")).result(LIMIT_S).returncode == 0


def test_a_node_that_dies_ends_its_tasks_and_keeps_no_node(
    slurm: Cluster, carol: Callable[..., Executor]
) -> None:
    ex = carol(NODES_PER_BLOCK=2, **with_mpi(slurm, "srun"))
    ex.resource_specification = {"num_nodes": 1}
    where = MPIFunction("hostname")
    nodes = {ex.submit(where).result(LIMIT_S).stdout.strip()}
    running = [ex.submit(MPIFunction("sleep 4321")) for _ in range(3)]
    (job,) = slurm.squeue()
    until(lambda: all(future.running() for future in running[:2]), "two of the tasks running")
    lead, other = slurm.run(
        "scontrol", "show", "hostnames", slurm.job(job.job_id)["NodeList"]
    ).split()
    assert nodes <= {lead, other}
    slurm.kill_slurmd(other)
    slurm.down(other)
    running.pop().cancel()
    wait(running, LIMIT_S)
    assert all(future.done() for future in running)
    ex.resource_specification = {"num_nodes": 2}
    again = ex.submit(where).result(LIMIT_S)
    assert len({*again.stdout.split()}) == 2
    assert other not in again.stdout.split()
