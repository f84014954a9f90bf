"""GlobusMPIEngine on this machine alone: no batch system, one node, one task at a time."""

from pathlib import Path

import pytest
from engine_harness import engine
from mep_sdk.shell import ShellFunction

from mep.wire import codes


def told():
    import os
    import subprocess

    ranks = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    names = ("PARSL_NUM_NODES", "PARSL_NUM_RANKS", "PARSL_MPI_NODELIST", "PARSL_MPI_PREFIX")
    return [os.environ[name] for name in names], os.getpid(), ranks.pid


def alive(pid):
    """Whether it has not ended; somebody may not have waited for it yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def sleeps(seconds):
    import time

    time.sleep(seconds)


def test_each_task_has_a_process_of_its_own_and_leaves_none_behind(tmp_path):
    with engine(tmp_path, type="GlobusMPIEngine") as harness:
        (nodes, ranks, names, prefix), worker, left = harness.value(told)
        assert (nodes, ranks) == ("1", "1")
        assert names in prefix
        assert not alive(left)
        harness.resources = {"ranks_per_node": 3}
        (_, ranks, _, _), other, _ = harness.value(told)
        assert ranks == "3"
        assert worker != other


@pytest.mark.parametrize("kind", ["GlobusComputeEngine", "GlobusMPIEngine"])
def test_each_command_has_a_directory_of_its_own(tmp_path, kind):
    """Where the endpoint gives one to each task: files of the same name do not meet."""
    command = ShellFunction("pwd | tee where", stdout="out").as_function()
    settings = {"type": kind, "run_in_sandbox": True, "working_dir": "work"}
    with engine(tmp_path, **settings) as harness:
        said = [harness.value(command) for _ in range(2)]
        assert [one.returncode for one in said] == [0, 0], said
    for number, one in enumerate(said):
        directory = next(tmp_path.rglob(f"work/task-{number}"))
        assert one.stdout.split() == [str(directory)]
        assert (directory / "out").read_text().split() == [str(directory)]
        assert (directory / "where").read_text().split() == [str(directory)]


def test_a_declared_walltime_is_kept(tmp_path):
    with engine(tmp_path, type="GlobusMPIEngine") as harness:
        harness.resources = {"walltime": 0.2}
        failure = harness.call(sleeps, 1000).failure
        assert failure.code == codes.WALLTIME_EXCEEDED
        assert "0.2 seconds, the walltime of its resource_specification" in failure.message


def test_a_running_task_is_cancelled_and_its_node_given_to_the_next(tmp_path):
    with engine(tmp_path, type="GlobusMPIEngine") as harness:
        first, second = harness.submit(sleeps, 1000), harness.submit(sleeps, 0)
        harness.running(first)
        harness.engine.cancel([first])
        assert harness.result(first).outcome == "cancelled"
        assert harness.result(second).outcome == "success"


def test_more_nodes_than_there_are_is_refused(tmp_path):
    with engine(tmp_path, type="GlobusMPIEngine") as harness:
        harness.resources = {"num_nodes": 2}
        failure = harness.call(sleeps, 0).failure
        assert failure.code == codes.RESOURCES_REFUSED
        assert "a block of this endpoint has 1" in failure.message
