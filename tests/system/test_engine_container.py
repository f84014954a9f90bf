"""Workers in a real container, from an image that never heard of us."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from engine_harness import Harness, engine, until
from podman_image import IMAGE, configure, make_root, missing, podman
from podman_image import LIMIT_S as PODMAN_S

from mep import payload
from mep.endpoint.template.names import Site
from mep.endpoint.template.render import render
from mep.wire.parent import Parent
from mep.wire.tasks import Function, Result

pytestmark = pytest.mark.root

TEMPLATE = """\
display_name: My Containerized Endpoint
engine:
  type: GlobusComputeEngine
  container_type: {{ container_type }}
  container_uri: {{ container_uri }}
  container_cmd_options: {{ container_cmd_options|default() }}
  provider: {init_blocks: 1, max_blocks: 1, min_blocks: 0, type: LocalProvider}
"""


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which podman knows the image."""
    if missing():
        pytest.skip(f"not installed: {', '.join(missing())}")
    directory = tmp_path_factory.mktemp("podman")
    make_root(directory / "root.tar")
    found = configure(directory, directory)
    podman(found, "import", "--quiet", str(directory / "root.tar"), IMAGE)
    yield found
    assert containers(found) == []
    podman(found, "system", "reset", "--force")


@pytest.fixture
def settings(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return {
        "max_workers_per_node": 2,
        "container_type": "podman",
        "container_uri": IMAGE,
        "container_cmd_options": "--network=none",
    }


def containers(variables: dict[str, str]) -> list[str]:
    return podman(variables, "ps", "--all", "--quiet").split()


def submit(harness: Harness, body: str, *args: Any) -> str:
    """A function as source text: what dill makes of a test's function wants the test's modules."""
    function_id = f"source-{hash(body)}"
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    text = f"import os, sys, time\nfrom pathlib import Path\ndef f(*args):\n{lines}"
    functions = [Function(function_id, payload.dump_source("f", text))]
    (task_id,) = harness.submit_raw(functions, function_id, [payload.dump_arguments(args, {})])
    return task_id


def call(harness: Harness, body: str, *args: Any) -> Result:
    return harness.result(submit(harness, body, *args))


def value(harness: Harness, body: str, *args: Any) -> Any:
    result = call(harness, body, *args)
    assert result.outcome == "success", result
    return payload.load_result(result.payload)


LOOK = """\
names = ("HOME", "USER", "LOGNAME", "SHELL", "PATH", "HOSTNAME", "GC_TASK_UUID")
found = {name: os.environ.get(name) for name in names}
return sorted(os.listdir("/usr/bin")), sys.path, found, os.getcwd(), os.getppid()
"""


def test_a_task_runs_in_the_container(tmp_path: Path, settings: dict[str, Any]) -> None:
    with engine(tmp_path, **settings) as harness:
        task_id = submit(harness, LOOK)
        result = harness.result(task_id)
        assert result.outcome == "success", result
        programs, path, found, directory, parent = payload.load_result(result.payload)
        assert programs == ["python3", "sh", "sleep"]
        assert not [entry for entry in path if "site-packages" in entry]
        assert all(found.values())
        assert found["HOSTNAME"] == socket.gethostname()
        assert found["GC_TASK_UUID"] == task_id
        assert directory == found["HOME"] == str(tmp_path / "tasks_working_dir")
        assert parent == 1
        assert value(harness, "Path('made').write_text('inside')") is None
    made = tmp_path / "tasks_working_dir" / "made"
    assert made.read_text() == "inside"
    assert made.stat().st_uid == os.getuid()
    assert list((tmp_path / "containers").iterdir()) == []


def test_a_worker_that_dies_is_replaced_and_told_of(
    tmp_path: Path, settings: dict[str, Any], variables: dict[str, str]
) -> None:
    with engine(tmp_path, **settings) as harness:
        lost = call(harness, "print('last words', flush=True)\nos._exit(7)")
        assert lost.failure.code == "WORKER_LOST"
        assert f"on node {socket.gethostname()} exited with status 7" in lost.failure.message
        assert "last words" in lost.failure.traceback
        fault = call(harness, "os.kill(os.getpid(), 11)")
        assert "signal 11 (SIGSEGV)" in fault.failure.message
        assert value(harness, "return os.getppid()") == 1
        assert len(containers(variables)) == 1


def started(directory: Path, name: str) -> int:
    """The process on this machine that a task in the container has started with this argument."""
    until(lambda: (directory / "tasks_working_dir" / "begun").exists(), "the task has begun")
    found = [
        p.pid for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", name]
    ]
    (pid,) = found
    return pid


LEAVE_BEHIND = """\
import subprocess
child = subprocess.Popen(["sleep", args[0]], start_new_session=args[1])
while Path(f"/proc/{child.pid}/cmdline").read_bytes() != f"sleep\\0{args[0]}\\0".encode():
    time.sleep(0.01)
Path("begun").touch()
child.wait()
"""


def test_cancelling_ends_what_the_function_started(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    with engine(tmp_path, **settings) as harness:
        task_id = submit(harness, LEAVE_BEHIND, "600.25", False)
        child = started(tmp_path, "600.25")
        harness.engine.cancel([task_id])
        assert harness.result(task_id).outcome == "cancelled"
        until(lambda: not psutil.pid_exists(child), "the end of the function's own child")
        assert value(harness, "return 1") == 1


def test_kill_9_of_the_node_pool_leaves_nothing_in_the_container(
    tmp_path: Path, settings: dict[str, Any], variables: dict[str, str]
) -> None:
    with engine(tmp_path, **settings) as harness:
        task_id = submit(harness, LEAVE_BEHIND, "600.5", True)
        child = started(tmp_path, "600.5")
        pool_of(tmp_path).kill()
        assert harness.result(task_id).failure.code == "WORKER_LOST"
        until(lambda: not psutil.pid_exists(child), "the end of what had left the worker's group")
        assert value(harness, "return os.getppid()") == 1
        until(lambda: len(containers(variables)) == 1, "the first container is gone")


def pool_of(directory: Path) -> psutil.Process:
    """The node pool of the engine in `directory`."""
    (pool,) = (p for p in psutil.Process().children() if str(directory) in " ".join(p.cmdline()))
    return pool


def test_a_container_that_ends_is_told_of_and_replaced(
    tmp_path: Path, settings: dict[str, Any], variables: dict[str, str]
) -> None:
    with engine(tmp_path, **settings) as harness:
        task_id = submit(harness, "Path('begun').touch()\ntime.sleep(600)")
        until(lambda: (tmp_path / "tasks_working_dir" / "begun").exists(), "the task has begun")
        podman(variables, "kill", *containers(variables))
        failure = harness.result(task_id).failure
        assert failure.code == "WORKER_LOST"
        assert "the container of its workers ended with status 137" in failure.message
        assert value(harness, "return 1") == 1


def test_memory_that_runs_out_is_said_with_its_limit(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    settings["container_cmd_options"] += " --memory=96m --memory-swap=96m"
    with engine(tmp_path, **settings) as harness:
        failure = call(harness, "return len(bytearray(b'x') * 500_000_000)").failure
        assert failure.code == "WORKER_LOST"
        assert "signal 9 (SIGKILL) because memory ran out" in failure.message
        assert "may have 96 MiB together" in failure.message
        assert value(harness, "return 1") == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"container_uri": "localhost/no-such-image:1"}, "no-such-image"),
        ({"container_cmd_options": "--no-such-option"}, "unknown flag: --no-such-option"),
        ({"container_cmd_options": "--pull=never -v $NOWHERE:/x"}, "names $NOWHERE, which is not"),
        ({"worker_python": "python7"}, "python7"),
        ({"container_type": "podman-hpc"}, "runtime podman-hpc cannot be started on node"),
    ],
)
def test_a_container_that_cannot_start_fails_the_tasks_in_its_own_words(
    tmp_path: Path, settings: dict[str, Any], change: dict[str, str], words: str
) -> None:
    settings["container_cmd_options"] += " --pull=never"
    with engine(tmp_path, **settings | change) as harness:
        failure = call(harness, "return 1").failure
        assert failure.code == "ENGINE_FAILED"
        assert words in failure.message
        assert "No node pool came up" in failure.message
    assert list((tmp_path / "containers").iterdir()) == []


