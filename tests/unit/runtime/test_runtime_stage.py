"""Runtimes on disk: whole or not there, made anew when damaged, removed when unused."""

import contextlib
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest

from mep.endpoint.runtime.contents import Contents
from mep.endpoint.runtime.errors import RuntimeUnavailable
from mep.endpoint.runtime.stage import stage, whole
from mep.endpoint.runtime.unused import DAY_S, LONG_S

FILES = {"__main__.py": b"print()\n", "mep/a.py": b"a = 1\n", "pyzmq/t/zmq/b.so": bytes(1000)}
RUNTIME = Contents("1.0-00ff", FILES)
NOW = 2_000_000_000.0


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    return tmp_path / "home" / ".mep" / "runtime"


def names(parent: Path) -> list[str]:
    return sorted(path.name for path in parent.iterdir())


def test_it_is_there_and_the_users_alone(parent: Path) -> None:
    place = stage(parent, RUNTIME, NOW)
    assert place == parent / RUNTIME.name
    assert {name: (place / name).read_bytes() for name in FILES} == FILES
    assert place.stat().st_mode & 0o777 == 0o700
    assert parent.stat().st_mode & 0o777 == 0o700
    assert names(parent) == [RUNTIME.name]


def test_what_is_whole_stays_as_it_is(parent: Path) -> None:
    place = stage(parent, RUNTIME, NOW)
    first = place.stat().st_ino
    (place / "mep/__pycache__").mkdir()
    (place / "mep/__pycache__/a.cpython-39.pyc").touch()
    assert stage(parent, RUNTIME, NOW + 9).stat().st_ino == first
    assert place.stat().st_mtime == NOW + 9


def truncated(place: Path) -> None:
    os.truncate(place / "pyzmq/t/zmq/b.so", 999)


def altered(place: Path) -> None:
    (place / "mep/a.py").write_bytes(b"a = 2\n")


def half_there(place: Path) -> None:
    shutil.rmtree(place / "pyzmq")


def open_to_others(place: Path) -> None:
    place.chmod(0o777)


def a_link(place: Path) -> None:
    place.rename(place.with_name("elsewhere"))
    place.symlink_to("elsewhere")


def a_file(place: Path) -> None:
    shutil.rmtree(place)
    place.touch()


@pytest.mark.parametrize("damage", [truncated, altered, half_there, open_to_others, a_link, a_file])
def test_what_is_damaged_is_made_anew(parent: Path, damage) -> None:
    place = stage(parent, RUNTIME, NOW)
    damage(place)
    assert not whole(place, FILES)
    assert stage(parent, RUNTIME, NOW) == place
    assert whole(place, FILES)
    assert set(names(parent)) <= {RUNTIME.name, "elsewhere"}


def test_a_directory_that_others_can_write_is_refused(parent: Path) -> None:
    parent.mkdir(parents=True)
    parent.chmod(0o770)
    with pytest.raises(RuntimeUnavailable, match=r"chmod go-w .*engine\.runtime_dir"):
        stage(parent, RUNTIME, NOW)


@pytest.mark.root
def test_somebody_elses_directory_is_refused(parent: Path) -> None:
    parent.mkdir(parents=True)
    os.chown(parent, 65534, 65534)
    with pytest.raises(RuntimeUnavailable, match="somebody else's"):
        stage(parent, RUNTIME, NOW)


def test_a_directory_that_others_can_replace_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(RuntimeUnavailable, match=f"all can write {tmp_path}/open;"):
        stage(tmp_path / "open" / "mine", RUNTIME, NOW)
    (tmp_path / "open").chmod(0o1777)
    stage(tmp_path / "open" / "mine", RUNTIME, NOW)


def test_where_nothing_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeUnavailable, match=r"Not a directory; make room .*runtime_dir"):
        stage(tmp_path / "file" / "runtime", RUNTIME, NOW)


def stage_over_and_over(parent: Path, start: "multiprocessing.synchronize.Barrier") -> None:
    """As an endpoint would, while another one or a failing disk damages what is there."""
    files = {name: data * 50 for name, data in FILES.items()}
    start.wait(30)
    for turn in range(20):
        place = stage(parent, Contents(RUNTIME.name, files), time.time())
        if turn == 4:
            with contextlib.suppress(FileNotFoundError):  # another one is just replacing it
                (place / "__main__.py").write_bytes(b"damaged")


def test_endpoints_at_once(parent: Path) -> None:
    context = multiprocessing.get_context("fork")
    start = context.Barrier(4)
    others = [context.Process(target=stage_over_and_over, args=(parent, start)) for _ in range(4)]
    for process in others:
        process.start()
    for process in others:
        process.join(60)
    assert [process.exitcode for process in others] == [0, 0, 0, 0]
    place = stage(parent, RUNTIME, time.time())
    assert whole(place, FILES)
    assert names(parent) == [RUNTIME.name]


def test_what_nobody_uses_goes(parent: Path) -> None:
    for days, name in enumerate(["0.5-a", "0.6-b", "0.7-c", "0.8-d", "0.9-e"], 2):
        stage(parent, Contents(name, FILES), NOW - days * DAY_S)
    stage(parent, Contents("0.1-old", FILES), NOW - LONG_S - 1)
    for name, age in ((".unfinished-x", DAY_S + 1), (".unfinished-y", 60), (".going-z", DAY_S + 1)):
        (parent / name).mkdir()
        os.utime(parent / name, (NOW - age, NOW - age))
    stage(parent, RUNTIME, NOW)
    assert names(parent) == [".unfinished-y", "0.5-a", "0.6-b", "0.7-c", RUNTIME.name]
