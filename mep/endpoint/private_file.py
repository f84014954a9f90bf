"""Files for the user's eyes alone."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


RESULTS: Final = "results"
"""Below a user endpoint's directory: results that were too large for the relay."""


def keep_result(directory: Path, task_id: str, payload: bytes) -> str:
    """Keep a result that the relay does not take; what to tell of it."""
    path = directory / RESULTS / task_id
    try:
        path.parent.mkdir(0o700, exist_ok=True)
        path.unlink(missing_ok=True)
        with open(os.open(path, NEW, 0o600), "wb") as file:
            file.write(payload)
    except OSError as error:
        return f"it could not be kept at the site either: {error.strerror or error}"
    return f"its serialized form is kept at the site in {path}"


def write_private(path: Path, content: Mapping[str, Any]) -> None:
    """A JSON file of mode 0600, there as a whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, NEW, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file)
    new.rename(path)
