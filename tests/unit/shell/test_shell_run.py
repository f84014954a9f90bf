"""What a shell command does on a worker, with real processes."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mep import shell
from mep.shell import MissingField, ShellResult, run


@pytest.fixture(autouse=True)
def where(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GC_TASK_SANDBOX_DIR", raising=False)
    monkeypatch.delenv("PARSL_MPI_PREFIX", raising=False)
    return tmp_path


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_command_with_its_fields():
    result = run("echo '{message}' {n:03d}; echo {{literal}} >&2", {"message": "hola", "n": 7})
    assert result == ShellResult(
        "echo 'hola' 007; echo {literal} >&2", "hola 007\n", "{literal}\n", 0
    )


@pytest.mark.parametrize(
    ("command", "status"), [("exit 3", 3), ("kill -9 $$", -9), ("nope-x", 127)]
)
def test_failing_is_a_result(command, status):
    result = run(command, {})
    assert (result.returncode, result.exception_name) == (status, "subprocess.CalledProcessError")


def test_several_lines_are_one_bash_script():
    assert run("a=(1 2 3)\nfor x in ${{a[@]}}\ndo echo $x\ndone", {}).stdout == "1\n2\n3\n"


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("echo {y}", {"x": 1}, "pass y=..."),
        ("awk '{}' file", {}, "name each field"),
        ("awk '{print' file", {}, "name each field"),
        ("awk '{print}' file", {}, "double the braces"),
    ],
)
def test_a_field_without_a_value(command, arguments, words):
    with pytest.raises((MissingField, ValueError), match=re.escape(words)):
        run(command, arguments)


def test_the_last_lines_come_back():
    result = run("seq 5000", {}, snippet_lines=2)
    assert result.stdout == "4999\n5000\n"
    assert run("seq 5", {}, snippet_lines=0).stdout == ""


def test_a_huge_output_is_not_read_back_whole():
    result = run("head -c 9000000 /dev/zero | tr '\\0' x", {})
    assert len(result.stdout) == shell.SNIPPET_BYTES


def test_bytes_that_are_no_text():
    assert run("printf '\\377ok'", {}).stdout == "\ufffdok"


def test_files_get_the_whole_output_and_keep_what_they_had(where):
    (where / "out.txt").write_text("before\n")
    result = run("seq 3; echo e >&2", {}, stdout="out.txt", stderr="new/err.txt", snippet_lines=1)
    assert (where / "out.txt").read_text() == "before\n1\n2\n3\n"
    assert (where / "new/err.txt").read_text() == "e\n"
    assert (result.stdout, result.stderr) == ("3\n", "e\n")


def test_nothing_is_left_beside_named_files(where):
    run("echo x", {})
    assert list(where.iterdir()) == []


def test_where_it_runs(where, monkeypatch):
    assert run("pwd", {}).stdout.strip() == str(where)
    monkeypatch.setenv("GC_TASK_SANDBOX_DIR", str(where / "sandbox"))
    assert run("pwd", {}).stdout.strip() == str(where / "sandbox")
    assert run("pwd", {}, run_dir=str(where / "own")).stdout.strip() == str(where / "own")
    assert Path.cwd() == where


def test_a_dictionary_if_asked_for():
    assert run("echo x", {}, return_dict=True) == {
        "cmd": "echo x",
        "stdout": "x\n",
        "stderr": "",
        "returncode": 0,
        "exception_name": None,
    }


@pytest.mark.parametrize(
    "command",
    [
        "echo $$; sleep 600",
        "echo $$; (trap '' TERM; echo $BASHPID; sleep 600) & wait",
        "echo $$; setsid sleep 601 & echo $!; wait",
        "bash -c 'sleep 602 & echo $!'; echo $$; sleep 600",
        "kill -STOP $$",
    ],
)
def test_walltime_ends_all_that_it_started(command, monkeypatch):
    monkeypatch.setattr(shell, "_GRACE_S", 0.3)
    result = run(command, {}, walltime=0.4)
    assert (result.returncode, result.exception_name) == (124, "subprocess.TimeoutExpired")
    for pid in map(int, result.stdout.split()):
        assert not running(pid)


def test_walltime_ends_nothing_else():
    other = subprocess.Popen(["sleep", "600"])
    run("sleep 600", {}, walltime=0.2)
    assert other.poll() is None
    other.kill()
    assert other.wait() == -signal.SIGKILL


def test_what_is_asked_to_end_may_end_well():
    # Long enough for the trap to be set.
    result = run("trap 'echo saved; exit 0' TERM; echo up; sleep 600 & wait", {}, walltime=3)
    assert result.stdout == "up\nsaved\n"
    assert result.returncode == 124


def test_the_launcher_of_the_nodes(monkeypatch):
    monkeypatch.setenv("PARSL_MPI_PREFIX", "echo launched")
    assert run("hostname", {}, mpi=True).stdout == "launched hostname\n"
    own = run("a=1\n$PARSL_MPI_PREFIX app $a\n${{PARSL_MPI_PREFIX}} two", {}, mpi=True)
    assert own.stdout == "launched app 1\nlaunched two\n"


@pytest.mark.parametrize("before", ["\n", "\n  # what it is for\n\n\t", "  "])
def test_the_launcher_starts_the_first_line_that_says_something(monkeypatch, before):
    monkeypatch.setenv("PARSL_MPI_PREFIX", "echo launched")
    result = run(before + "hostname\necho done # once\n", {}, mpi=True)
    assert result.stdout == "launched hostname\ndone\n"


def test_stdin_is_empty():
    assert run("cat", {}).returncode == 0


def test_without_bash(monkeypatch, where):
    monkeypatch.setenv("PATH", str(where))
    assert run("echo $0", {}).stdout == "/bin/sh\n"


def test_a_directory_that_cannot_be(where):
    (where / "file").touch()
    with pytest.raises(OSError, match="file"):
        run("true", {}, run_dir=str(where / "file"))


def test_a_result_can_be_read():
    text = str(ShellResult("cmd", "out\n", "err\n", 2, "subprocess.CalledProcessError"))
    assert text == ("exit status 2: cmd\nsubprocess.CalledProcessError\nstdout:\nout\nstderr:\nerr")
    assert "returncode=2" in repr(ShellResult("cmd", "", "", 2))


def test_it_imports_nothing_but_the_standard_library():
    code = "import sys; sys.path = [p for p in sys.path if 'site-' not in p]; import mep.shell"
    subprocess.run(
        [sys.executable, "-S", "-c", code],
        check=True,
        cwd=Path(shell.__file__).parents[1],
        env={**os.environ, "PYTHONPATH": str(Path(shell.__file__).parents[1])},
    )
