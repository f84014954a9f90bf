"""The runtime of one user endpoint, as a provider of remote blocks uses it."""

import logging
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import mep
from mep import sources
from mep.endpoint.runtime.command import command
from mep.endpoint.runtime.contents import contents
from mep.endpoint.runtime.errors import RuntimeUnavailable
from mep.endpoint.runtime.pyzmq import WHEELS
from mep.endpoint.runtime.stage import in_use, stage

log = logging.getLogger(__name__)

_PLAIN: Final = re.compile(r"[^$`\\\n]+")
DEFAULT_DIRECTORY: Final = "~/.mep/runtime"
CARRIED: Final = "mep-pool-*.pyz"
"""Files of :meth:`Runtime.carried`."""
REFRESH_S: Final = 3600.0
"""So often a long-lived endpoint looks whether the runtime is whole, and notes that it is used."""


class Runtime:
    """Where node pools on other machines find what they run from. For one thread.

    Args:
        directory: ``runtime_dir`` of the engine: seen by the endpoint and the nodes alike; ``~``
            and variables are replaced.
        wheels: see :func:`mep.endpoint.runtime.pyzmq.builds`.
        clock: epoch seconds.

    Raises:
        RuntimeUnavailable: see :func:`located`.
    """

    def __init__(
        self,
        directory: str = DEFAULT_DIRECTORY,
        wheels: Path = WHEELS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._wheels = wheels
        self._clock = clock
        self.directory = located(directory)
        self._place: Path | None = None
        self._looked = 0.0

    @property
    def staged(self) -> str:
        """Where it is; empty: not yet anywhere."""
        return str(self._place or "")

    def command(self, pool_file: str) -> list[str]:
        """The command of a node pool with these settings; the runtime is there when it returns.

        The first call takes tens of milliseconds, seconds on a slow file system.

        Raises:
            RuntimeUnavailable: it cannot be staged.
        """
        start = self._found(self._clock()) / "start"
        return command(sys.executable, mep.__version__, str(start), pool_file)

    def _found(self, now: float) -> Path:
        if self._place is None or now - self._looked > REFRESH_S:
            self._place = self._staged_anew(self._place, now)
            self._looked = now
        return self._place

    def _staged_anew(self, before: Path | None, now: float) -> Path:
        runtime = contents(self._wheels)
        if before is not None and before.name != runtime.name and in_use(before, now):
            return before  # the installation was replaced, and this process is of the older one
        place = stage(self.directory, runtime, now)
        log.info("node pools elsewhere run from %s", place)
        return place

    def carried(self, directory: Path) -> Path:
        """One file with all of it, in `directory`: to be transferred with a job.

        Raises:
            RuntimeUnavailable: it cannot be written.
        """
        runtime = contents(self._wheels)
        path = directory / CARRIED.replace("*", runtime.name)
        if path.exists():
            return path
        start = runtime.files.pop("start")
        new = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(start + sources.packed(runtime.files))
            new.replace(path)
        except OSError as error:
            raise RuntimeUnavailable(
                f"The node pools' runtime cannot be written to {path}: {error.strerror}"
            ) from error
        return path


def located(directory: str) -> Path:
    """The path that ``runtime_dir`` means.

    Raises:
        RuntimeUnavailable: a variable that is not set, or a relative path.
    """
    path = Path(os.path.expandvars(directory)).expanduser()
    if not path.is_absolute() or not _PLAIN.fullmatch(str(path)):
        raise RuntimeUnavailable(
            f"engine.runtime_dir {directory!r} leads to {str(path)!r}: it must be an absolute path "
            "of letters, digits and ordinary signs, made of variables that are set."
        )
    return path


def carried_command(carried: str, pool_file: str) -> list[str]:
    """As :meth:`Runtime.command`, with what was transferred; paths as the job will see them.

    Args:
        carried: name of the file of :meth:`Runtime.carried`, in the job's working directory.
        pool_file: that of the settings.
    """
    return command(
        sys.executable, mep.__version__, os.path.join(".", carried), os.path.join(".", pool_file)
    )
