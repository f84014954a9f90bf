"""Whatever a function does to its worker becomes one clear result, and the next task runs."""

import os
import sys
from pathlib import Path

import pytest
from engine_harness import Harness, as_in_a_script, engine

from mep import payload
from mep.wire.tasks import Function, Task


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    directory = tmp_path_factory.mktemp("engine")
    with engine(directory, max_workers_per_node=1, max_result=100_000) as harness:
        yield harness


def add(a, b):
    return a + b


def assert_fine(harness: Harness) -> None:
    assert harness.value(add, 2, 3) == 5


def test_a_function_runs_and_is_journaled_before_it_starts(one):
    task_id = one.submit(add, 40, 2)
    result = one.result(task_id)
    assert payload.load_result(result.payload) == 42
    assert 0 < result.began <= result.ended
    assert one.starting.count(task_id) == 1


def test_an_exception_travels_with_the_users_own_frames(one):
    def outer():
        def inner(x):
            return 42 / x

        return inner(0)

    result = one.call(outer)
    assert (result.outcome, result.failure.code) == ("failed", "USER_EXCEPTION")
    assert isinstance(payload.load_exception(result.payload), ZeroDivisionError)
    assert result.failure.message == "ZeroDivisionError: division by zero"
    assert "in outer" in result.failure.traceback
    assert "in inner" in result.failure.traceback
    assert "mep/worker" not in result.failure.traceback


def test_wrong_arguments_are_the_users_exception(one):
    result = one.call(add, 1)
    assert result.failure.code == "USER_EXCEPTION"
    assert "missing 1 required positional argument" in result.failure.message


def test_sys_exit_is_a_result(one):
    def leave():
        sys.exit(3)

    result = one.call(leave)
    assert result.failure.code == "USER_EXCEPTION"
    assert result.failure.message == "SystemExit: 3"
    assert_fine(one)


def test_an_exception_that_cannot_be_pickled_keeps_its_text(one):
    def odd():
        class Odd(Exception):
            def __reduce__(self):
                raise TypeError("not me")

        raise Odd("what went wrong")

    result = one.call(odd)
    assert result.failure.code == "USER_EXCEPTION"
    assert result.payload == b""
    assert "what went wrong" in result.failure.traceback


def test_an_exception_that_cannot_even_be_shown(one):
    def odd():
        class Odd(Exception):
            def __str__(self):
                raise SystemExit(9)

            __repr__ = __str__

        raise Odd

    result = one.call(odd)
    assert result.failure.code == "USER_EXCEPTION"
    assert "Odd" in result.failure.message
    assert_fine(one)


def test_a_message_with_lone_surrogates(one):
    def odd():
        raise ValueError(os.fsdecode(b"name-\xff"))

    assert "name-\\udcff" in one.call(odd).failure.message


def test_a_value_that_cannot_be_pickled_is_named(one):
    def handle():
        return (n for n in range(3))

    result = one.call(handle)
    assert result.failure.code == "SERIALIZATION_FAILED"
    assert "generator" in result.failure.message
    assert_fine(one)


def test_a_result_over_the_limit(one):
    def much():
        return b"x" * 200_000

    result = one.call(much)
    assert result.failure.code == "RESULT_TOO_LARGE"
    assert "100000 are accepted" in result.failure.message


@pytest.mark.parametrize("body", [b"garbage", b"5\n01\n!!", payload.pack(["zz\nx"])])
def test_a_function_that_cannot_be_loaded(one, body):
    name = f"bad-{body!r}"
    (task_id,) = one.submit_raw([Function(name, body)], name, [payload.dump_arguments((), {})])
    result = one.result(task_id)
    assert result.failure.code == "DESERIALIZATION_FAILED"
    assert "could not load" in result.failure.message
    assert_fine(one)


def test_a_function_of_another_python_version_says_so(one):
    class OtherCode:
        def __reduce__(self):
            return exec, ("raise TypeError('code() argument 13 must be str, not int')",)

    body = payload.pack([f"01\n{payload.dump_data(OtherCode())[3:]}"])
    (task_id,) = one.submit_raw(
        [Function("other", body)], "other", [payload.dump_arguments((), {})]
    )
    message = one.result(task_id).failure.message
    assert "another Python version" in message
    assert f"Python {sys.version_info[0]}.{sys.version_info[1]}" in message


