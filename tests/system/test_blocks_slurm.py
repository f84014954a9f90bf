"""Blocks from a real Slurm, asked for by an ordinary account: from sbatch to the end of the job."""

import contextlib
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from engine_harness import until
from remote_engine import RemoteEngine
from testbed.slurm import Cluster

from mep.cli.figures import Figures, lines
from mep.wire import codes

pytestmark = [pytest.mark.root, pytest.mark.timeout(150)]

TIME_LIMIT_S = 150.0
"""Slurm grants no less than a minute, looks at time limits every half minute, and asks a job to end
before it kills it; then the next job has to start."""
PENDING_LIMIT_S = 120.0
"""Three blocks, each seen pending three times, and before that accounting has to know each."""
QUICK_S = 40.0
"""Longer than anything here takes, and far shorter than any timeout of Slurm."""


@pytest.fixture(params=["slurm", "slurm_with_accounting"])
def cluster(request) -> Cluster:
    """Both of the ways in which Parsl's provider asks for the state of jobs: squeue and sacct."""
    found: Cluster = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def start(new_account) -> Iterator[Callable[..., RemoteEngine]]:
    """Starts engines of one account on a cluster; each is closed at the end."""
    account = new_account("batch")
    started: list[RemoteEngine] = []

    def make(cluster: Cluster, *, engine: Any = None, **provider: Any) -> RemoteEngine:
        section = {
            "address": "127.0.0.1",
            "max_workers_per_node": 1,
            **(engine or {}),
            "provider": {
                "type": "SlurmProvider",
                "partition": "debug",
                "walltime": "00:05:00",
                "init_blocks": 0,
                "launcher": {"type": "SrunLauncher"},
                **provider,
            },
        }
        one = RemoteEngine(account, cluster.environment, **section)
        started.append(one)
        return one

    yield make
    for one in started:
        with one:
            pass


def host() -> str:
    import socket

    return socket.gethostname()


def meet(directory: str, count: int) -> str:
    """Return when so many of these tasks run at the same time."""
    import os
    import socket
    import time

    name = socket.gethostname()
    open(os.path.join(directory, name), "w").close()
    while len(os.listdir(directory)) < count:
        time.sleep(0.02)
    return name


def forever(directory: str) -> str:
    """Once it runs for ever; the next time it returns at once."""
    import os
    import socket
    import time

    mark = os.path.join(directory, "ran")
    if os.path.exists(mark):
        return socket.gethostname()
    open(mark, "w").close()
    while True:
        time.sleep(1)


@pytest.fixture
def shared(site_root) -> str:
    """A directory that the account can write; all nodes see it."""
    directory = site_root / "shared"
    directory.mkdir()
    directory.chmod(0o777)
    return str(directory)


def test_a_block_of_four_nodes_comes_on_demand_and_goes_when_idle(cluster, start, shared):
    engine = start(cluster, engine={"nodes_per_block": 4, "job_status_kwargs": {"max_idletime": 1}})
    assert cluster.squeue() == []
    # They meet each other and a file of ours, so that the block is not idle while we look at it.
    tasks = [engine.submit(meet, shared, 5) for _ in range(4)]
    until(lambda: len(os.listdir(shared)) == 4, "a task on each node")
    (job,) = cluster.squeue()
    (block,) = engine.live()
    assert (block["job_id"], block["state"], block["nodes"]) == (job.job_id, "running", 4)
    assert (block["pools"], block["workers"]) == (4, 4)
    ahead = block["ends_at"] - time.time()
    assert 200 < ahead <= 300
    Path(shared, "go").touch()
    assert {engine.value(task) for task in tasks} == {"n1", "n2", "n3", "n4"}
    until(lambda: not cluster.squeue(), "the idle block's job gone from the queue")
    until(lambda: not engine.live(), "the block buried")
    (block,) = engine.blocks()
    assert f"its job {job.job_id} (" in block["why"]


