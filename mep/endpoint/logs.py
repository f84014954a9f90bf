"""``endpoint.log`` in the user endpoint's directory: bounded, 0600, no secrets."""

import logging
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 5 * 1024 * 1024
"""Then it becomes ``endpoint.log.1``, replacing an older one."""


class _Rotating(logging.FileHandler):
    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        try:
            self._rotate()
        except OSError:  # a full disk: whoever logs has more important things to do
            self.handleError(record)

    def _rotate(self) -> None:
        if self.stream is not None and self.stream.tell() > MAX_BYTES:
            self.close()
            path = Path(self.baseFilename)
            path.replace(path.with_name(path.name + ".1"))
            self.stream = self._open()


def begin(directory: Path, debug: bool) -> None:
    """Log to `directory` from now on."""
    handler = _Rotating(directory / "endpoint.log", encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    # These log every frame and every poll at their own debug level, payloads included.
    for name in ("websockets", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
