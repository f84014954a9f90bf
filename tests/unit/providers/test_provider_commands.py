"""A scheduler's commands: their answers, and their end when there is none."""

import os
import threading
import time

import pytest

from mep.endpoint.providers.commands import TIMED_OUT, Answer, Commands

PATH = {"PATH": "/usr/bin:/bin"}


@pytest.fixture
def commands():
    return Commands({**PATH, "WHO": "me"})


def test_what_a_command_says(commands):
    assert commands.run("echo out; echo $WHO >&2; exit 3", 10.0) == (3, "out\n", "me\n")
    (answer,) = commands.answers
    assert answer.words == "me"


def test_words_where_nothing_was_said():
    assert Answer("sbatch x", 1, "", " \n").words == "sbatch ended with status 1"
    assert Answer("sbatch x", 1, "on stdout", "").words == "on stdout"


def test_a_command_that_does_not_exist(commands):
    code, _, stderr = commands.run("mept-no-such-command x", 10.0)
    assert code == 127
    assert "not found" in stderr


def test_a_command_that_hangs_is_ended_with_all_that_it_started(commands, tmp_path):
    fifo = tmp_path / "held"
    commands.run(f"mkfifo {fifo}", 10.0)
    code, stdout, stderr = commands.run(f"sleep 600 > {fifo} & cat {fifo}", 0.5)
    assert (code, stdout) == (TIMED_OUT, "")
    assert stderr == "sleep did not answer within 0.5 seconds"


def test_output_that_is_no_text(commands):
    assert commands.run(r"printf '\377'", 10.0)[1] == "\ufffd"


def test_a_command_that_is_hurried_ends_soon(commands, tmp_path):
    fifo = tmp_path / "runs"
    os.mkfifo(fifo)

    def hurry():
        with fifo.open("wb"):  # once the command is there to read it
            commands.hurry()

    hurrying = threading.Thread(target=hurry)
    hurrying.start()
    began = time.monotonic()
    code, _, _ = commands.run(f"cat {fifo}; exec sleep 600", 600.0)
    hurrying.join()
    assert code == TIMED_OUT
    assert time.monotonic() - began < 60
    assert commands.run("echo next", 10.0)[0] == 0