def test_no_key_is_in_a_job_s_script_arguments_or_environment(cluster, start):
    """But in the two files that are the account's alone."""
    engine = start(cluster)
    engine.value(engine.submit(host))
    (job,) = cluster.squeue()
    (settings,) = engine.directory.glob("blocks/*/pool.json")
    kept = {settings, engine.directory / "interchange.json"}
    for path in kept:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    keys = [json.loads(settings.read_text())["connect"]["secret_key"].encode()]
    keys.append(
        json.loads((engine.directory / "interchange.json").read_text())["secret_key"].encode()
    )
    script = cluster.run("scontrol", "write", "batch_script", job.job_id, "-")
    assert str(settings) in script
    shown = [script.encode(), cluster.run("scontrol", "show", "job", job.job_id, "-d").encode()]
    files = [path for path in engine.directory.rglob("*") if path.is_file() and path not in kept]
    of_processes = [
        process / name
        for process in Path("/proc").glob("[0-9]*")
        for name in ("cmdline", "environ")
    ]
    for path in files + of_processes:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            shown.append(path.read_bytes())  # unless it has gone meanwhile
    assert any(str(settings).encode() in one for one in shown[2:]), "a node pool is among them"
    assert not any(key in one for key in keys for one in shown)


@pytest.mark.parametrize(
    ("launcher", "mpi"),
    [("MpiExecLauncher", "mpich"), ("MpiRunLauncher", "openmpi"), ("SrunMPILauncher", "")],
)
def test_each_launcher_starts_one_pool_on_each_node(slurm, start, shared, launcher, mpi):
    init = ""
    if mpi:
        path = f"export PATH={slurm.mpi[mpi].bin}:$PATH"
        init = f"{path}\nscontrol show hostnames > nodes\nexport PBS_NODEFILE=$PWD/nodes"
    engine = start(slurm, launcher={"type": launcher}, nodes_per_block=2, worker_init=init)
    tasks = [engine.submit(meet, shared, 2) for _ in range(2)]
    assert {engine.value(task) for task in tasks} == {"n1", "n2"}
    (block,) = engine.live()
    assert (block["pools"], block["workers"]) == (2, 2)


def test_what_the_scheduler_refuses_reaches_the_task(cluster, start):
    engine = start(cluster, partition="nonesuch")
    result = engine.result(engine.submit(host))
    assert result.failure.code == codes.ENGINE_FAILED
    assert "invalid partition specified: nonesuch" in result.failure.message
    until(lambda: not engine.live(), "the last of them buried")
    assert len(engine.blocks()) == 3


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        ({"partition": "members", "account": "nobodys"}, "account"),
        ({"partition": "short", "walltime": "00:30:00"}, "time limit"),
        ({"constraint": "quantum"}, "feature"),
        ({"gpus_per_node": 4}, "gres"),
    ],
)
def test_each_refusal_in_the_words_of_slurm(slurm, start, provider, words):
    engine = start(slurm, **provider)
    result = engine.result(engine.submit(host))
    assert result.failure.code == codes.ENGINE_FAILED
    assert "could not be submitted: sbatch: error:" in result.failure.message
    assert words in result.failure.message.lower()


def test_a_task_that_needs_all_of_a_walltime_is_told_that_no_block_has_it(slurm, start):
    engine = start(slurm, walltime="00:01:00")
    result = engine.result(engine.submit(host, walltime=60))
    assert result.failure.code == codes.RESOURCES_REFUSED
    assert "60 seconds (its walltime), and a new block" in result.failure.message
    assert engine.value(engine.submit(host, walltime=20)).startswith("n")


def test_a_closed_partition_that_opens(slurm, start):
    engine = start(slurm, partition="closed")
    result = engine.result(engine.submit(host))
    assert "partition" in result.failure.message.lower()
    slurm.run("scontrol", "update", "PartitionName=closed", "State=UP")
    try:
        assert engine.value(engine.submit(host)).startswith("n")
    finally:
        slurm.run("scontrol", "update", "PartitionName=closed", "State=INACTIVE")


