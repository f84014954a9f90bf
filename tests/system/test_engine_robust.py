"""What functions do to their process, for each kind of worker: a clear result, and the next runs.

A container is here a command that starts the launch command in an empty environment; that it may
be a real one is shown elsewhere.
"""

import contextlib
import os
import pwd
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from engine_harness import Harness, engine, until

from mep import payload
from mep.wire.tasks import Function, Result

PYTHON = "/usr/bin/python3"
KINDS: dict[str, dict[str, Any]] = {
    "forked": {},
    "command": {"worker_python": PYTHON},
    "container": {
        "worker_python": PYTHON,
        "container_type": "custom",
        "container_cmd_options": "env -i {EXECUTOR_LAUNCH_CMD}",
    },
}


@pytest.fixture(scope="module", params=KINDS)
def one(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("engine")
    with engine(directory, max_workers_per_node=1, **KINDS[request.param]) as harness:
        yield harness


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"max_workers_per_node": 1, **KINDS[request.param]}


def submit(harness: Harness, body: str, *args: Any) -> str:
    """A function as source text, which any Python takes."""
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


def lost(harness: Harness, body: str) -> str:
    """What is said of a task that took its worker with it; the next one runs."""
    result = call(harness, body)
    assert result.failure is not None, result
    assert result.failure.code == "WORKER_LOST"
    assert f"on node {socket.gethostname()} " in result.failure.message
    assert 0 < result.began <= result.ended
    assert value(harness, "return 5") == 5
    return result.failure.message + "\n" + result.failure.traceback


def raised(harness: Harness, body: str) -> str:
    """What is said of an exception; the same worker runs the next task."""
    pid = value(harness, "return os.getpid()")
    result = call(harness, body)
    assert result.failure is not None, result
    assert value(harness, "return os.getpid()") == pid
    return f"{result.failure.code} {result.failure.message}"


def test_leaving_with_a_status(one: Harness) -> None:
    said = lost(one, "print('last words', flush=True)\nos._exit(7)")
    assert "exited with status 7 before the function returned" in said
    assert "last words" in said


def test_the_last_of_much_output_is_told(one: Harness) -> None:
    said = lost(one, "print('x' * 20_000_000)\nprint('the end', flush=True)\nos._exit(1)")
    assert "the end" in said
    assert len(said) < 8192


def test_kill_9(one: Harness) -> None:
    assert "signal 9 (SIGKILL), as the kernel" in lost(one, "os.kill(os.getpid(), 9)")


def test_an_interruption(one: Harness) -> None:
    assert "signal 2 (SIGINT)" in lost(one, "os.kill(os.getpid(), 2)")


def test_a_fault(one: Harness) -> None:
    assert "signal 11 (SIGSEGV)" in lost(one, "import ctypes\nctypes.string_at(0)")


def test_recursion_without_end_in_c(one: Harness) -> None:
    body = (
        "x = []\nfor _ in range(1_000_000):\n    x = [x]\n"
        "limit = sys.getrecursionlimit()\nsys.setrecursionlimit(10**9)\n"
        "try:\n    repr(x)\nfinally:\n    sys.setrecursionlimit(limit)\n"
    )
    failure = call(one, body).failure
    assert failure is not None
    assert "SIGSEGV" in failure.message or "RecursionError" in failure.message
    assert value(one, "return 5") == 5


def test_another_program_in_its_place(one: Harness) -> None:
    said = lost(one, "os.execv('/bin/sleep', ['sleep', '600'])")
    assert "replaced the process by another program (exec)" in said


def test_another_program_that_ends(one: Harness) -> None:
    said = lost(one, "os.execv('/bin/sh', ['sh', '-c', 'echo at the end >&2; exit 3'])")
    assert "exited with status 3" in said or "(exec)" in said


