"""tools/setup: an environment that every account can execute, wherever the checkout lies."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
SOURCES = ("mep", "sdk", "cloud", "configs", "tools", "pyproject.toml", "README.md", "LICENSE")
STRANGER = 65534

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]


def setup(checkout: Path) -> tuple[Path, str]:
    """Path of the environment, and what was said about it."""
    done = subprocess.run(
        ["sh", checkout / "tools/setup"], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    return Path(line), done.stderr


def stranger(*command: str | Path) -> str:
    """stdout of a command that runs as nobody of ours."""
    done = subprocess.run(
        command,
        user=STRANGER,
        group=STRANGER,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def private_checkout(site_root: Path) -> Iterator[Path]:
    """A checkout below a directory that only root can enter, as /root is."""
    home = site_root / "home"
    home.mkdir(mode=0o700)
    checkout = home / "mep"
    checkout.mkdir()
    for name in SOURCES:
        source = TOP / name
        if source.is_dir():
            shutil.copytree(source, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, checkout)
    yield checkout
    venv, _ = setup(checkout)
    shutil.rmtree(venv)
    venv.with_name(venv.name + ".lock").unlink()


def test_a_private_checkout_gets_an_environment_that_strangers_can_run(
    private_checkout: Path,
) -> None:
    venv, said = setup(private_checkout)
    assert venv.is_relative_to("/opt/mep-dev")
    assert "installing" in said
    where = "import mep; print(mep.__file__)"
    assert stranger(venv / "bin/python", "-I", "-c", where).startswith(str(venv))
    assert not (private_checkout / ".venv").exists()

    again, said = setup(private_checkout)
    assert (again, said) == (venv, "")

    package = private_checkout / "mep/__init__.py"
    package.write_text(package.read_text() + '\nEDITED = "yes"\n')
    setup(private_checkout)
    assert stranger(venv / "bin/python", "-I", "-c", "import mep; print(mep.EDITED)") == "yes"


def test_it_serves_this_checkout_and_has_nothing_to_do() -> None:
    """Two at once, after one that brought all up to date."""
    setup(TOP)
    both = [
        subprocess.Popen(
            ["sh", TOP / "tools/setup"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = {process.communicate(timeout=60) for process in both}
    ((path, said),) = outputs
    assert said == ""
    assert os.access(Path(path.strip()) / "bin/pytest", os.X_OK)


def test_another_interpreter_than_it_can_use_is_refused(site_root: Path) -> None:
    done = subprocess.run(
        ["sh", TOP / "tools/setup"],
        env={**os.environ, "MEP_PYTHON": "/bin/false"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "MEP_PYTHON=/bin/false" in done.stderr
