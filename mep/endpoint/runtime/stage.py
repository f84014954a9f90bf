"""Runtimes in a directory that the compute nodes see: each there as a whole, or not at all.

Endpoints of one user may do this at once. Nothing is locked, since locks are not to be relied on
where home directories are shared; a rename is.
"""

import contextlib
import errno
import logging
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mep.endpoint.runtime.contents import Contents
from mep.endpoint.runtime.errors import RuntimeUnavailable
from mep.endpoint.runtime.unused import DAY_S, unused

log = logging.getLogger(__name__)

_TRIES: Final = 10
"""Of endpoints that find a broken one at the same moment."""
_UNFINISHED: Final = ".unfinished-"
_GOING: Final = ".going-"


def stage(parent: Path, runtime: Contents, now: float) -> Path:
    """The directory of `runtime` in `parent`, made or made anew unless it is there and whole.

    Args:
        parent: the user's own, made if need be.
        runtime: what shall be there.
        now: epoch seconds; older runtimes that nobody uses are removed.

    Raises:
        RuntimeUnavailable: it cannot be put there.
    """
    try:
        _own(parent)
        place = parent / runtime.name
        for _ in range(_TRIES):
            if whole(place, runtime.files) and in_use(place, now):
                break
            _put(place, runtime.files)
        else:
            raise RuntimeUnavailable(
                f"{place} does not stay as it was written; look for what alters it, or set "
                "engine.runtime_dir to another directory."
            )
        _tidy(parent, place, now)
    except OSError as error:
        raise RuntimeUnavailable(
            f"The node pools' runtime cannot be put into {parent}: {error.strerror or error}; make "
            "room there, or set engine.runtime_dir to a directory that the compute nodes see too."
        ) from error
    return place


def whole(place: Path, files: Mapping[str, bytes]) -> bool:
    """Whether each of the files is there as it should be, and nobody else can alter them.

    What Python compiled beside them does not matter.
    """
    try:
        if not _is_private(place):
            return False
        return all((place / name).read_bytes() == data for name, data in files.items())
    except OSError:
        return False


def in_use(place: Path, now: float) -> bool:
    """Note that it is used; False if somebody has taken it for broken meanwhile."""
    try:
        os.utime(place, (now, now))
    except FileNotFoundError:
        return False
    return True


def _own(parent: Path) -> None:
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_private(parent):
        raise RuntimeUnavailable(
            f"{parent} is to hold programs that run as you, and it is somebody else's or others "
            f"can write it: chmod go-w {parent}, or set engine.runtime_dir to another directory."
        )
    for above in parent.resolve().parents:
        mode = above.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise RuntimeUnavailable(
                f"{parent} is to hold programs that run as you, and everybody can put something "
                f"else in its place, since all can write {above}; set engine.runtime_dir to "
                "another directory."
            )


def _is_private(directory: Path) -> bool:
    status = directory.lstat()
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.geteuid()
        and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def _put(place: Path, files: Mapping[str, bytes]) -> None:
    """Write them elsewhere and rename; what is there already is broken and goes.

    Whoever else does the same may be faster: then theirs is left for the caller to look at.
    """
    made = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=place.parent))
    try:
        for name, data in files.items():
            path = made / name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_bytes(data)
        if not whole(place, files):
            _remove(place)
        made.rename(place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        log.info("another endpoint has put %s there", place)
    finally:
        shutil.rmtree(made, ignore_errors=True)  # not there any more, if all went well


def _remove(place: Path) -> None:
    """Out of sight at once; a file that is still open on some node may stay a while longer."""
    going = place.with_name(_GOING + secrets.token_hex(8))
    try:
        place.rename(going)
    except FileNotFoundError:
        return  # somebody else was faster, or it was never there
    _clear(going)


def _clear(path: Path) -> None:
    try:
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        log.info("%s cannot be removed yet: %s", path, error)


def _tidy(parent: Path, place: Path, now: float) -> None:
    """Remove what nobody needs: older runtimes, and what an endpoint that died left behind."""
    used = {}
    for path in parent.iterdir():
        with contextlib.suppress(FileNotFoundError):  # an endpoint beside this one was faster
            used[path.name] = path.lstat().st_mtime
    used.pop(place.name, None)
    for name in unused({name: at for name, at in used.items() if name[0] != "."}, now):
        _remove(parent / name)
    for name, at in used.items():
        if name.startswith((_UNFINISHED, _GOING)) and now - at > DAY_S:
            _clear(parent / name)