def test_closing_the_workers_own_descriptors(one: Harness) -> None:
    assert "descriptors" in lost(one, "os.closerange(200, 4096)")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise SystemExit(3)", "USER_EXCEPTION SystemExit: 3"),
        ("raise KeyboardInterrupt", "USER_EXCEPTION KeyboardInterrupt"),
        ("raise GeneratorExit", "USER_EXCEPTION GeneratorExit"),
        ("raise BaseExceptionGroup('two', [SystemExit(1)])", "USER_EXCEPTION"),
        (
            "class Odd(Exception):\n    def __reduce__(self):\n        raise SystemExit\n"
            "raise Odd('what went wrong')",
            "Odd: what went wrong",
        ),
        (
            "class Odd(Exception):\n    def __str__(self):\n        raise KeyboardInterrupt\n"
            "raise Odd",
            "Odd: <exception str() failed>",
        ),
        (
            "class Odd:\n    def __reduce__(self):\n        raise KeyboardInterrupt\nreturn Odd()",
            "SERIALIZATION_FAILED",
        ),
        ("return (n for n in ())", "SERIALIZATION_FAILED"),
    ],
)
def test_what_a_function_raises_or_returns(one: Harness, body: str, words: str) -> None:
    assert words in raised(one, body)


def test_threads_that_go_on(one: Harness) -> None:
    body = (
        "import threading\ndef go():\n    while True:\n        time.sleep(0.001)\n"
        "threading.Thread(target=go, daemon=True).start()\n"
        "threading.Thread(target=go, daemon=False).start()\nreturn os.getpid()"
    )
    pid = value(one, body)
    assert value(one, "import threading\nreturn os.getpid(), threading.active_count()") == (pid, 3)
    assert "status 4" in lost(one, "os._exit(4)")


def test_a_child_that_goes_on(one: Harness) -> None:
    body = "pid = os.fork()\nif pid == 0:\n    time.sleep(600)\nreturn os.getpid(), pid"
    pid, child = value(one, body)
    assert value(one, "return os.getpid(), Path(f'/proc/{args[0]}').exists()", child) == (pid, True)
    lost(one, "os._exit(4)")
    until(lambda: ended(child), "the end of the child with the worker")


def ended(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def test_the_working_directory_removed(one: Harness) -> None:
    assert value(one, "import shutil\nshutil.rmtree(os.getcwd())") is None
    assert value(one, "return os.getcwd()") == str(one.directory / "tasks_working_dir")


def test_output_stays_in_a_private_file(one: Harness) -> None:
    body = "print('out of the function')\nprint('beside it', file=sys.stderr)\nreturn 1"
    result = call(one, body)
    assert b"out of" not in result.payload
    logs = [path for path in (one.directory / "workers").iterdir() if path.name.endswith("-0.log")]
    assert any("out of the function\nbeside it\n" in path.read_text() for path in logs)
    assert {stat.S_IMODE(path.stat().st_mode) for path in logs} == {0o600}


def test_signals_that_a_function_has_changed_do_not_keep_it_alive(
    tmp_path: Path, kind: dict[str, Any]
) -> None:
    body = (
        "import signal\nfor number in range(1, 32):\n    if number not in (9, 19):\n"
        "        signal.signal(number, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))\n"
        "Path('begun').touch()\ntime.sleep(600)\n"
    )
    with engine(tmp_path, **kind) as harness:
        task_id = submit(harness, body)
        until(lambda: (tmp_path / "tasks_working_dir" / "begun").exists(), "the task has begun")
        harness.engine.cancel([task_id])
        assert harness.result(task_id).outcome == "cancelled"
        assert value(harness, "return 5") == 5


def test_what_a_bare_job_lacks_is_set_for_tasks(tmp_path: Path, kind: dict[str, Any]) -> None:
    entry = pwd.getpwuid(os.getuid())
    names = ("HOME", "USER", "LOGNAME", "SHELL", "HOSTNAME", "PATH")
    init = "unset HOME USER LOGNAME SHELL; HOSTNAME=login; export HOSTNAME"
    if "worker_python" in kind:
        init += "; unset PATH"
    with engine(tmp_path, provider={"worker_init": init}, **kind) as harness:
        found = value(harness, f"return [os.environ.get(name) for name in {names}]")
        assert found[:3] == [entry.pw_dir, entry.pw_name, entry.pw_name]
        assert found[3] == entry.pw_shell
        assert found[4] == socket.gethostname()
        assert found[5]


def test_a_limit_of_address_space(tmp_path: Path, kind: dict[str, Any]) -> None:
    init = "ulimit -v 2097152"
    with engine(tmp_path, provider={"worker_init": init}, **kind) as harness:
        pid = value(harness, "return os.getpid()")
        failure = call(harness, "return len(bytearray(3 * 2**30))").failure
        assert failure is not None
        assert failure.code == "USER_EXCEPTION"
        assert "MemoryError (a worker may have 2 GiB of address space" in failure.message
        assert value(harness, "return os.getpid()") == pid


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group whose processes may have 256 MiB together."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes a control group")
    top = Path("/sys/fs/cgroup/memory")
    names = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
    if not top.is_dir():
        top, names = Path("/sys/fs/cgroup"), ("memory.max", "memory.swap.max")
    made = top / f"mept-contain-{os.getpid()}"
    made.mkdir()
    try:
        (made / names[0]).write_text(str(256 * 2**20))
        if (made / names[1]).exists():
            (made / names[1]).write_text("0" if "swap" in names[1] else str(256 * 2**20))
        yield made
    finally:
        made.rmdir()