def test_custom_with_worker_init_on_the_host(tmp_path: Path, settings: dict[str, Any]) -> None:
    settings["container_type"] = "custom"
    settings["container_cmd_options"] = (
        "$RUNNER run --rm --network=none -e GIVEN -v {EXECUTOR_RUNDIR}:{EXECUTOR_RUNDIR} "
        f"{IMAGE} sh -c 'export MADE=inside; exec {{EXECUTOR_LAUNCH_CMD}}'"
    )
    runner = shutil.which("podman")
    init = f"command -v bash >&2; export RUNNER={runner} GIVEN='by the host'"
    settings["provider"] = {"type": "LocalProvider", "worker_init": init}
    with engine(tmp_path, **settings) as harness:
        look = "return os.environ['GIVEN'], os.environ['MADE'], Path('/usr/bin/podman').exists()"
        assert value(harness, look) == ("by the host", "inside", False)


def test_the_published_template(tmp_path: Path, settings: dict[str, Any]) -> None:
    names = ("container_type", "container_uri", "container_cmd_options")
    options = {name: settings[name] for name in names}
    rendered = render(
        TEMPLATE,
        options,
        site=Site(Parent(endpoint_id="", endpoint_name="", relay_url=""), {}, {}, "", {}),
    )
    with engine(tmp_path, **rendered["engine"]) as harness:
        assert value(harness, "return sorted(os.listdir('/usr/bin'))") == ["python3", "sh", "sleep"]


