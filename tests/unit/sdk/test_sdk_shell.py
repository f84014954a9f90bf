"""ShellFunction and MPIFunction: how they look, and how they travel."""

from pathlib import Path

import pytest
from mep_sdk import MPIFunction, ShellFunction, ShellResult
from mep_sdk.functions import known
from mep_sdk.serialize import Serializer

from mep import payload


def called(body, **arguments):
    return payload.load_function(body)(**arguments)


@pytest.mark.parametrize("code", ["", "01", "03", "04", "12", "st", "sd"])
def test_each_way_of_functions_carries_it(code):
    body = Serializer(code=code).function(ShellFunction("echo '{message}'", snippet_lines=1))
    result = called(body, message="hola")
    assert isinstance(result, ShellResult)
    assert result == ShellResult("echo 'hola'", "hola\n", "", 0)


def test_all_settings_travel(tmp_path):
    function = ShellFunction(
        "echo out; echo err >&2; sleep 60",
        stdout="o",
        stderr="e",
        walltime=5,
        snippet_lines=5,
        name="told",
        return_dict=True,
        run_dir=str(tmp_path),
    )
    found = known(function, Serializer())
    assert found.name == "told"
    result = called(found.body)
    assert (result["returncode"], result["stdout"]) == (124, "out\n")
    assert (tmp_path / "e").read_text() == "err\n"


class Half(float):
    """As numpy's numbers: what it prints is no literal."""

    def __repr__(self):
        return "Half(0.5)"


def test_paths_and_numbers_of_other_kinds_travel_too(tmp_path):
    function = ShellFunction("sleep 60", stdout=Path("o"), run_dir=tmp_path, walltime=Half(0.5))
    assert called(Serializer().function(function)).returncode == 124
    assert (tmp_path / "o").exists()


def test_it_travels_as_source_which_any_python_reads():
    body = Serializer().function(ShellFunction("echo x"))
    assert payload.unpack(body)[0].startswith("st\nShellFunction:def ShellFunction(**arguments):")


def test_the_mpi_prefix(monkeypatch):
    monkeypatch.setenv("PARSL_MPI_PREFIX", "echo launched")
    body = Serializer().function(MPIFunction("hostname"))
    assert called(body).stdout == "launched hostname\n"


def test_it_can_be_tried_at_home():
    assert ShellFunction("exit 3")().returncode == 3
    with pytest.raises(KeyError, match="pass word="):
        ShellFunction("echo {word}")()


def test_it_takes_no_positional_arguments():
    body = Serializer().function(ShellFunction("echo x", name="say"))
    with pytest.raises(TypeError, match=r"say\(\) takes 0 positional arguments"):
        payload.load_function(body)("x")


def test_printing_says_what_it_is():
    assert repr(ShellFunction("echo x")) == "ShellFunction('echo x')"
    assert repr(MPIFunction("a", walltime=2, name="run")) == (
        "MPIFunction('a', walltime=2, name='run')"
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cmd": " "}, "says what to run"),
        ({"cmd": "x", "walltime": -1}, "walltime is -1"),
        ({"cmd": "x", "walltime": "60"}, "walltime is '60'; it must be a number"),
        ({"cmd": "x", "walltime": float("inf")}, "walltime is inf"),
        ({"cmd": "x", "snippet_lines": -1}, "snippet_lines is -1"),
        ({"cmd": "x", "snippet_lines": 1.5}, "snippet_lines is 1.5; it must be a whole number"),
        ({"cmd": "x", "name": "a b"}, "Python identifier"),
        ({"cmd": "x", "name": "class"}, "Python identifier"),
    ],
)
def test_what_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        ShellFunction(**settings)
