"""`mep` as a command of somebody who is not root, in XDG directories of the test's own.

Run as root, the command runs as `nobody`, so that these tests are the same for everybody.
"""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def home() -> Iterator[Path]:
    """A private home directory that only its owner can reach."""
    top = Path(tempfile.mkdtemp(prefix="mep-cli-"))
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(top, nobody.pw_uid, nobody.pw_gid)
    yield top
    shutil.rmtree(top)


@pytest.fixture
def mep(home: Path) -> Run:
    """Runs ``mep ARGUMENTS`` with that home."""
    drop = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}

    def run(*arguments: str, given: str = "", **environment: str):
        return subprocess.run(
            [sys.executable, "-I", "-m", "mep.cli", *arguments],
            env={"HOME": str(home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **environment},
            cwd=home,
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **drop,
        )

    return run