def test_a_missing_module_is_named(one):
    source = payload.dump_source("f", "import no_such_module_here\ndef f():\n    return 1\n")
    (task_id,) = one.submit_raw(
        [Function("nomod", source)], "nomod", [payload.dump_arguments((), {})]
    )
    message = one.result(task_id).failure.message
    assert "no_such_module_here" in message
    assert "Install" in message


def test_source_functions_run_their_module_code_once_a_worker_and_show_their_lines(one):
    source = payload.dump_source(
        "count", "seen = []\ndef count(n):\n    seen.append(n)\n    return 10 // (3 - len(seen))\n"
    )
    functions = [Function("source", source)]
    ids = one.submit_raw(functions, "source", [payload.dump_arguments((n,), {}) for n in range(3)])
    assert [payload.load_result(one.result(i).payload) for i in ids[:2]] == [5, 10]
    assert "return 10 // (3 - len(seen))" in one.result(ids[2]).failure.traceback


def test_arguments_that_cannot_be_loaded(one):
    (task_id,) = one.submit_raw(
        [Function("plain", payload.dump_function(as_in_a_script(add)))], "plain", [b"nonsense"]
    )
    assert one.result(task_id).failure.code == "DESERIALIZATION_FAILED"


def test_a_function_that_never_came(one):
    (task_id,) = one.submit_raw([], "unknown", [payload.dump_arguments((), {})])
    assert one.result(task_id).failure.code == "DESERIALIZATION_FAILED"


def test_os_exit_is_a_lost_worker_with_status_and_stderr(one):
    def leave():
        print("last words", file=sys.stderr)
        os._exit(7)

    result = one.call(leave)
    assert result.failure.code == "WORKER_LOST"
    assert os.uname().nodename in result.failure.message
    assert "status 7" in result.failure.message
    assert "last words" in result.failure.traceback
    assert 0 < result.began <= result.ended
    assert_fine(one)


def test_a_signal_is_named(one):
    def fault():
        os.kill(os.getpid(), 11)

    assert "signal 11 (SIGSEGV)" in one.call(fault).failure.message
    assert_fine(one)


def test_closing_descriptors_0_to_2_and_printing(one):
    def close():
        print("before")
        for number in (0, 1, 2):
            os.close(number)
        return "closed"

    def speak():
        print("still there")
        return sys.stdin.read()

    assert one.value(close) == "closed"
    assert one.value(speak) == ""
    (log,) = (one.directory / "workers").glob("0.*-0.log")
    assert "still there" in log.read_text()


def test_closing_the_files_of_sys(one):
    def close():
        sys.stdout.close()
        sys.stdin = None

    def speak():
        print("and again")

    assert one.value(close) is None
    assert one.value(speak) is None


def test_closing_low_descriptors_leaves_the_worker_its_channel(one):
    def close():
        os.closerange(3, 100)

    pid = one.value(os.getpid)
    assert one.value(close) is None
    assert one.value(os.getpid) == pid


def test_closing_every_descriptor_is_a_lost_worker_that_says_why(one):
    def close():
        os.closerange(3, 4096)

    result = one.call(close)
    assert result.failure.code == "WORKER_LOST"
    assert_fine(one)


def test_forking_in_a_function(one):
    def fork():
        pid = os.fork()
        return "child" if pid == 0 else os.waitpid(pid, 0)[1]

    assert one.value(fork) == 0
    assert_fine(one)


def test_multiprocessing_in_a_function(one):
    def spread():
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as pool:
            return pool.map(abs, [-1, -2, -3])

    assert one.value(spread) == [1, 2, 3]


def test_what_a_function_finds_around_it(one):
    def look():
        names = ("HOME", "USER", "LOGNAME", "SHELL", "PATH", "HOSTNAME", "GC_TASK_UUID")
        opened = {int(n.name) for n in Path("/proc/self/fd").iterdir()}
        return {n: os.environ.get(n) for n in names}, os.getcwd(), opened

    task_id = one.submit(look)
    environment, directory, opened = payload.load_result(one.result(task_id).payload)
    assert all(environment.values())
    assert environment["GC_TASK_UUID"] == task_id
    assert Path(directory) == one.directory / "tasks_working_dir"
    # 0, 1, 2, the listing's own, and the one that a mapping keeps (mep.worker.begun.Ring).
    assert len([n for n in opened if n < 100]) <= 5


