"""Job ids on disk, so that the next process of a user endpoint finds the blocks of this one.

``blocks/ID/job.json``, beside the block's ``pool.json``, from before the submission until the job
has ended. The directory is the user's alone (0700) and holds the job's script and output too.
"""

import os
import shutil
from pathlib import Path
from typing import Final

import msgspec

from mep.endpoint.runtime.runtime import CARRIED

_TAIL_BYTES: Final = 4096
KEPT: Final = 20
"""Directories of ended blocks that are kept, with what their jobs wrote."""
MARK: Final = "script.status"
"""Where a job's script leaves its exit status."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One block's job."""

    block_id: str
    provider: str
    """Its type, as in the configuration."""
    fingerprint: str
    """Of the configuration that it was started by."""
    submitted: float
    """Epoch seconds."""
    job_id: str = ""
    """Empty: the scheduler had not answered yet."""
    resource: dict[str, str] = {}
    """What Parsl's provider needs to know of the job besides."""


class Records:
    """The records of one user endpoint.

    Args:
        directory: the user endpoint's own.
    """

    def __init__(self, directory: str) -> None:
        self._blocks = Path(directory) / "blocks"

    def directory(self, block_id: str) -> Path:
        """The block's own; made if need be."""
        directory = self._blocks / block_id
        directory.mkdir(mode=0o700, exist_ok=True)
        return directory

    def write(self, record: Record) -> None:
        """Keep a record, there as a whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        path = self.directory(record.block_id) / "job.json"
        new = path.with_name("job.json.new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(msgspec.json.encode(record))
        new.rename(path)

    def drop(self, block_id: str) -> None:
        """Its job has ended. What it wrote stays for a while."""
        (self._blocks / block_id / "job.json").unlink(missing_ok=True)
        for carried in self._blocks.glob(f"{block_id}/{CARRIED}"):
            carried.unlink()
        self._prune()

    def all(self) -> list[Record]:
        """What earlier processes have left; records that are damaged or half made are dropped."""
        found = []
        for path in sorted(self._blocks.glob("*/job.json")):
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=Record))
            except msgspec.DecodeError:
                path.unlink()
        return found

    def tail(self, block_id: str) -> str:
        """The last that the job wrote to stderr, or to stdout where it wrote nothing there."""
        for kind in ("stderr", "e[0-9]*", "stdout", "o[0-9]*"):
            for path in sorted(self._blocks.glob(f"{block_id}/*.{kind}")):
                text = _tail(path)
                if text:
                    return text
        return ""

    def mark(self, block_id: str) -> str | None:
        """The exit status of the job's script; None: it has left none."""
        try:
            return (self._blocks / block_id / MARK).read_text().strip()
        except OSError:
            return None

    def _prune(self) -> None:
        ended = [one for one in self._blocks.iterdir() if _is_over(one)]
        ended.sort(key=lambda one: int(one.name))
        for directory in ended[:-KEPT]:
            shutil.rmtree(directory, ignore_errors=True)


def _is_over(directory: Path) -> bool:
    return directory.name.isdigit() and directory.is_dir() and not (directory / "job.json").exists()


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(0, end - _TAIL_BYTES))
            return log.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""
