"""What dies, and what becomes of its tasks: every one ends once, none runs twice unasked."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from engine_harness import LIMIT_S, Harness, engine, processes_of, until

from mep import payload
from mep.endpoint.engines.base import Callbacks, EngineError, Surroundings
from mep.endpoint.engines.build import build
from mep.wire.stream import Stream, head_of, lead


def note(directory, name):
    """Write down that this task has begun; one file per execution."""
    import tempfile

    tempfile.mkstemp(prefix=f"{name}-", dir=directory)


def block(directory, name):
    """A task that does not end by itself."""
    import tempfile

    tempfile.mkstemp(prefix=f"{name}-", dir=directory)
    while True:
        time.sleep(60)


def block_once(directory, name):
    """Does not end at the first try."""
    import tempfile

    tempfile.mkstemp(prefix=f"{name}-", dir=directory)
    while sum(entry.startswith(f"{name}-") for entry in os.listdir(directory)) < 2:
        time.sleep(0.01)
    return "second"


def spawn_and_block(directory, name):
    """Leaves a child of its own behind."""
    import subprocess
    import tempfile

    child = subprocess.Popen(["sleep", "1000"])
    tempfile.mkstemp(prefix=f"{name}-{child.pid}-", dir=directory)
    child.wait()


@pytest.fixture
def ran(tmp_path):
    directory = tmp_path / "ran"
    directory.mkdir()
    return directory


@pytest.fixture
def home(tmp_path):
    directory = tmp_path / "endpoint"
    directory.mkdir(mode=0o700)
    return directory


def executions(ran: Path) -> Counter[str]:
    return Counter(path.name.split("-")[0] for path in ran.iterdir())


def pool_of(home: Path) -> psutil.Process:
    """The node pool of an engine that has one block."""
    (pool,) = family(psutil.Process().children(), home)
    return pool


def family(processes: list[psutil.Process], home: Path) -> list[psutil.Process]:
    """Those that belong to the engine in `home` and have not ended."""
    members = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if str(home) in " ".join(process.cmdline()):
                members.append(process)
    return members


def gone(pid: int) -> bool:
    """Whether a process has ended; who has to reap it is not our business."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def begun(ran: Path, name: str) -> None:
    until(lambda: executions(ran)[name], f"{name} has begun")


def test_kill_9_of_a_worker_ends_its_task_alone(home, ran):
    with engine(home, max_workers_per_node=2) as harness:
        other = harness.submit(block, str(ran), "other")
        begun(ran, "other")
        server = pool_of(home).children()[0]
        others = server.children()
        task_id = harness.submit(block, str(ran), "a")
        begun(ran, "a")
        harness.running(task_id)
        (worker,) = [child for child in server.children() if child not in others]
        worker.kill()
        failure = harness.result(task_id).failure
        assert failure.code == "WORKER_LOST"
        assert "signal 9 (SIGKILL)" in failure.message
        assert socket.gethostname() in failure.message
        harness.submit(note, str(ran), "b")
        begun(ran, "b")
        assert other not in {result.task_id for result in harness.results}
        assert executions(ran) == {"other": 1, "a": 1, "b": 1}


def test_kill_9_of_the_node_pool_spares_what_has_not_begun(home, ran):
    with engine(home, max_workers_per_node=2, prefetch_capacity=20) as harness:
        first = harness.submit_many(block, [(str(ran), "a"), (str(ran), "b")])
        begun(ran, "a")
        begun(ran, "b")
        queued = harness.submit_many(note, [(str(ran), f"q{n}") for n in range(40)])
        harness.wait(lambda: queued[17] in harness.starting)
        pool_of(home).kill()
        for task_id in first:
            failure = harness.result(task_id).failure
            assert failure.code == "WORKER_LOST"
            assert "SIGKILL" in failure.message
        harness.wait(lambda: len(harness.results) == 42)
        assert {harness.result(task_id).outcome for task_id in queued} == {"success"}
        assert set(executions(ran).values()) == {1}
        assert len(executions(ran)) == 42


def test_the_childrens_children_end_with_the_pool(home, ran):
    with engine(home, max_workers_per_node=1) as harness:
        task_id = harness.submit(spawn_and_block, str(ran), "a")
        begun(ran, "a")
        child = int(next(ran.iterdir()).name.split("-")[1])
        pool_of(home).kill()
        harness.result(task_id)
        until(lambda: gone(child), "the end of the function's own child")


def test_retries_run_a_task_again(home, ran):
    with engine(home, max_workers_per_node=1, max_retries_on_system_failure=1) as harness:
        task_id = harness.submit(block_once, str(ran), "a")
        begun(ran, "a")
        pool_of(home).kill()
        result = harness.result(task_id)
        assert payload.load_result(result.payload) == "second"
        assert executions(ran) == {"a": 2}


