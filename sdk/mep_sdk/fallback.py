"""When results are asked for over REST: while there is no stream, and now and then though there is.

To be used in one event loop; :class:`mep_sdk.polling.Polling` asks, in a thread of its own.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from mep_sdk.errors import MEPError
from mep_sdk.ledger import Ledger
from mep_sdk.polling import Polling

log = logging.getLogger(__name__)

POLL_AFTER_S: Final = 3.0
"""So long the stream may be down before results are asked for."""
CHECK_S: Final = 300.0
"""So often REST is asked though the stream is up: no future may depend on one way alone."""


class Fallback:
    """Of one stream.

    Args:
        polling: makes what asks: :class:`mep_sdk.polling.Polling`, but for who hears of a refusal.
        ledger: which future waits for which task.
        refused: told why no result will come at all; not while the stream is up.
    """

    def __init__(
        self,
        polling: Callable[..., Polling],
        ledger: Ledger,
        refused: Callable[[MEPError], None],
    ) -> None:
        self._new_polling = polling
        self._ledger = ledger
        self._refused = refused
        self._polling: Polling | None = None
        self._later: asyncio.TimerHandle | None = None

    def up(self) -> None:
        """The stream brings results: only check from time to time."""
        self.stop()
        self._after(CHECK_S, self._check)

    def down(self) -> None:
        """There is no stream: ask, unless it is back soon."""
        self.stop()  # one that asks once only
        self._after(POLL_AFTER_S, self.begin)

    def begin(self, *, once: bool = False) -> None:
        """Ask from now on, or once."""
        if self._polling is None:
            refused = _check_refused if once else self._refused
            self._polling = self._new_polling(refused, once=once)
            self._polling.start()

    def stop(self) -> None:
        """Ask no more."""
        if self._later is not None:
            self._later.cancel()
        if self._polling is not None:
            self._polling.stop()
            self._polling = None

    def _after(self, seconds: float, poll: Callable[[], None]) -> None:
        if self._later is not None:
            self._later.cancel()
        self._later = asyncio.get_running_loop().call_later(seconds, poll)

    def _check(self) -> None:
        self.stop()
        if len(self._ledger):
            self.begin(once=True)
        self._after(CHECK_S, self._check)


def _check_refused(error: MEPError) -> None:
    log.info("the relay tells results by the stream alone: %s", error)
