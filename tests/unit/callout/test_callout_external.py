import json
import os
from functools import partial
from pathlib import Path

import pytest

from mep.callout import external
from mep.callout.errors import ExternalError
from mep.callout.mapping import External

PEOPLE = [{"id": "1", "status": "used"}, {"id": "2", "status": "used"}]
ENDPOINT = "6f1c2f1e-6a3e-4a55-9a0b-2f4f1b7c9d10"


def says(result: object) -> str:
    said = {"DATA_TYPE": "identity_mapping_output#1.0.0", "result": result}
    return f"cat > /dev/null; echo '{json.dumps(said)}'"


@pytest.fixture
def run(tmp_path: Path):
    """Run a shell script as the command."""

    def run(script: str, *args: str, seconds: float = 20.0):
        program = tmp_path / "map"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return external.run(ENDPOINT, External("$", "", [str(program), *args]), PEOPLE, seconds)

    return run


def test_the_answer_in_its_order(run) -> None:
    pairs = [{"id": "2", "output": "b"}, {"id": "1", "output": "a"}]
    assert [one[:2] for one in run(says(pairs))] == [("2", "b"), ("1", "a")]
    assert run(says([])) == []
    assert run("exit 0") == []


def test_what_the_program_is_given(run, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    script = f'(printf "%s\\n" "$@"; cat; echo; env; pwd; ls /proc/self/fd) > {seen}; exit 0'
    assert run(script, "-x", "a b; touch /nowhere") == []
    lines = seen.read_text().splitlines()
    assert lines[:7] == ["-x", "a b; touch /nowhere", "-c", ENDPOINT, "-s", ENDPOINT, "-a"]
    assert json.loads(lines[7]) == {
        "DATA_TYPE": "identity_mapping_input#1.0.0",
        "identities": PEOPLE,
    }
    names = {line.partition("=")[0] for line in lines[8:] if "=" in line}
    assert names <= {"PATH", "LANG", "PWD", "SHLVL", "_"}
    assert "/" in lines


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 3", "exit status 3"),
        ("printf 'no\\033 disk\\nleft' >&2; exit 3", "exit status 3: no  disk left"),
        ("kill -9 $$", "exit status -9"),
        ("echo nonsense", "Expecting value"),
        ("echo '{}'", "no identity_mapping_output"),
        ("echo '[]'", "no identity_mapping_output"),
        (says([{"id": "3", "output": "root"}]), "no id of the question"),
        (says([{"id": "1"}]), "no id of the question"),
        (says([{"id": "1", "output": 3}]), "no id of the question"),
        (says(["1"]), "no id of the question"),
        ("head -c 70000 /dev/zero", "exit status"),
        ("head -c 65536 /dev/zero | tr '\\0' '['; exit 0", "recursion"),
    ],
)
def test_whatever_goes_wrong_is_an_error(run, script: str, words: str) -> None:
    with pytest.raises(ExternalError, match=words):
        run(script)


def test_a_program_that_does_not_exist() -> None:
    with pytest.raises(ExternalError, match="No such file"):
        external.run(ENDPOINT, External("$", "", ["/nowhere/map"]), PEOPLE)


def test_a_program_that_hangs_is_ended_with_its_children(run, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(ExternalError, match="no answer within"):
        run(f"exec 3> {fifo}; cat {fifo} & echo x >&3; wait", seconds=0.3)
    os.set_blocking(reader, True)
    # End of file comes only when nobody is left who could write.
    for _ in iter(partial(os.read, reader, 100), b""):
        pass
    os.close(reader)