@pytest.fixture
def dark(cluster) -> Iterator[str]:
    """A partition that is down: jobs are taken there, and wait."""
    cluster.run("scontrol", "create", "PartitionName=dark", "Nodes=ALL", "State=DOWN")
    yield "dark"
    if jobs := [job.job_id for job in cluster.squeue()]:
        cluster.run("scancel", *jobs)
    until(lambda: not cluster.squeue(), "no job in the partition")
    cluster.run("scontrol", "delete", "PartitionName=dark")


def status_of(engine: RemoteEngine) -> str:
    """What `mep status` prints of it."""
    now = time.time()
    detail = {"blocks": engine.blocks()}
    return "\n".join(lines(msgspec.convert({"updated": now, "detail": detail}, Figures), now))


@pytest.mark.timeout(PENDING_LIMIT_S + 120)
def test_what_keeps_a_job_pending_reaches_status_and_task(cluster, dark, start):
    engine = start(cluster, partition=dark)
    task = engine.submit(host)
    until(lambda: "pending (PartitionDown) for" in status_of(engine), "the reason in the status")
    result = engine.result(task, PENDING_LIMIT_S)
    assert result.failure.code == codes.ENGINE_FAILED
    assert "Slurm keeps it pending: PartitionDown" in result.failure.message
    until(lambda: not engine.live(), "the last of them buried")
    assert "it was ended: Slurm keeps it pending: PartitionDown" in status_of(engine)
    assert len(engine.blocks()) == 3
    assert cluster.squeue() == []
    cluster.run("scontrol", "update", f"PartitionName={dark}", "State=UP")
    assert engine.value(engine.submit(host)).startswith("n")


def test_a_job_that_is_cancelled_under_a_task(cluster, start, shared):
    engine = start(cluster)
    task = engine.submit(forever, shared)
    engine.running(task)
    (job,) = cluster.squeue()
    cluster.run("scancel", job.job_id)
    result = engine.result(task)
    assert result.failure.code == codes.WORKER_LOST
    assert f"its job {job.job_id} (" in result.failure.message
    assert Path(shared, "ran").exists()


def test_a_retry_after_that_is_run_by_the_next_block(slurm, start, shared):
    engine = start(slurm, engine={"max_retries_on_system_failure": 1})
    task = engine.submit(forever, shared)
    engine.running(task)
    (job,) = slurm.squeue()
    slurm.run("scancel", job.job_id)
    assert engine.value(task).startswith("n")


def test_a_node_that_dies_takes_its_tasks_with_it_and_no_others(slurm, start, shared, site_root):
    engine = start(
        slurm,
        engine={
            "nodes_per_block": 3,
            "max_retries_on_system_failure": 1,
            "heartbeat_period": 1,
            "heartbeat_threshold": 8,
        },
    )
    tasks = [engine.submit(meet, shared, 3) for _ in range(3)]
    names = {engine.value(task) for task in tasks}
    assert len(names) == 3
    marks = site_root / "marks"
    marks.mkdir()
    tasks = []
    for number in range(3):
        own = marks / str(number)
        own.mkdir()
        own.chmod(0o777)
        tasks.append(engine.submit(forever, str(own)))
    for task in tasks:
        engine.running(task)
    lost = min(names)
    slurm.power_off(lost)
    slurm.down(lost)
    assert all(engine.value(task).startswith("n") for task in tasks)


@pytest.mark.timeout(TIME_LIMIT_S + 60)
def test_the_end_of_a_walltime_costs_no_retry(slurm, start, shared):
    engine = start(slurm, engine={"max_retries_on_system_failure": 1})
    task = engine.submit(forever, shared)
    engine.running(task)
    (job,) = slurm.squeue()
    slurm.run("scontrol", "update", f"JobId={job.job_id}", "EndTime=now+1")
    assert engine.value(task, TIME_LIMIT_S).startswith("n")
    until(lambda: slurm.job(job.job_id)["JobState"] != "COMPLETING", "the job has ended")
    assert slurm.job(job.job_id)["JobState"] == "TIMEOUT"
    until(lambda: job.job_id not in [one["job_id"] for one in engine.live()], "the block buried")
    (ended,) = [block for block in engine.blocks() if block["job_id"] == job.job_id]
    assert ended["state"] == "ended"


