"""The data directory."""

import errno
import fcntl
from pathlib import Path

import pytest
from mep_cloud.errors import HomeError
from mep_cloud.home import Home


def test_one_process_at_a_time(tmp_path: Path) -> None:
    first, second = Home(tmp_path), Home(tmp_path)
    first.claim()
    with pytest.raises(HomeError, match="Another process serves"):
        second.claim()
    first.release()
    second.claim()
    second.release()


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without)
    with pytest.raises(HomeError, match=r"cannot be locked: .*No locks available"):
        Home(tmp_path).claim()
