"""The command that finds a node pool: what it tries, in which order, and what it says at last."""

import shlex
import subprocess
from pathlib import Path

import pytest

import mep
from mep.endpoint.runtime import runtime
from mep.endpoint.runtime.command import command
from mep.endpoint.runtime.errors import RuntimeUnavailable

VERSION = "1.2.3"


class Node:
    """A directory with what a compute node has, of programs that say who they are."""

    def __init__(self, directory: Path) -> None:
        self.python = directory / "own installation" / "python"
        self.start = directory / "it's shared" / "start"
        self.image = directory / "bin"
        self.pool_file = directory / "pool file.json"
        for place in (self.python, self.start, self.image / "x"):
            place.parent.mkdir()

    def has_installation(self, version: str) -> None:
        """One that says which version it was asked for."""
        self._program(self.python, f'[ "$2" != -c ] || exec test "$4" = {version}; echo own "$@"')

    def has_runtime(self) -> None:
        self._program(self.start, 'echo runtime "$@"')

    def has_mep_pool(self) -> None:
        self._program(self.image / "mep-pool", 'echo image "$@"')

    @staticmethod
    def _program(path: Path, text: str) -> None:
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def command(self) -> list[str]:
        return command(str(self.python), VERSION, str(self.start), str(self.pool_file))

    def run(self) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={"PATH": f"{self.image}:/usr/bin:/bin"},
        )


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_the_endpoints_own_installation_goes_first(node: Node) -> None:
    node.has_installation(VERSION)
    node.has_runtime()
    node.has_mep_pool()
    assert node.run().stdout == f"own -I -m mep.worker.pool {node.pool_file}\n"


def test_another_version_of_it_does_not_serve(node: Node) -> None:
    node.has_installation("1.2.2")
    node.has_runtime()
    assert node.run().stdout == f"runtime {node.pool_file} {VERSION}\n"


def test_the_runtime_goes_before_what_the_image_has(node: Node) -> None:
    node.has_runtime()
    node.has_mep_pool()
    assert node.run().stdout == f"runtime {node.pool_file} {VERSION}\n"


def test_what_the_image_has(node: Node) -> None:
    node.has_mep_pool()
    assert node.run().stdout == f"image {node.pool_file} {VERSION}\n"


def test_nothing_of_all_that(node: Node) -> None:
    done = node.run()
    assert done.returncode == 72
    assert done.stdout == ""
    for word in (VERSION, str(node.python), str(node.start), "mep-pool", "engine.runtime_dir"):
        assert word in done.stderr


def test_a_shell_on_the_way_changes_nothing(node: Node) -> None:
    """As launchers do it: a here-document with the command in it, not quoted."""
    node.has_runtime()
    script = f"cat << END\n{shlex.join(node.command())}\nEND\n"
    passed_on = subprocess.run(
        ["sh"], input=script, capture_output=True, text=True, timeout=30, check=True
    ).stdout
    done = subprocess.run(
        ["sh"], input=passed_on, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == f"runtime {node.pool_file} {VERSION}\n"


def test_what_was_carried_is_looked_for_in_the_jobs_directory(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    monkeypatch.chdir(tmp_path)
    Path("carried.pyz").write_text('echo carried "$0" "$@"\n')
    done = subprocess.run(
        runtime.carried_command("carried.pyz", "pool.json"),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == f"carried ./carried.pyz ./pool.json {mep.__version__}\n"


def test_where_the_directory_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    monkeypatch.setenv("SCRATCH", "/scratch/alice")
    assert runtime.located("~/.mep/runtime") == Path("/home/alice/.mep/runtime")
    assert runtime.located("${SCRATCH}/mep") == Path("/scratch/alice/mep")


@pytest.mark.parametrize("wrong", ["$NOT_SET_ANYWHERE/mep", "relative", "/a`b`", "/a\nb", ""])
def test_a_directory_that_leads_nowhere(wrong: str) -> None:
    with pytest.raises(RuntimeUnavailable, match=r"engine\.runtime_dir"):
        runtime.located(wrong)
