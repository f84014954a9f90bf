"""Files replaced as a whole, and files of others."""

import os
import stat
import subprocess
import sys

import pytest

from mep.cli.errors import CliError
from mep.cli.files import MOST, directory, read_foreign, replace


def test_a_replaced_file_has_its_mode_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    replace(path, b"new", 0o600)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["secret"]


def test_what_cannot_be_written_leaves_the_old(tmp_path):
    path = tmp_path / "directory"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        replace(path, b"new", 0o600)
    assert os.listdir(tmp_path) == ["directory"]


def test_files_of_others(tmp_path):
    path = tmp_path / "f"
    assert read_foreign(path) is None
    path.write_bytes(b"x")
    assert read_foreign(path) == b"x"
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(CliError):
        read_foreign(tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CliError, match="no plain file"):
        read_foreign(tmp_path / "pipe")
    path.write_bytes(b"x" * (MOST + 1))
    with pytest.raises(CliError, match="larger"):
        read_foreign(path)


def test_directories_get_their_mode_and_links_are_not_followed(tmp_path):
    directory(tmp_path / "a/b", 0o711)
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o711
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o755
    directory(tmp_path / "c/d", 0o700)
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o700
    directory(tmp_path / "a/b", 0o700)
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o700
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(OSError):
        directory(tmp_path / "link", 0o777)


def test_an_interruption_waits_for_the_end_of_the_block():
    """In a process of its own: another thread of this one could take the signal."""
    program = (
        "import os, signal\n"
        "from mep.cli.files import uninterrupted\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try:\n"
        "    with uninterrupted():\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        print('written')\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["written", "interrupted"]