def test_a_long_path_and_a_working_directory_elsewhere(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    home = tmp_path / ("x" * 120)
    home.mkdir(mode=0o700)
    settings |= {"working_dir": str(tmp_path / "work"), "run_in_sandbox": True}
    with engine(home, **settings) as harness:
        found = value(harness, "Path('made').touch()\nreturn os.getcwd()")
        assert Path(found).parent == tmp_path / "work"
        assert (Path(found) / "made").exists()


AS_USER = """\
import os, sys
sys.path[:0] = [sys.argv[1], os.path.dirname(sys.argv[1])]
from pathlib import Path
from engine_harness import engine
from podman_image import IMAGE, podman
from test_engine_container import value
directory = Path.home() / "endpoint"
settings = {"container_type": "podman", "container_uri": IMAGE,
            "container_cmd_options": "--network=none", "max_workers_per_node": 1}
with engine(directory, **settings) as harness:
    write = "Path('made').touch()\\nreturn os.environ['USER'], os.getppid()"
    assert value(harness, write) == (os.environ["USER"], 1)
made = (directory / "tasks_working_dir" / "made").stat()
assert (made.st_uid, made.st_gid) == (os.getuid(), os.getgid())
assert podman({}, "ps", "--all", "--quiet") == ""
"""


def test_an_ordinary_user_owns_what_tasks_write(
    tmp_path_factory: pytest.TempPathFactory, new_account: Callable[..., pwd.struct_passwd]
) -> None:
    if missing():
        pytest.skip(f"not installed: {', '.join(missing())}")
    account = new_account("contain")
    home = Path(account.pw_dir)
    ids = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    environment = {"HOME": str(home), "USER": account.pw_name, "PATH": "/usr/bin:/usr/sbin:/bin"}
    for name in ("run", "endpoint"):
        (home / name).mkdir(mode=0o700)
        os.chown(home / name, account.pw_uid, account.pw_gid)
    environment |= configure(home, home) | {"XDG_RUNTIME_DIR": str(home / "run")}
    root = tmp_path_factory.mktemp("root") / "root.tar"
    make_root(root)

    def as_user(*command: str, stdin: Any = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, **ids, env=environment, stdin=stdin, cwd=home, capture_output=True,
            text=True, timeout=PODMAN_S,
        )  # fmt: skip

    able = as_user("podman", "unshare", "true")
    if able.returncode:
        pytest.skip(f"podman does not work for ordinary users here: {able.stderr}")
    with root.open("rb") as tar:
        imported = as_user("podman", "import", "--quiet", "-", IMAGE, stdin=tar)
    assert imported.returncode == 0, imported.stderr
    here = str(Path(__file__).parent)
    done = as_user(sys.executable, "-c", AS_USER, here)
    assert done.returncode == 0, done.stderr
    as_user("podman", "system", "reset", "--force")
