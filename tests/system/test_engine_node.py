"""A node's workers, seen from inside tasks: cores, accelerators, directories."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from engine_harness import engine

from mep import payload
from mep.wire.tasks import Function, Task

MEET = """
import os, time
from pathlib import Path
def f(directory, count):
    names = ("CUDA_VISIBLE_DEVICES", "PARSL_WORKER_RANK", "PARSL_WORKER_COUNT", "OMP_NUM_THREADS")
    found = {name: os.environ.get(name) for name in names}
    (Path(directory) / found["PARSL_WORKER_RANK"]).touch()
    deadline = time.monotonic() + 20
    while len(list(Path(directory).iterdir())) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return found, sorted(os.sched_getaffinity(0))
"""


def meeting(harness, directory, count):
    """What so many tasks that run at once find."""
    directory.mkdir()
    functions = [Function("meet", payload.dump_source("f", MEET))]
    calls = [payload.dump_arguments((str(directory), count), {})] * count
    ids = harness.submit_raw(functions, "meet", calls)
    found = [payload.load_result(harness.result(i).payload) for i in ids]
    return sorted(found, key=lambda item: item[0]["PARSL_WORKER_RANK"])


def test_each_worker_has_an_accelerator_and_cores_of_its_own(tmp_path):
    cores = sorted(os.sched_getaffinity(0))
    listed = f"list:{cores[0]}:{cores[-1]}"
    settings = {
        "cores_per_worker": 0.1,
        "cpu_affinity": listed,
        "available_accelerators": ["5", "7"],
    }
    with engine(tmp_path, **settings) as harness:
        first, second = meeting(harness, tmp_path / "meet", 2)
        assert first[0] == {
            "CUDA_VISIBLE_DEVICES": "5",
            "PARSL_WORKER_RANK": "0",
            "PARSL_WORKER_COUNT": "2",
            "OMP_NUM_THREADS": "1",
        }
        assert second[0]["CUDA_VISIBLE_DEVICES"] == "7"
        assert (first[1], second[1]) == ([cores[0]], [cores[-1]])


def test_a_replaced_worker_gets_the_same_share(tmp_path):
    settings = {"max_workers_per_node": 1, "available_accelerators": ["gpu3"]}
    with engine(tmp_path, **settings) as harness:

        def device():
            return os.environ["CUDA_VISIBLE_DEVICES"]

        assert harness.value(device) == "gpu3"
        assert harness.call(os._exit, 3).failure.code == "WORKER_LOST"
        assert harness.value(device) == "gpu3"


def test_a_worker_by_command_has_its_share_too(tmp_path):
    settings = {"worker_python": sys.executable, "available_accelerators": 1}
    with engine(tmp_path, **settings) as harness:
        ((found, _),) = meeting(harness, tmp_path / "meet", 1)
        assert found["CUDA_VISIBLE_DEVICES"] == "0"


def test_more_workers_than_an_affinity_has_cores_for(tmp_path):
    settings = {"cores_per_worker": 0.001, "cpu_affinity": "block"}
    with engine(tmp_path, **settings) as harness:
        result = harness.call(os.getpid)
        assert "cpu_affinity block needs a core for each" in (
            result.failure.message + result.failure.traceback
        )


def test_a_sandbox_for_each_task(tmp_path):
    def look():
        Path("made").touch()
        return os.getcwd(), os.environ["GC_TASK_SANDBOX_DIR"], len(list(Path.cwd().iterdir()))

    settings = {"max_workers_per_node": 1, "run_in_sandbox": True, "working_dir": "here"}
    with engine(tmp_path, **settings) as harness:
        for _ in range(2):
            task_id = harness.submit(look)
            found = payload.load_result(harness.result(task_id).payload)
            assert found == (str(tmp_path / "here" / task_id),) * 2 + (1,)


def test_without_a_sandbox_no_variable_names_one(tmp_path, monkeypatch):
    monkeypatch.setenv("GC_TASK_SANDBOX_DIR", "/somewhere")

    def look():
        return os.environ.get("GC_TASK_SANDBOX_DIR")

    with engine(tmp_path, max_workers_per_node=1) as harness:
        assert harness.value(look) is None


def test_a_working_directory_that_went_away_is_made_again(tmp_path):
    with engine(tmp_path, max_workers_per_node=1) as harness:
        assert harness.value(os.getpid) > 0
        shutil.rmtree(tmp_path / "tasks_working_dir")
        assert harness.value(os.getcwd) == str(tmp_path / "tasks_working_dir")


def test_a_working_directory_that_cannot_be_used_is_said(tmp_path):
    with engine(tmp_path, max_workers_per_node=1) as harness:
        pid = harness.value(os.getpid)
        (tmp_path / "tasks_working_dir").rmdir()
        (tmp_path / "tasks_working_dir").touch()
        result = harness.call(os.getpid)
        assert result.failure.code == "ENGINE_FAILED"
        assert "directory cannot be used" in result.failure.message
        (tmp_path / "tasks_working_dir").unlink()
        assert harness.value(os.getpid) == pid


@pytest.mark.parametrize("kind", ["ProcessPoolEngine", "ThreadPoolEngine"])
def test_a_task_that_outstays_its_walltime(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("GC_TASK_TIMEOUT", "3")  # the last task here has to keep it

    def stay():
        import time

        time.sleep(60)

    with engine(tmp_path, type=kind, max_workers=2) as harness:
        result = harness.call(stay)
        assert result.failure.code == "WALLTIME_EXCEEDED"
        assert "after 3 seconds" in result.failure.message
        assert result.ended - result.began >= 2.9
        assert harness.value(os.getpid) > 0


def test_a_walltime_that_is_no_number(tmp_path, monkeypatch):
    monkeypatch.setenv("GC_TASK_TIMEOUT", "soon")
    with engine(tmp_path, max_workers_per_node=1) as harness:
        failure = harness.call(os.getpid).failure
        assert "GC_TASK_TIMEOUT is 'soon'" in failure.message + failure.traceback


@pytest.mark.parametrize("kind", ["GlobusComputeEngine", "ThreadPoolEngine"])
def test_serializers_that_are_not_allowed(tmp_path, kind):
    def one():
        return 1

    allowed = ["globus_compute_sdk.serialize.PureSourceTextInspect", "JSONData"]
    with engine(tmp_path, type=kind, allowed_serializers=allowed) as harness:
        refused = harness.call(one)
        assert refused.failure.code == "DESERIALIZATION_FAILED"
        assert "the function came by serializer '01'" in refused.failure.message
        functions = [Function("source", payload.dump_source("f", "def f(x):\n    return x\n"))]
        bodies = [payload.dump_arguments((4,), {}, "11"), payload.dump_arguments((4,), {}, "00")]
        taken, other = harness.submit_raw(functions, "source", bodies)
        assert payload.load_result(harness.result(taken).payload) == 4
        assert "the arguments came by serializer '00'" in harness.result(other).failure.message


def test_a_result_by_the_first_serializer_that_takes_it(tmp_path):
    text = "def f(x):\n    return x if x else {1, 2}\n"
    functions = [Function("f", payload.dump_source("f", text))]
    with engine(tmp_path, max_workers_per_node=1) as harness:
        tasks = [
            Task(f"t{x}", "f", "g", payload.dump_arguments((x,), {}), b"", ("11", "00"))
            for x in (0, 1)
        ]
        harness.engine.submit(functions, tasks)
        assert harness.result("t1").payload == payload.pack(["11\n1"])
        assert payload.load_result(harness.result("t0").payload) == {1, 2}
