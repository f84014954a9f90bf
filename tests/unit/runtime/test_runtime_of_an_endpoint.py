"""One endpoint's runtime over its life."""

import os
import zipfile
from pathlib import Path

import pytest

import mep
from mep.endpoint.runtime.runtime import REFRESH_S, Runtime
from mep.endpoint.runtime.unused import LONG_S

NOW = 2_000_000_000.0


class Endpoint:
    """Has a runtime, and a clock that the test turns."""

    def __init__(self, directory: Path) -> None:
        self.wheels = directory / "wheels"
        self.wheels.mkdir()
        self.now = NOW
        self.runtime = Runtime(str(directory / "runtime"), self.wheels, lambda: self.now)

    def place(self) -> Path:
        self.runtime.command("pool.json")
        return Path(self.runtime.staged)

    def is_upgraded(self) -> None:
        name = "pyzmq-28.0.0-cp39-cp39-manylinux2014_x86_64.whl"
        with zipfile.ZipFile(self.wheels / name, "w") as wheel:
            wheel.writestr("zmq/__init__.py", "")


@pytest.fixture
def endpoint(tmp_path: Path) -> Endpoint:
    return Endpoint(tmp_path)


def test_nothing_is_staged_before_the_first_block(endpoint: Endpoint) -> None:
    assert endpoint.runtime.staged == ""
    assert not endpoint.runtime.directory.exists()
    assert endpoint.place().name.startswith(mep.__version__)


def test_the_command_names_it(endpoint: Endpoint) -> None:
    command = endpoint.runtime.command("/home/a/pool.json")[-1]
    assert f"sh {endpoint.runtime.staged}/start /home/a/pool.json {mep.__version__}" in command


def test_it_is_looked_at_again_after_a_while(endpoint: Endpoint) -> None:
    start = endpoint.place() / "start"
    start.write_bytes(b"damaged")
    endpoint.now += REFRESH_S
    assert (endpoint.place() / "start").read_bytes() == b"damaged"
    endpoint.now += 1
    assert (endpoint.place() / "start").read_bytes().startswith(b"#!/bin/sh")


def test_use_is_noted_for_as_long_as_blocks_are_started(endpoint: Endpoint) -> None:
    for _ in range(3):
        place = endpoint.place()
        assert place.stat().st_mtime == endpoint.now
        endpoint.now += LONG_S


def test_an_endpoint_that_outlives_its_installation_keeps_its_runtime(
    endpoint: Endpoint,
) -> None:
    first = endpoint.place()
    endpoint.is_upgraded()
    endpoint.now += REFRESH_S + 1
    assert endpoint.place() == first
    assert first.stat().st_mtime == endpoint.now


def test_the_next_endpoint_has_the_new_one(endpoint: Endpoint) -> None:
    first = endpoint.place()
    endpoint.is_upgraded()
    second = Runtime(str(endpoint.runtime.directory), endpoint.wheels, lambda: NOW)
    second.command("pool.json")
    assert second.staged != str(first)
    assert first.exists()


def test_what_is_carried_is_made_once(endpoint: Endpoint, tmp_path: Path) -> None:
    carried = endpoint.runtime.carried(tmp_path)
    assert carried.read_bytes().startswith(b"#!/bin/sh")
    with zipfile.ZipFile(carried) as archive:
        assert "mep/worker/pool.py" in archive.namelist()
    os.utime(carried, (NOW, NOW))
    assert endpoint.runtime.carried(tmp_path).stat().st_mtime == NOW
    assert [*tmp_path.glob("*.pyz*")] == [carried]
