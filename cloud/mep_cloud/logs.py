"""The relay's log on standard error: lines for people, or one JSON object in each line.

Payloads and tokens are never logged, whatever the level.
"""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from mep_cloud.settings import Log

_TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_QUIET: Final = ("uvicorn", "uvicorn.error", "asyncio", "httpx", "httpcore")

SELDOM_S: Final = 10.0


class Seldom:
    """Lets one of many lines of a kind into the log, once in :data:`SELDOM_S`: while something that
    all need is in trouble, everybody comes back again and again.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = float("-inf")

    def due(self) -> bool:
        """Whether this one is to be logged."""
        now = self._clock()
        due = abs(now - self._last) >= SELDOM_S  # a clock may be set back
        if due:
            self._last = now
        return due


class JsonLines(logging.Formatter):
    """``{"time", "level", "logger", "message"}``, and ``exception`` where there was one."""

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(said).decode()


def start(settings: Log, *, debug: bool) -> None:
    """Log as `settings` say; `debug` lowers the level."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if settings.format == "json" else logging.Formatter(_TEXT))
    level = "DEBUG" if debug else settings.level.upper()
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in _QUIET:
        logging.getLogger(noisy).setLevel(logging.WARNING)
