"""What a runtime is made of."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mep
from mep.endpoint.runtime import pyzmq
from mep.endpoint.runtime.contents import contents
from mep.endpoint.runtime.errors import RuntimeUnavailable

OTHER = "cp39-cp39-manylinux2014_x86_64.manylinux_2_17_x86_64"
IMPORT_ALL = """
import pathlib, sys
home, tag = sys.argv[1:]
sys.path[:0] = [home, f"{home}/pyzmq/{tag}"]
names = sorted(pathlib.Path(home).glob("mep/*/*.py"))
for name in names:
    if name.parent.name in ("payload", "worker") and not name.stem.startswith("__"):
        __import__(".".join(name.relative_to(home).with_suffix("").parts))
outside = [m.__file__ for n, m in sys.modules.items()
           if n.partition(".")[0] in ("mep", "zmq", "dill") and not m.__file__.startswith(home)]
slow = {"asyncio", "multiprocessing", "msgspec"} & set(sys.modules)
sys.exit(f"not from the runtime: {outside}; slow: {slow}" if outside or slow or not names else 0)
"""


def wheel(directory: Path, version: str, tag: str) -> None:
    with zipfile.ZipFile(directory / f"pyzmq-{version}-{tag}.whl", "w") as archive:
        for name in (
            "zmq/__init__.py",
            "zmq/backend/cython/_zmq.cpython-39-x86_64-linux-gnu.so",
            "zmq/backend/cython/_zmq.pxd",
            "zmq/sugar/socket.py",
            "zmq/tests/test_all.py",
            "pyzmq.libs/libzmq-2f02442c.so.5.2.5",
        ):
            archive.writestr(name, f"{version} {name}")


def test_all_that_a_node_pool_imports_is_in_it(tmp_path: Path) -> None:
    """Imported by a Python that sees nothing but the runtime and its standard library."""
    for name, data in contents(tmp_path / "no wheels").files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    command = [sys.executable, "-I", "-S", "-c", IMPORT_ALL, tmp_path, pyzmq.installed_tag()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_it_is_named_by_version_and_content(tmp_path: Path) -> None:
    plain = contents(tmp_path)
    assert plain.name == contents(tmp_path).name
    assert plain.name.startswith(f"{mep.__version__}-")
    wheel(tmp_path, "27.3.0", OTHER)
    assert contents(tmp_path).name != plain.name


def test_a_wheel_gives_what_a_client_needs(tmp_path: Path) -> None:
    wheel(tmp_path, "27.3.0", OTHER)
    builds = pyzmq.builds(tmp_path)
    assert set(builds) == {OTHER, pyzmq.installed_tag()}
    assert set(builds[OTHER]) == {
        "zmq/__init__.py",
        "zmq/backend/cython/_zmq.cpython-39-x86_64-linux-gnu.so",
        "zmq/sugar/socket.py",
        "pyzmq.libs/libzmq-2f02442c.so.5.2.5",
    }


def test_the_newest_wheel_counts_and_an_old_one_does_not(tmp_path: Path) -> None:
    for version in ("27.10.0", "27.3.0", "27.9.1"):
        wheel(tmp_path, version, OTHER)
    wheel(tmp_path, "27.2.0", "cp310-cp310-manylinux_2_26_x86_64")
    builds = pyzmq.builds(tmp_path)
    assert builds[OTHER]["zmq/__init__.py"] == b"27.10.0 zmq/__init__.py"
    assert "cp310-cp310-manylinux_2_26_x86_64" not in builds


def test_a_wheel_for_this_python_goes_before_what_is_installed(tmp_path: Path) -> None:
    python = f"cp3{sys.version_info.minor}"
    tag = f"{python}-{python}-manylinux_2_99_x86_64"
    wheel(tmp_path, "28.0.0", tag)
    assert set(pyzmq.builds(tmp_path)) == {tag}


def test_a_wheel_that_is_none(tmp_path: Path) -> None:
    broken = tmp_path / f"pyzmq-27.3.0-{OTHER}.whl"
    broken.write_bytes(b"PK")
    with pytest.raises(RuntimeUnavailable, match=rf"{broken}.*fetch it anew or remove it"):
        contents(tmp_path)


def test_other_files_beside_the_wheels_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "README").touch()
    (tmp_path / "numpy-2.0.0-cp39-cp39-manylinux2014_x86_64.whl").touch()
    assert set(pyzmq.builds(tmp_path)) == {pyzmq.installed_tag()}