def test_a_pending_job_is_cancelled_with_its_endpoint(slurm, start):
    engine = start(slurm, scheduler_options="#SBATCH --begin=now+1hour", init_blocks=1)
    until(lambda: any(b["state"] == "pending" for b in engine.blocks()), "a job in the queue")
    assert len(slurm.squeue()) == 1
    engine.close()
    until(lambda: not slurm.squeue(), "the job cancelled")


def test_running_tasks_and_their_job_end_with_the_endpoint(slurm, start, shared):
    engine = start(slurm)
    task = engine.submit(forever, shared)
    engine.running(task)
    began = time.monotonic()
    engine.close(0.5)
    assert time.monotonic() - began < QUICK_S
    until(lambda: not slurm.squeue(), "the job cancelled")


def test_a_new_process_finds_the_block_of_one_that_was_killed(slurm, start, shared):
    engine = start(slurm)
    assert engine.value(engine.submit(host)).startswith("n")
    (job,) = slurm.squeue()
    engine.kill()
    again = start(slurm)
    assert again.value(again.submit(host)).startswith("n")
    assert [one.job_id for one in slurm.squeue()] == [job.job_id]
    (block,) = again.live()
    assert block["job_id"] == job.job_id


def test_a_new_process_with_another_configuration_cancels_it(slurm, start):
    engine = start(slurm)
    engine.value(engine.submit(host))
    (job,) = slurm.squeue()
    engine.kill()
    again = start(slurm, engine={"max_workers_per_node": 2})
    until(lambda: job.job_id not in [one.job_id for one in slurm.squeue()], "the old job cancelled")
    assert again.value(again.submit(host)).startswith("n")


def test_a_job_whose_script_fails_is_noticed_and_quoted(slurm, start):
    engine = start(slurm, worker_init="echo the module is missing >&2; exit 3")
    result = engine.result(engine.submit(host))
    assert "the module is missing" in result.failure.message
    assert "status 3" in result.failure.message or "FAILED" in result.failure.message


TORQUE = {
    "type": "TorqueProvider",
    "launcher": {"type": "SimpleLauncher"},
    "walltime": "00:05:00",
    "init_blocks": 0,
}


def test_the_commands_of_pbs(slurm, new_account, shared):
    """Torque's own commands, as Slurm offers them: qsub, qstat and qdel over the same cluster."""
    if not shutil.which("qsub"):
        pytest.skip("needs qsub: see TEST_PACKAGES in the Makefile")
    account = new_account("torque")
    settings = {
        "address": "127.0.0.1",
        "max_workers_per_node": 1,
        "job_status_kwargs": {"max_idletime": 1},
        "provider": TORQUE,
    }
    with RemoteEngine(account, slurm.environment, **settings) as engine:
        task = engine.submit(meet, shared, 2)  # meets a file of ours: till then it is not idle
        engine.running(task)
        (job,) = slurm.squeue()
        (block,) = engine.live()
        assert block["job_id"].split(".")[0] == job.job_id
        Path(shared, "go").touch()
        assert engine.value(task).startswith("n")
        until(lambda: not slurm.squeue(), "the idle block's job gone")
        until(lambda: not engine.live(), "the block buried")


def test_a_torque_job_is_cancelled_with_its_endpoint(slurm, new_account):
    if not shutil.which("qsub"):
        pytest.skip("needs qsub: see TEST_PACKAGES in the Makefile")
    account = new_account("torque")
    settings = {"address": "127.0.0.1", "provider": {**TORQUE, "init_blocks": 1}}
    with RemoteEngine(account, slurm.environment, **settings) as engine:
        until(lambda: slurm.squeue(), "a job")
        engine.close()
    until(lambda: not slurm.squeue(), "the job cancelled")