def test_retries_end(home):
    def leave():
        os._exit(3)

    with engine(home, max_workers_per_node=1, max_retries_on_system_failure=2) as harness:
        result = harness.call(leave)
        assert result.failure.code == "WORKER_LOST"
        assert harness.starting.count(result.task_id) == 3


def test_cancel_of_waiting_queued_and_running(home, ran):
    with engine(home, max_workers_per_node=1, prefetch_capacity=1) as harness:
        names = ("running", "queued", "waiting")
        ids = harness.submit_many(block, [(str(ran), name) for name in names])
        begun(ran, "running")
        harness.running(ids[0])
        harness.engine.cancel([ids[2], ids[1], "unknown"])
        assert harness.result(ids[2]).outcome == "cancelled"
        assert harness.result(ids[1]).outcome == "cancelled"
        harness.engine.cancel([ids[0]])
        result = harness.result(ids[0])
        assert (result.outcome, result.failure.code) == ("cancelled", "CANCELLED")
        harness.submit(note, str(ran), "after")
        begun(ran, "after")
        harness.engine.cancel(ids)
        assert executions(ran) == {"running": 1, "after": 1}
        assert len({r.task_id for r in harness.results}) == len(harness.results)


def test_cancel_ends_what_the_function_started(home, ran):
    with engine(home, max_workers_per_node=1) as harness:
        task_id = harness.submit(spawn_and_block, str(ran), "a")
        begun(ran, "a")
        child = int(next(ran.iterdir()).name.split("-")[1])
        harness.engine.cancel([task_id])
        assert harness.result(task_id).outcome == "cancelled"
        until(lambda: gone(child), "the end of the function's own child")


def test_cancel_with_threads(home, ran):
    with engine(home, type="ThreadPoolEngine", max_workers=1) as harness:
        task_id = harness.submit(block_once, str(ran), "a")
        begun(ran, "a")
        harness.engine.cancel([task_id])
        assert harness.result(task_id).outcome == "cancelled"
        note(str(ran), "a")  # lets the thread come to its end
        harness.call(note, str(ran), "b")
        assert len(harness.results) == 2


def connected_to(home):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(home / "interchange.sock"))
    return sock


def test_garbage_and_strangers_do_not_disturb_the_interchange(home, ran):
    def add(a, b):
        return a + b

    with engine(home, max_workers_per_node=1) as harness:
        assert harness.value(add, 1, 2) == 3
        streams = []
        for name in (b"0.1", b"\xff\xfe", b"stranger"):
            for message in (
                [b"garbage"], [b""], [b'["results",[["task-0","success","","","",0,0]]]', b"x"],
                [b'["hello",1,{"pool_id":"stranger","block_id":"9","node":"n","pid":1,'
                 b'"python":"3","workers":1000,"credit":1000}]'],
                [b'["hello",99,{}]'], [b'["results",[["a"]]]'], [b'["beat","x"]'], [b"\xff" * 100],
                [b'["unknown"]'], [b"[" * 100_000],
            ):  # fmt: skip
                stream = Stream(connected_to(home))
                stream.send(head_of([name]))
                stream.send(head_of(message), *message[1:])
                streams.append(stream)
        for junk in (b"\0" * 100, b"\xff" * 100, lead(b"\0\0\0\1", 0), lead(b"", 3) + b"abc"):
            sock = connected_to(home)
            sock.sendall(junk)
            streams.append(Stream(sock))
        for number in range(50):
            assert harness.value(add, number, 1) == number + 1
        for stream in streams:
            stream.close()
        assert harness.engine.status().workers == 1


def test_a_ledger_that_cannot_be_written_ends_the_tasks_unrun(home, ran):
    with engine(home, max_workers_per_node=1) as harness:
        harness.disk_full = True
        failure = harness.call(note, str(ran), "unrun").failure
        assert failure.code == "ENGINE_FAILED"
        assert "No space left" in failure.message
        harness.disk_full = False
        harness.call(note, str(ran), "run")
        assert executions(ran) == {"run": 1}


def test_a_worker_that_speaks_garbage_is_replaced(home):
    def babble():
        for number in os.listdir("/proc/self/fd"):
            if int(number) >= 200 and stat.S_ISSOCK(os.fstat(int(number)).st_mode):
                os.write(int(number), b"\xff" * 64)
        while True:
            time.sleep(60)

    def add(a, b):
        return a + b

    with engine(home, max_workers_per_node=1) as harness:
        assert harness.call(babble).failure.code == "WORKER_LOST"
        assert harness.value(add, 1, 2) == 3


def test_the_directory_must_be_private(home):
    home.chmod(0o755)
    surroundings = Surroundings(str(home), "e", "u", 1000)
    callbacks = Callbacks(lambda _: None, lambda _: None, lambda _: None)
    with pytest.raises(EngineError, match="chmod 700"):
        build({}, surroundings, callbacks).start()


