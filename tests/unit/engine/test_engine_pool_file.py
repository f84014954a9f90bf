"""What a node pool says of settings that it cannot use, before it does anything."""

import json
import subprocess
import sys
from pathlib import Path

import mep
from mep.endpoint.engines.base import Surroundings
from mep.endpoint.engines.engine import DIRECTORIES
from mep.endpoint.engines.plan import plan
from mep.endpoint.engines.settings import read
from mep.endpoint.engines.transport import Beside


def said(*arguments: str | Path) -> str:
    command = [sys.executable, "-I", "-m", "mep.worker.pool", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr


def test_it_wants_one_file(tmp_path: Path) -> None:
    assert said().startswith("usage: mep-pool FILE")
    assert "No such file" in said(tmp_path / "none")


def test_it_wants_json(tmp_path: Path) -> None:
    (tmp_path / "pool.json").write_text("{")
    assert "the settings of the node pool cannot be read" in said(tmp_path / "pool.json")


def test_an_endpoint_of_another_version_is_told_where_to_put_its_own(tmp_path: Path) -> None:
    message = said(tmp_path / "pool.json", "0.0.1")
    assert f"this node pool is of MEP {mep.__version__}, and the endpoint of MEP 0.0.1" in message
    assert "mep/worker" in message
    assert "No such file" in said(tmp_path / "pool.json", mep.__version__)


def test_a_working_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    around = Surroundings(str(tmp_path), "endpoint", "user-endpoint", 1000)
    section = read({"working_dir": "file/work"})
    planned = plan(section, around, {}, 1, 1.0, None, Beside(str(tmp_path)))
    file = tmp_path / "pool.json"
    file.write_text(json.dumps(planned.pool_settings))
    for name in DIRECTORIES:
        (tmp_path / name).mkdir()
    message = said(file)
    assert f"{tmp_path}/file/work cannot be made" in message
    assert "Not a directory; set working_dir to" in message
