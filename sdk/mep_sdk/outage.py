"""Tells whoever looks at the terminal why nothing goes on: once, when that has lasted a while."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

TELL_AFTER_S: Final = 10.0
"""What is over sooner, as a relay's restart, is nobody's business."""
FORGOTTEN_S: Final = 120.0
"""After a pause that long nobody was trying again: the next failure begins another outage."""


class Outage:
    """Of one relay, for all that asks it. Safe to use from several threads.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since = self._last = clock() - FORGOTTEN_S
        self._told = False

    def goes_on(self, why: Exception) -> None:
        """The relay did not answer, or said: not now; it is asked again."""
        with self._lock:
            now = self._clock()
            if now >= self._last + FORGOTTEN_S:
                self._since, self._told = now, False
            self._last = now
            if self._told or now < self._since + TELL_AFTER_S:
                return
            self._told = True
        log.warning("waiting for the relay, and trying again: %s", why)

    def is_over(self) -> None:
        """The relay has answered."""
        with self._lock:
            told, self._told = self._told, False
            self._last = self._clock() - FORGOTTEN_S
        if told:
            log.warning("the relay answers again")
