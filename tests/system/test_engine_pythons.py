"""Workers of other Pythons than the endpoint's, started by command, with nothing installed."""

import contextlib
import subprocess
import sys
import types
from pathlib import Path

import pytest
from engine_harness import engine

from mep import payload
from mep.wire.tasks import Function, Task

VERSIONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
OWN = ".".join(map(str, sys.version_info[:3]))


def installed() -> dict[str, str]:
    """Interpreters of other versions on this machine, by minor version."""
    found = {}
    for home in (Path.home() / ".pyenv" / "versions").glob("*.*"):
        with contextlib.suppress(OSError):
            if (python := home / "bin" / "python3").exists():
                found[".".join(home.name.split(".")[:2])] = str(python)
    return found


def python_of(version: str) -> str:
    python = installed().get(version)
    if python is None:
        pytest.skip(f"no Python {version} under ~/.pyenv/versions")
    return python


def another() -> str:
    """Some Python that is not of this one's minor version."""
    for version, python in sorted(installed().items()):
        if version in VERSIONS and not OWN.startswith(f"{version}."):
            return python
    pytest.skip("no other Python of 3.8 or newer under ~/.pyenv/versions")


def source(harness, text, *args, name="f"):
    function_id = f"source-{hash(text)}"
    functions = [Function(function_id, payload.dump_source(name, text))]
    (task_id,) = harness.submit_raw(functions, function_id, [payload.dump_arguments(args, {})])
    return harness.result(task_id)


WHO = "def f():\n    import os, sys\n    return list(sys.version_info[:2]), os.getcwd()\n"


@pytest.mark.parametrize("version", [v for v in VERSIONS if v in installed()] or VERSIONS[:1])
def test_a_worker_of_any_python(tmp_path, version):
    python = python_of(version)
    with engine(tmp_path, max_workers_per_node=1, worker_python=python) as harness:
        result = source(harness, WHO)
        assert result.outcome == "success", result
        found, directory = payload.load_result(result.payload)
        assert found == [int(part) for part in version.split(".")]
        assert directory == str(tmp_path / "tasks_working_dir")
        failed = source(harness, "def f():\n    return 1 / 0\n")
        assert isinstance(payload.load_exception(failed.payload), ZeroDivisionError)
        assert "return 1 / 0" in failed.failure.traceback
        lost = source(
            harness, "import os\ndef f():\n    print('bye', flush=True)\n    os._exit(4)\n"
        )
        assert "status 4" in lost.failure.message
        assert "bye" in lost.failure.traceback
        assert source(harness, WHO).outcome == "success"


def test_a_function_of_another_python_is_a_mismatch_that_names_both(tmp_path):
    python = another()
    version = subprocess.run(
        [python, "-c", "import platform; print(platform.python_version())"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()

    def by_value(items):
        return sorted((str(item) for item in items), key=lambda text: -len(text))

    bare = types.FunctionType(by_value.__code__, {}, "by_value")
    bare.__module__ = "__main__"
    functions = [Function("bare", payload.dump_function(bare))]
    settings = {"max_workers_per_node": 1, "worker_python": python, "submitted": OWN}
    with engine(tmp_path, **settings) as harness:
        (task_id,) = harness.submit_raw(functions, "bare", [payload.dump_arguments(([1],), {})])
        result = harness.result(task_id)
        assert result.failure.code == "ENVIRONMENT_MISMATCH", result
        assert f"submitted with Python {OWN}" in result.failure.message
        assert f"the worker has Python {version}" in result.failure.message
        assert "Submit from Python" in result.failure.message


def test_newer_syntax_than_the_workers(tmp_path):
    settings = {"max_workers_per_node": 1, "worker_python": python_of("3.9"), "submitted": OWN}
    text = "def f(x):\n    match x:\n        case 1:\n            return 'one'\n"
    with engine(tmp_path, **settings) as harness:
        result = source(harness, text, 1)
        assert result.failure.code == "ENVIRONMENT_MISMATCH", result
        assert "SyntaxError" in result.failure.message


def test_worker_init_that_brings_a_python(tmp_path):
    python = Path(another())
    provider = {"type": "LocalProvider", "worker_init": f'export PATH="{python.parent}:$PATH"'}
    with engine(tmp_path, max_workers_per_node=1, provider=provider) as harness:
        result = source(harness, "import sys\ndef f():\n    return sys.prefix\n")
        assert payload.load_result(result.payload) == str(python.parent.parent)


def test_worker_init_that_leaves_python_alone(tmp_path):
    provider = {"type": "LocalProvider", "worker_init": "export SPECIAL=1"}
    with engine(tmp_path, max_workers_per_node=1, provider=provider) as harness:
        text = "import os, sys\ndef f():\n    return sys.version, os.environ['SPECIAL']\n"
        result = source(harness, text)
        assert payload.load_result(result.payload) == (sys.version, "1")


def test_a_python_that_is_not_there(tmp_path):
    with engine(tmp_path, max_workers_per_node=1, worker_python="/no/such/python") as harness:
        result = source(harness, WHO)
        assert result.failure.code == "WORKER_LOST"
        assert "could not be started" in result.failure.message
        assert "/no/such/python cannot be started: No such file" in result.failure.traceback


def test_a_python_that_is_too_old(tmp_path):
    with engine(tmp_path, max_workers_per_node=1, worker_python=python_of("3.7")) as harness:
        result = source(harness, WHO)
        assert "could not be started" in result.failure.message
        assert "3.8 is the oldest that serves" in result.failure.traceback


def test_the_next_pool_finds_the_zip_made(tmp_path):
    made = []
    for _ in range(2):
        with engine(tmp_path, max_workers_per_node=1, worker_python=another()) as harness:
            assert source(harness, WHO).outcome == "success"
        (bundle,) = tmp_path.glob("worker-*.zip")
        made.append((bundle.name, bundle.stat().st_ino))
    assert made[0] == made[1]
    assert not [p for p in tmp_path.iterdir() if p.name.startswith("tmp")]


def test_cancelling_ends_a_worker_by_command(tmp_path):
    text = "import os, time\ndef f():\n    os.system('sleep 60')\n"
    with engine(tmp_path, max_workers_per_node=1, worker_python=another()) as harness:
        harness.engine.submit(
            [Function("s", payload.dump_source("f", text))],
            [Task("s-1", "s", "g", payload.dump_arguments((), {}))],
        )
        harness.running("s-1")
        harness.engine.cancel(["s-1"])
        assert harness.result("s-1").outcome == "cancelled"
        assert source(harness, WHO).outcome == "success"
