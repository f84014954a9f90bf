"""Which Python workers get, how they are started, and what they say of code that is not theirs."""

import json
import os
import sys
from pathlib import Path

import pytest

from mep import payload
from mep.bytecode import is_foreign
from mep.worker.command import chosen_python, worker_command
from mep.worker.execute import minor, unloadable

OWN = ".".join(map(str, sys.version_info[:3]))


def executable(directory: Path) -> str:
    directory.mkdir()
    python = directory / "python3"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    return str(python)


def test_which_python_is_chosen(tmp_path):
    first, second = executable(tmp_path / "a"), executable(tmp_path / "b")
    a, b = os.path.dirname(first), os.path.dirname(second)
    assert chosen_python("python3.9", None, a) == "python3.9"
    assert chosen_python("", None, a) == ""
    assert chosen_python("", a, f"{a}:{b}") == ""
    assert chosen_python("", a, f"{b}:{a}") == second
    assert chosen_python("", a, "/nowhere") == ""


def test_the_command_of_a_worker():
    *command, told = worker_command("python3.9", "/d/worker.zip", {"directory": "/a b"})
    assert command == ["python3.9", "-I", "/d/worker.zip"]
    assert json.loads(told) == {"directory": "/a b"}


def rich(n):
    import math

    def inner():
        yield from (math.sqrt(i) for i in range(n))

    try:
        return {f"{k!r}": v for k, v in enumerate(inner())}
    except ZeroDivisionError as error:
        with open(os.devnull) as file:
            return [file, error, lambda x: x + n]


def test_what_this_python_compiled_is_its_own():
    assert not is_foreign(rich)
    assert not is_foreign(json.dumps)
    assert not is_foreign(len)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="older bytecode has no caches to look at")
@pytest.mark.parametrize(
    "words",
    [b"d\x01S\x00", b"\x97\x00\xff\x00", b"\x97\x00t\x00d\x01S\x00", b""],
    ids=["no RESUME", "unknown", "caches are missing", "nothing"],
)
def test_what_it_did_not_compile_is_foreign(words):
    def function():
        return 1

    if sys.version_info >= (3, 13) and words:
        words = words.replace(b"\x97", bytes([__import__("opcode").opmap["RESUME"]]))
    function.__code__ = function.__code__.replace(co_code=words)
    assert is_foreign(function)


@pytest.mark.parametrize(
    ("error", "submitted", "code"),
    [
        (payload.ForeignCode("x"), "", "ENVIRONMENT_MISMATCH"),
        (
            payload.PayloadError("TypeError: code() argument 13 must be str"),
            "",
            "ENVIRONMENT_MISMATCH",
        ),
        (payload.PayloadError("SyntaxError: invalid syntax"), "3.8.1", "ENVIRONMENT_MISMATCH"),
        (payload.PayloadError("SyntaxError: invalid syntax"), OWN, "DESERIALIZATION_FAILED"),
        (payload.PayloadError("SyntaxError: invalid syntax"), "", "DESERIALIZATION_FAILED"),
        (ModuleNotFoundError("No module named 'x'"), "3.8.1", "DESERIALIZATION_FAILED"),
    ],
)
def test_what_is_a_mismatch(error, submitted, code):
    found, sentence = unloadable(error, submitted)
    assert found == code
    assert OWN in sentence


def test_both_versions_are_named():
    _, sentence = unloadable(payload.ForeignCode("x"), "3.8.19")
    assert f"submitted with Python 3.8.19, but the worker has Python {OWN}" in sentence
    assert f"Submit from Python {minor(OWN)}, choose an environment with Python 3.8" in sentence