@pytest.mark.root
def test_memory_of_a_job_that_runs_out(tmp_path: Path, kind: dict[str, Any], group: Path) -> None:
    init = f"echo $$ > {group}/cgroup.procs"
    with engine(tmp_path, provider={"worker_init": init}, **kind) as harness:
        said = lost(harness, "return len(bytearray(b'x') * 600_000_000)")
        assert "signal 9 (SIGKILL) because memory ran out" in said
        assert "(a node's workers may have 256 MiB together)" in said
    until(lambda: not (group / "cgroup.procs").read_text(), "the group is empty")


def test_a_cancelled_call_keeps_its_thread_and_is_told_of_at_once(tmp_path: Path) -> None:
    with engine(tmp_path, type="ThreadPoolEngine", max_workers=2) as harness:
        wait = "Path(args[0]).touch()\nwhile not Path(args[1]).exists():\n    time.sleep(0.01)"
        begun, go = str(tmp_path / "begun"), str(tmp_path / "go")
        stuck = submit(harness, wait, begun, go)
        until(lambda: os.path.exists(begun), "the call has begun")
        harness.engine.cancel([stuck])
        assert harness.result(stuck).outcome == "cancelled"
        assert value(harness, "import threading\nreturn threading.current_thread().name")
        second = submit(harness, wait, begun, go)
        third = submit(harness, "return 3")
        Path(go).touch()
        assert harness.result(second).outcome == "success"
        assert harness.result(third).outcome == "success"
        assert [result.task_id for result in harness.results].count(stuck) == 1


STRANGER = """\
import glob, socket, sys
(path,) = glob.glob(sys.argv[1] + "/containers/*/control.sock")
for said in (b"", b"token", b"x" * 5000):
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    peer.connect(path)
    peer.send(said)
    assert peer.recv(10) == b""
print("sent off", file=sys.stderr)
"""


def test_who_cannot_tell_the_secret_is_not_taken_for_the_container(tmp_path: Path) -> None:
    (tmp_path / "stranger.py").write_text(STRANGER)
    settings = KINDS["container"] | {
        "container_cmd_options": f"sh -c '{PYTHON} {{EXECUTOR_RUNDIR}}/stranger.py "
        "{EXECUTOR_RUNDIR} && exec {EXECUTOR_LAUNCH_CMD}'",
    }
    with engine(tmp_path, max_workers_per_node=1, **settings) as harness:
        assert value(harness, "return 5") == 5
        (log,) = (tmp_path / "workers").glob("*-container.log")
        assert log.read_text() == "sent off\n"
        assert list((tmp_path / "containers").iterdir()) == []