def test_changing_directory_does_not_outlive_the_task(one):
    def wander():
        os.chdir("/")

    assert one.value(wander) is None
    assert one.value(os.getcwd) == str(one.directory / "tasks_working_dir")


def test_large_arguments_and_results(tmp_path):
    with engine(tmp_path, max_workers_per_node=1) as harness:
        assert harness.value(add, b"x" * 3_000_000, b"y") == b"x" * 3_000_000 + b"y"


def test_result_serializers_are_tried_in_order(one):
    functions = [Function("js", payload.dump_function(as_in_a_script(add)))]
    task = Task("js-1", "js", "g", payload.dump_arguments((1, 2), {}), b"", ("11",))
    one.engine.submit(functions, [task])
    assert one.result("js-1").payload == payload.pack(["11\n3"])


def test_resources_are_refused_in_words_and_an_empty_specification_is_none(one):
    functions = [Function("res", payload.dump_function(as_in_a_script(add)))]
    arguments = payload.dump_arguments((1, 2), {})
    tasks = [
        Task("res-1", "res", "g", arguments, b'{"num_nodes": 2}'),
        Task("res-2", "res", "g", arguments, b"{}"),
    ]
    one.engine.submit(functions, tasks)
    assert one.result("res-1").failure.code == "RESOURCES_REFUSED"
    assert "resource_specification" in one.result("res-1").failure.message
    assert payload.load_result(one.result("res-2").payload) == 3


def test_more_functions_than_a_worker_remembers(tmp_path):
    with engine(tmp_path, max_workers_per_node=1) as harness:
        count = 600
        bodies = [payload.dump_source("f", f"def f():\n    return {n}\n") for n in range(count)]
        functions = [Function(f"f{n}", body) for n, body in enumerate(bodies)]
        empty = [payload.dump_arguments((), {})]
        harness.submit_raw(functions, "f0", empty)
        ids = [harness.submit_raw([], f"f{n}", empty)[0] for n in range(count)]
        ids += [harness.submit_raw([], f"f{n}", empty)[0] for n in (0, count - 1, 5)]
        harness.wait(lambda: len(harness.results) == count + 4)
        values = {r.task_id: payload.load_result(r.payload) for r in harness.results}
        assert [values[i] for i in ids] == [*range(count), 0, count - 1, 5]


@pytest.mark.parametrize("kind", ["ThreadPoolEngine", "ProcessPoolEngine"])
def test_the_other_engines(tmp_path, kind):
    with engine(tmp_path, type=kind, max_workers=3) as harness:
        assert harness.value(add, 1, 2) == 3
        assert harness.value(os.getpid) != os.getpid()
        ids = harness.submit_many(add, [(n, n) for n in range(300)])
        harness.wait(lambda: len(harness.results) == 302)
        assert {payload.load_result(harness.result(i).payload) for i in ids} == {
            2 * n for n in range(300)
        }


def test_forking_in_a_thread(tmp_path):
    def fork():
        pid = os.fork()
        return "child" if pid == 0 else os.waitpid(pid, 0)[1]

    with engine(tmp_path, type="ThreadPoolEngine", max_workers=1) as harness:
        assert harness.value(fork) == 0
        assert harness.value(os.getcwd) == str(tmp_path / "tasks_working_dir")


def test_pythonpath_reaches_functions_and_cannot_replace_the_workers_own_modules(
    tmp_path, monkeypatch
):
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "mine.py").write_text("value = 42\n")
    (modules / "zmq.py").write_text("raise SystemExit('shadowed')\n")
    (modules / "dill.py").write_text("raise SystemExit('shadowed')\n")
    monkeypatch.setenv("PYTHONPATH", str(modules))

    def use():
        import mine

        return mine.value

    for kind in ("ProcessPoolEngine", "ThreadPoolEngine"):
        directory = tmp_path / kind
        directory.mkdir(mode=0o700)
        with engine(directory, type=kind, max_workers=1) as harness:
            assert harness.value(use) == 42
