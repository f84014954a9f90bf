"""``status.json`` in the user endpoint's directory, for ``mep status``: replaced as a whole."""

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


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

    def write(self, **figures: Any) -> None:
        """Replace the file; a full disk is logged and no more."""
        fresh = self._path.with_name("status.json.new")
        try:
            fresh.write_text(json.dumps({**self._fixed, "updated": time.time(), **figures}) + "\n")
            fresh.replace(self._path)
        except OSError as error:
            log.warning("status.json cannot be written: %s", error)
