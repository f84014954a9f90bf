"""Where a node pool keeps its files if it does not see the endpoint's directory."""

from pathlib import Path

import pytest

from mep.endpoint.engines.engine import DIRECTORIES
from mep.worker import elsewhere
from mep.worker.elsewhere import moved, with_directory


def told(directory: Path, working_dir: str = "tasks_working_dir") -> dict[str, str]:
    return {"directory": str(directory), "working_dir": str(directory / working_dir)}


def test_the_endpoints_own_is_used_where_it_is_seen(tmp_path: Path) -> None:
    assert set(elsewhere.DIRECTORIES) <= set(DIRECTORIES)
    for name in DIRECTORIES:
        (tmp_path / name).mkdir()
    settings = told(tmp_path)
    with with_directory(settings):
        assert settings == told(tmp_path)


def test_another_stands_for_it_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settings = told(Path("/not/here"))
    with pytest.raises(SystemExit), with_directory(settings):
        here = Path(settings["directory"])
        assert here.parent == tmp_path
        assert here.stat().st_mode & 0o777 == 0o700
        assert settings["working_dir"] == str(here / "tasks_working_dir")
        assert {path.name for path in here.iterdir()} == set(elsewhere.DIRECTORIES)
        (here / "workers" / "log").touch()
        raise SystemExit
    assert not here.exists()


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/home/a/.mep/id/work", "/tmp/x/work"),
        ("/home/a/.mep/id", "/tmp/x/."),
        ("/scratch/a", "/scratch/a"),
        ("/home/a/.mep/id/../other", "/home/a/.mep/id/../other"),
    ],
)
def test_which_working_directories_move(path: str, place: str) -> None:
    assert moved(path, "/home/a/.mep/id", "/tmp/x") == place
