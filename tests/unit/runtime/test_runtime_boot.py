"""Which pyzmq serves a Python, and what is said where none does."""

import sys

import pytest

from mep.worker import boot, command
from mep.worker.boot import Build, Here, Unserved, build_of, fitting

CP39 = "cp39-cp39-manylinux2014_x86_64.manylinux_2_17_x86_64"
CP311 = "cp311-cp311-manylinux_2_26_x86_64.manylinux_2_28_x86_64"
CP312 = "cp312-abi3-manylinux_2_26_x86_64.manylinux_2_28_x86_64"
ARM = "cp311-cp311-manylinux_2_26_aarch64.manylinux_2_28_aarch64"
SHIPPED = (CP39, CP311, CP312)
NODE = Here("CPython", "3.11.7", False, "x86_64", (2, 36))


@pytest.mark.parametrize(
    ("tag", "build"),
    [
        (CP39, Build(CP39, 9, False, "x86_64", (2, 17))),
        (CP312, Build(CP312, 12, True, "x86_64", (2, 26))),
        (ARM, Build(ARM, 11, False, "aarch64", (2, 26))),
        (
            "cp311-cp311-linux_x86_64",
            Build("cp311-cp311-linux_x86_64", 11, False, "x86_64", (0, 0)),
        ),
        ("cp311-cp311-musllinux_1_2_x86_64", None),
        ("cp313-cp313t-manylinux_2_28_x86_64", None),
        ("pp310-pypy310_pp73-manylinux_2_28_x86_64", None),
        ("README", None),
    ],
)
def test_what_a_tag_says(tag: str, build: Build | None) -> None:
    assert build_of(tag) == build


@pytest.mark.parametrize(
    ("version", "tag"),
    [("3.9.18", CP39), ("3.11.7", CP311), ("3.12.1", CP312), ("3.14.0", CP312), ("3.15.2", CP312)],
)
def test_each_python_gets_its_own(version: str, tag: str) -> None:
    assert fitting(SHIPPED, NODE._replace(version=version)) == tag


def test_its_own_goes_before_one_for_all() -> None:
    own = "cp312-cp312-linux_x86_64"
    assert fitting((CP312, own), NODE._replace(version="3.12.1")) == own
    assert fitting((CP312, own), NODE._replace(version="3.13.1")) == CP312


def test_an_older_c_library_gets_what_it_can_load() -> None:
    old = "cp311-cp311-manylinux2014_x86_64"
    assert fitting((CP311, old), NODE._replace(glibc=(2, 17))) == old
    assert fitting((CP311, old), NODE) == CP311


@pytest.mark.parametrize(
    ("here", "said"),
    [
        (
            NODE._replace(version="3.8.18"),
            "is Python 3.8.18, and pyzmq is here for Python 3.9, 3.11, 3.12 and newer",
        ),
        (
            NODE._replace(version="3.10.1"),
            "is Python 3.10.1, and pyzmq is here for Python 3.9, 3.11, 3.12 and newer",
        ),
        (NODE._replace(machine="aarch64"), "runs on aarch64, and pyzmq is here for x86_64"),
        (
            NODE._replace(glibc=(2, 17)),
            "is Python 3.11.7, whose pyzmq needs glibc 2.26; the C library here is glibc 2.17",
        ),
        (
            NODE._replace(glibc=None),
            "is Python 3.11.7, whose pyzmq needs glibc 2.26; the C library here is not glibc",
        ),
        (NODE._replace(implementation="pypy"), "is pypy, and pyzmq is here for CPython alone"),
        (
            NODE._replace(version="3.13.0", free_threaded=True),
            "is free-threaded, and pyzmq is here for Pythons that are not",
        ),
    ],
)
def test_what_is_said_where_none_serves(here: Here, said: str) -> None:
    with pytest.raises(Unserved) as refusal:
        fitting(SHIPPED, here)
    assert str(refusal.value) == said


def test_one_that_is_too_new_for_all_builds() -> None:
    with pytest.raises(Unserved, match=r"is Python 3\.14\.0, and pyzmq is here for Python 3\.9, 3"):
        fitting((CP39, CP311), NODE._replace(version="3.14.0"))


def test_a_runtime_without_any() -> None:
    with pytest.raises(Unserved, match="pyzmq is here for no machine"):
        fitting((), NODE)


def test_this_very_python_is_described() -> None:
    here = boot.this_python()
    assert here.version == ".".join(map(str, sys.version_info[:3]))
    assert here.implementation == "CPython"
    assert here.glibc is None or here.glibc > (2, 0)


def test_one_exit_status_for_all_that_cannot_start() -> None:
    from mep.endpoint.runtime.command import CANNOT_START

    assert boot.CANNOT_START == command.CANNOT_START == CANNOT_START