def test_a_directory_with_a_long_path(tmp_path):
    directory = tmp_path / ("x" * 120)
    directory.mkdir(mode=0o700)
    with engine(directory, max_workers_per_node=1) as harness:
        assert harness.value(os.getpid) != os.getpid()


@pytest.mark.root
def test_another_user_cannot_reach_the_interchange(home):
    for ancestor in (home.parent, home.parent.parent, home.parent.parent.parent):
        ancestor.chmod(0o711)
    with engine(home, max_workers_per_node=1) as harness:
        harness.wait(lambda: True)
        until(lambda: (home / "interchange.sock").exists(), "the interchange's socket")
        script = "import socket,sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
        attempt = subprocess.run(
            [sys.executable, "-I", "-c", script, str(home / "interchange.sock")],
            user=65534,
            group=65534,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
    assert attempt.returncode != 0
    assert "PermissionError" in attempt.stderr


def test_a_silent_pool_is_ended_and_its_queue_runs_elsewhere(home, ran):
    with engine(
        home,
        max_workers_per_node=1,
        prefetch_capacity=3,
        heartbeat_period=0.2,
        heartbeat_threshold=3.0,
    ) as harness:
        stuck = harness.submit(block, str(ran), "stuck")
        begun(ran, "stuck")
        queued = harness.submit_many(note, [(str(ran), "x"), (str(ran), "y")])
        harness.wait(lambda: queued[1] in harness.starting)
        pool_of(home).send_signal(signal.SIGSTOP)
        failure = harness.result(stuck).failure
        assert failure.code == "WORKER_LOST"
        assert "silent" in failure.message
        assert {harness.result(task_id).outcome for task_id in queued} == {"success"}
        assert executions(ran) == {"stuck": 1, "x": 1, "y": 1}


def test_a_pool_that_never_comes_up_fails_the_tasks_and_recovers(home):
    def add(a, b):
        return a + b

    gate = home / "gate"
    init = f"test -e {gate} || {{ echo module load failed >&2; exit 5; }}"
    with engine(home, provider={"type": "LocalProvider", "worker_init": init}) as harness:
        failure = harness.call(add, 1, 2).failure
        assert failure.code == "ENGINE_FAILED"
        assert "module load failed" in failure.message
        assert "status 5" in failure.message
        gate.touch()
        assert harness.value(add, 1, 2) == 3


def test_tasks_fail_where_the_last_block_has_ended_and_none_is_replaced(home):
    init = "echo module load failed >&2; exit 5"
    provider = {"type": "LocalProvider", "worker_init": init}
    with engine(home, strategy="none", provider=provider) as harness:
        for _ in range(2):
            failure = harness.call(os.getppid).failure
            assert failure.code == "ENGINE_FAILED"
            assert "no other comes (strategy: none)" in failure.message
            assert "status 5" in failure.message
            assert "module load failed" in failure.message


def test_tasks_fail_where_there_are_no_blocks_at_all(home):
    provider = {"type": "LocalProvider", "init_blocks": 0}
    with engine(home, strategy="none", provider=provider) as harness:
        failure = harness.call(os.getppid).failure
        assert failure.message == "No block is left, and no other comes (strategy: none)."


def test_worker_init_reaches_the_functions(home):
    def look():
        return os.environ["FROM_INIT"]

    init = "export FROM_INIT='it''s here'"
    with engine(home, provider={"type": "LocalProvider", "worker_init": init}) as harness:
        assert harness.value(look) == "its here"


def test_an_idle_block_ends_and_the_next_task_brings_one_back(home):
    settings = {"max_workers_per_node": 1, "job_status_kwargs": {"max_idletime": 0.1}}
    with engine(home, **settings) as harness:
        first = harness.value(os.getppid)
        until(lambda: not processes_of(home), "the end of the idle block")
        assert harness.value(os.getppid) != first
        assert len(harness.engine.status().detail["blocks"]) <= 1


def test_demand_brings_more_blocks(home, ran):
    provider = {"type": "LocalProvider", "init_blocks": 0, "max_blocks": 2}
    with engine(home, max_workers_per_node=1, prefetch_capacity=0, provider=provider) as harness:
        harness.submit_many(block, [(str(ran), "a"), (str(ran), "b"), (str(ran), "c")])
        begun(ran, "a")
        begun(ran, "b")
        harness.wait(lambda: sum(move.state == "running" for move in harness.moves) == 2)
        assert len(harness.engine.status().detail["blocks"]) == 2


def test_close_lets_running_tasks_end_and_says_nothing_of_waiting_ones(home, ran):
    def release(directory, name):
        import tempfile

        tempfile.mkstemp(prefix=f"{name}-", dir=directory)
        while not os.path.exists(f"{directory}/go"):
            time.sleep(0.01)
        return "ended"

    harness = Harness(home, max_workers_per_node=1, prefetch_capacity=1)
    ids = harness.submit_many(release, [(str(ran), name) for name in ("a", "b", "c")])
    begun(ran, "a")
    (ran / "go").touch()
    harness.engine.close(LIMIT_S)
    assert payload.load_result(harness.result(ids[0]).payload) == "ended"
    told = {result.task_id for result in harness.results}
    waiting = {move.task_id for move in harness.moves if move.state == "waiting-for-nodes"}
    assert told | waiting >= set(ids)
    assert processes_of(home) == []
    late = harness.submit(note, str(ran), "late")
    assert harness.result(late).failure.code == "ENGINE_FAILED"


def test_close_ends_what_does_not_end(home, ran):
    harness = Harness(home, max_workers_per_node=1)
    task_id = harness.submit(block, str(ran), "a")
    begun(ran, "a")
    harness.engine.close(0)
    failure = harness.result(task_id).failure
    assert failure.code == "WORKER_LOST"
    assert "stopped with the endpoint" in failure.message
    assert processes_of(home) == []


ENDPOINT = """
import sys, threading
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from engine_harness import Harness
from test_engine_faults import block
harness = Harness(Path(sys.argv[2]), max_workers_per_node=2)
harness.submit(block, sys.argv[3], "a")
threading.Event().wait()
"""


def test_kill_9_of_the_endpoint_leaves_nothing_running(home, ran):
    here = str(Path(__file__).parent)
    process = subprocess.Popen([sys.executable, "-c", ENDPOINT, here, str(home), str(ran)])
    begun(ran, "a")
    process.kill()
    process.wait(LIMIT_S)
    until(lambda: not processes_of(home), "the end of the node pool and its workers")


def test_random_kills_lose_no_task_and_run_none_twice(home, ran):
    """Workers and pools are killed under load: N submitted, N ended, each begun at most once."""
    import random

    def brief(directory, name):
        import tempfile

        tempfile.mkstemp(prefix=f"{name}-", dir=directory)
        return name

    count = 1500
    chance = random.Random(7)
    with engine(home, max_workers_per_node=2) as harness:
        ids = harness.submit_many(brief, [(str(ran), f"t{n}") for n in range(count)])
        seen = 0
        for wave in range(1, 9):
            # A pool has served in between: several that never came up are another story.
            enough = min(max(wave * 150, seen + 100), count)
            harness.wait(lambda enough=enough: len(harness.results) >= enough)
            seen = len(harness.results)
            victims = family(psutil.Process().children(recursive=True), home)
            with contextlib.suppress(psutil.NoSuchProcess, IndexError):
                chance.choice(victims).kill()
        harness.wait(lambda: len(harness.results) == count)
        assert sorted(r.task_id for r in harness.results) == sorted(ids)
        assert max(executions(ran).values()) == 1
        for result in harness.results:
            assert result.outcome == "success" or result.failure.code == "WORKER_LOST"


def next_pool(harness: Harness, home: Path, before: int) -> psutil.Process | None:
    """The node pool after that of another pid, once it is up."""
    pools = [one for one in family(psutil.Process().children(), home) if one.pid != before]
    return pools[0] if pools and harness.engine.status().workers else None


def test_of_the_quick_tasks_of_a_killed_pool_only_those_begun_are_lost(home, tmp_path):
    """A task in flight that had not begun runs in the next pool, whoever held it."""

    def write(path, name):
        log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(log, f"{name}\n".encode())
        os.close(log)

    log, workers, kills, count = tmp_path / "log", 2, 10, 8000
    with engine(home, max_workers_per_node=workers, prefetch_capacity=60) as harness:
        names = [f"t{number}" for number in range(count)]
        ids = harness.submit_many(write, [(str(log), name) for name in names])
        before = 0
        for wave in range(1, kills + 1):
            harness.wait(lambda wave=wave: len(harness.results) >= wave * count // (kills + 2))
            until(
                lambda before=before: (
                    next_pool(harness, home, before) or len(harness.results) == count
                ),
                "the next pool",
            )
            if pool := next_pool(harness, home, before):
                before = pool.pid
                pool.kill()
        harness.wait(lambda: len(harness.results) == count)
        ran = Counter(log.read_text().split())
        lost = {r.task_id for r in harness.results if r.outcome != "success"}
    name_of = dict(zip(ids, names, strict=True))
    assert sorted(r.task_id for r in harness.results) == sorted(ids)
    assert max(ran.values()) == 1
    assert lost
    assert sum(not ran[name_of[task_id]] for task_id in lost) <= kills * workers
