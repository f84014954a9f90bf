import os
import subprocess
import sys
from pathlib import Path

import pytest

from mep.root import files
from mep.root.refusal import ConfigError

pytestmark = pytest.mark.root


def test_a_file_of_root_s(site_root: Path) -> None:
    (site_root / "a").write_bytes(b"x")
    assert files.read(str(site_root / "a")) == b"x"


def test_optional_is_about_missing_files_alone(site_root: Path) -> None:
    assert files.read(str(site_root / "none"), optional=True) == b""
    with pytest.raises(FileNotFoundError):
        files.read(str(site_root / "none"))
    (site_root / "loose").write_bytes(b"x")
    (site_root / "loose").chmod(0o666)
    with pytest.raises(ConfigError, match=r"others can change .*/loose"):
        files.read(str(site_root / "loose"), optional=True)
    (site_root / "dangling").symlink_to("none")
    with pytest.raises(ConfigError, match="no links"):
        files.read(str(site_root / "dangling"), optional=True)


def test_a_missing_file_counts_where_nobody_else_can_have_removed_it(site_root: Path) -> None:
    (site_root / "in").mkdir()
    assert files.read(str(site_root / "in/none"), optional=True) == b""
    (site_root / "in").chmod(0o777)
    with pytest.raises(ConfigError, match=r"others can change .*/in:"):
        files.read(str(site_root / "in/none"), optional=True)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write(site_root: Path, mode: int) -> None:
    (site_root / "a").write_bytes(b"x")
    (site_root / "a").chmod(mode)
    with pytest.raises(ConfigError, match=r"others can change .*/a"):
        files.read(str(site_root / "a"))


def test_a_file_of_somebody_else(site_root: Path) -> None:
    (site_root / "a").write_bytes(b"x")
    os.chown(site_root / "a", 65534, 0)
    with pytest.raises(ConfigError, match=r"others can change .*/a"):
        files.read(str(site_root / "a"))


@pytest.mark.parametrize(("mode", "owner"), [(0o775, 0), (0o757, 0), (0o1777, 0), (0o755, 65534)])
def test_a_directory_above_that_others_can_write(site_root: Path, mode: int, owner: int) -> None:
    (site_root / "up" / "down").mkdir(parents=True)
    (site_root / "up" / "down" / "a").write_bytes(b"x")
    (site_root / "up").chmod(mode)
    os.chown(site_root / "up", owner, 0)
    with pytest.raises(ConfigError, match=r"others can change .*/up"):
        files.read(str(site_root / "up/down/a"))


def test_symbolic_links_are_not_followed_anywhere(site_root: Path) -> None:
    (site_root / "real").mkdir()
    (site_root / "real" / "a").write_bytes(b"x")
    (site_root / "link").symlink_to("real")
    (site_root / "real" / "b").symlink_to("a")
    for path in ("link/a", "real/b"):
        with pytest.raises(ConfigError, match="no links"):
            files.read(str(site_root / path))


def test_dots_do_not_leave_what_was_checked(site_root: Path) -> None:
    (site_root / "in").mkdir()
    (site_root / "a").write_bytes(b"x")
    assert files.read(str(site_root / "in/../a")) == b"x"


def test_secrets_are_the_owner_s_alone(site_root: Path) -> None:
    (site_root / "a").write_bytes(b"x")
    with pytest.raises(ConfigError, match="chmod 600"):
        files.read(str(site_root / "a"), secret=True)
    (site_root / "a").chmod(0o600)
    assert files.read(str(site_root / "a"), secret=True) == b"x"


def test_sizes_and_kinds(site_root: Path) -> None:
    (site_root / "large").write_bytes(b"x" * (files.LIMIT + 1))
    (site_root / "just").write_bytes(b"x" * files.LIMIT)
    os.mkfifo(site_root / "fifo", 0o600)
    assert len(files.read(str(site_root / "just"))) == files.LIMIT
    for name in ("large", "fifo", "."):
        with pytest.raises(ConfigError, match="no file of at most"):
            files.read(f"{site_root}/{name}")


SWAPPED = """
import os, sys
from mep.root import files, refusal
place, up = sys.argv[1], sys.argv[1] + "/up"

def swap(event, given):
    if event == "open" and given[0] == up + "/a" and os.path.isdir(place + "/theirs"):
        os.rename(up, place + "/ours")
        os.rename(place + "/theirs", up)

sys.addaudithook(swap)
try:
    print("read", files.read(up + "/a"))
except refusal.ConfigError as error:
    print(error)
print("read", files.read(place + "/ours/a"))
"""


@pytest.mark.parametrize("owner", [0, 65534])
def test_what_is_opened_is_what_was_looked_at(site_root: Path, owner: int) -> None:
    """A directory swapped at the worst moment, just before the file in it is opened."""
    for folder in ("up", "theirs"):
        (site_root / folder).mkdir()
        (site_root / folder / "a").write_text(folder)
    os.chown(site_root / "theirs" / "a", owner, -1)
    done = subprocess.run(
        [sys.executable, "-c", SWAPPED, str(site_root)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    first, second = done.stdout.splitlines()
    if owner:
        assert first.startswith(f"others can change {site_root}/up/a: ")
    else:
        assert first == "read b'theirs'"  # root's own change, looked at as anything else
    assert second == "read b'up'"


def test_no_descriptor_is_left(site_root: Path) -> None:
    (site_root / "a").write_bytes(b"x")
    (site_root / "link").symlink_to("a")
    before = os.listdir("/proc/self/fd")
    for name in ("a", "link", "none"):
        try:
            files.read(str(site_root / name), secret=name == "a")
        except (ConfigError, FileNotFoundError):
            pass
    assert os.listdir("/proc/self/fd") == before


def test_in_tmp_an_owner_s_files_count_and_root_s_do_not(tmp_path_factory, new_account) -> None:
    """Nobody can replace in a sticky directory what is another's; root keeps out of it anyway."""
    account = new_account("owner")
    place = Path("/tmp") / f"mep-test-{os.getpid()}"
    place.mkdir(mode=0o755)
    (place / "a").write_bytes(b"x")
    try:
        with pytest.raises(ConfigError, match="others can change /tmp"):
            files.read(str(place / "a"))
        os.chown(place, account.pw_uid, -1)
        os.chown(place / "a", account.pw_uid, -1)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
                status = 0 if files.read(str(place / "a")) == b"x" else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        (place / "a").unlink()
        place.rmdir()
