"""``status.json`` in the user endpoint's directory, for ``mep status``: replaced as a whole."""

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)

SOON_S: Final = 1.0
"""The file follows changes no closer than this."""


class StatusFile:
    """The latest figures of one user endpoint."""

    def __init__(self, directory: Path, user_endpoint_id: str, display_name: str | None) -> None:
        self._path = directory / "status.json"
        self._fixed = {
            "pid": os.getpid(),
            "user_endpoint_id": user_endpoint_id,
            "display_name": display_name,
            "started": time.time(),
        }
        self._due: asyncio.TimerHandle | None = None

    def write_soon(self, figures: Callable[[], dict[str, Any]]) -> None:
        """Write what `figures` says a little later, once for all changes until then."""
        if self._due is None:
            loop = asyncio.get_running_loop()
            self._due = loop.call_later(SOON_S, lambda: self.write(**figures()))

    def write(self, **figures: Any) -> None:
        """Replace the file; a full disk is logged and no more."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        fresh = self._path.with_name("status.json.new")
        try:
            fresh.write_text(json.dumps({**self._fixed, "updated": time.time(), **figures}) + "\n")
            fresh.replace(self._path)
        except OSError as error:
            log.warning("status.json cannot be written: %s", error)
