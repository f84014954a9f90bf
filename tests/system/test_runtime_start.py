"""A runtime finds a Python on the node, and the pyzmq for it; and says what it did not find."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from runtimes import (
    SYSTEM_PYTHON,
    fetch_wheels,
    in_namespace,
    pythons,
    run,
    served,
    without_system_python,
)

from mep import sources
from mep.endpoint.runtime.contents import contents

SPEAKING_POOL = b"""
import json, os, sys
def main():
    import zmq
    context = zmq.Context()
    client, server = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    server.bind("inproc://here")
    client.connect("inproc://here")
    client.send(zmq.curve_keypair()[0])
    key = server.recv()
    client.close()
    server.close()
    print(json.dumps([sys.version.split()[0], sys.argv[1:], zmq.__file__, __file__, len(key)]))
    return 5
"""
"""A node pool that only says what it runs on, and ends with status 5."""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A staged runtime with that node pool; beside it ``carried.pyz``, the same as one file."""
    place = tmp_path_factory.mktemp("runtime")
    files = contents(fetch_wheels(tmp_path_factory.mktemp("wheels"))).files
    files["mep/worker/pool.py"] = SPEAKING_POOL
    for name, data in files.items():
        path = place / "it" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (place / "carried.pyz").write_bytes(files.pop("start") + sources.packed(files))
    return place / "it"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A directory with ``bin`` for programs; what is unpacked into it must be gone at the end."""
    (tmp_path / "bin").mkdir()
    yield tmp_path
    assert [*tmp_path.glob("**/mep-pool-*")] == []


def started(runtime: Path, home: Path, *command: str | Path, path: str = "") -> tuple[str, Path]:
    """The version of the Python that it was started on, and where its pyzmq was."""
    command = command or ("sh", runtime / "start", "a file")
    done = run(*command, path=path, HOME=str(home), TMPDIR=str(home))
    assert done.returncode == 5, done.stderr
    version, arguments, zmq, pool, key = json.loads(done.stdout)
    assert arguments == ["a file"]
    assert key == 40
    top = Path(pool).parents[2]
    assert Path(zmq).is_relative_to(top / "pyzmq")
    return version, top


@pytest.mark.parametrize("version", sorted(served()) or ["none"])
def test_every_python_that_a_node_may_have(runtime: Path, home: Path, version: str) -> None:
    if version == "none":
        pytest.skip("no Python of 3.9 or newer under ~/.pyenv/versions")
    path = str(served()[version] / "bin")
    found, top = started(runtime, home, path=path)
    assert found.startswith(f"{version}.")
    assert top == runtime
    found, top = started(runtime, home, "sh", runtime.with_name("carried.pyz"), "a file", path=path)
    assert found.startswith(f"{version}.")
    assert top.parent == home


def old() -> Path:
    homes = [home for version, home in pythons().items() if int(version[2:]) < 9]
    if not homes:
        pytest.skip("no Python older than 3.9 under ~/.pyenv/versions")
    return homes[0]


def test_one_that_is_too_old_is_passed_over(runtime: Path, home: Path) -> None:
    version, _ = started(runtime, home, path=str(old() / "bin"))
    assert SYSTEM_PYTHON.name == f"python{version.rpartition('.')[0]}"


def test_one_that_does_not_run_is_passed_over(runtime: Path, home: Path) -> None:
    broken = home / "bin/python3"
    broken.write_text("#!/bin/sh\necho 'cannot open shared object file' >&2\nexit 127\n")
    broken.chmod(0o755)
    version, _ = started(runtime, home, path=str(home / "bin"))
    assert SYSTEM_PYTHON.name == f"python{version.rpartition('.')[0]}"


@pytest.mark.root
def test_a_python_that_bears_its_version_in_its_name(runtime: Path, home: Path) -> None:
    others = [version for version in served() if f"python{version}" != SYSTEM_PYTHON.name]
    if not others:
        pytest.skip("no Python of another version than the system's under ~/.pyenv/versions")
    version = others[0]
    (home / "bin/python3").symlink_to(old() / "bin/python3")
    (home / f"bin/python{version}").symlink_to(served()[version] / "bin/python3")
    found, _ = started(
        runtime,
        home,
        *in_namespace(without_system_python(), "sh", runtime / "start", "a file"),
        path=str(home / "bin"),
    )
    assert found.startswith(version)


@pytest.mark.root
def test_the_platforms_own_python(runtime: Path, home: Path) -> None:
    platform = f"mount -t tmpfs tmpfs /usr/libexec; cp {SYSTEM_PYTHON} /usr/libexec/platform-python"
    command = in_namespace(
        f"{platform}; {without_system_python()}", "sh", runtime / "start", "a file"
    )
    started(runtime, home, *command)


@pytest.mark.root
def test_pythons_that_are_all_too_old(runtime: Path, home: Path) -> None:
    command = in_namespace(without_system_python(), "sh", runtime / "start", "a file")
    done = run(*command, path=str(old() / "bin"))
    assert done.returncode == 72, done
    assert done.stdout == ""
    version = old().name
    assert f"{old()}/bin/python3 is Python {version}, and pyzmq is here for Python 3.9, 3.10" in (
        done.stderr
    )
    assert f"{runtime} serves none of its Pythons" in done.stderr
    assert "Let worker_init put a python3 on PATH that is served" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.root
def test_no_python_at_all(runtime: Path) -> None:
    command = in_namespace(without_system_python(), "sh", runtime / "start", "a file")
    done = run(*command, path="/nowhere")
    assert done.returncode == 72
    assert "there are none" in done.stderr
    assert "PATH is /nowhere" in done.stderr


@pytest.mark.root
def test_the_images_node_pool_where_no_python_serves(runtime: Path, home: Path) -> None:
    pool = home / "bin/mep-pool"
    pool.write_text('#!/bin/sh\necho "image: $@"\n')
    pool.chmod(0o755)
    command = in_namespace(without_system_python(), "sh", runtime / "start", "a file")
    assert run(*command, path=str(home / "bin")).stdout == "image: a file\n"


@pytest.mark.root
def test_what_is_carried_avoids_a_directory_that_libraries_cannot_be_loaded_from(
    runtime: Path, home: Path
) -> None:
    (home / "noexec").mkdir()
    (home / "job").mkdir()
    prepared = f"mount -t tmpfs -o noexec tmpfs {home}/noexec; cd {home}/job"
    command = in_namespace(
        f"{prepared}; export TMPDIR={home}/noexec", "sh", runtime.with_name("carried.pyz"), "a file"
    )
    _, top = started(runtime, home, *command)
    assert top.parent == home / "job"


@pytest.mark.root
def test_a_library_that_pyzmq_lacks_is_named(runtime: Path, home: Path) -> None:
    (library,) = {path.resolve() for path in Path("/usr/lib").glob("*-linux-gnu/libstdc++.so.6")}
    command = in_namespace(f"mount --bind /dev/null {library}", "sh", runtime / "start", "a file")
    done = run(*command, path="/usr/bin", HOME=str(home))
    assert done.returncode == 72, done
    assert "cannot load pyzmq" in done.stderr
    assert "libstdc++.so.6" in done.stderr
    assert "let worker_init bring what is missing" in done.stderr
    assert "Traceback" not in done.stderr
