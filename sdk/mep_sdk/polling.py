"""Results over REST while the result stream is not to be had: one thread as long as that lasts.

Some proxies let HTTPS through and no WebSockets. The stream goes on trying meanwhile; whichever
way brings a task's end first, ends its future, and the ledger sees to it that it is the only one.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from mep.wire.rest import BatchStatus, TaskIds, TaskStatus
from mep_sdk.auth import Credentials
from mep_sdk.errors import MEPError, RelayError, RelayUnreachable, Throttled
from mep_sdk.large import Large
from mep_sdk.ledger import Ledger
from mep_sdk.outcome import settle, shown
from mep_sdk.transport import Transport

log = logging.getLogger(__name__)

SHORTEST_S: Final = 1.0
LONGEST_S: Final = 10.0
"""Between two questions: doubled while nothing ends and nothing is submitted. Relays may bound how
often one asks."""
IDS: Final = 500
"""Tasks asked for in one request."""
TIMEOUT_S: Final = 60.0
_OWN_FAULT: Final = 500
"""HTTP statuses from here on say that the relay, or a proxy, is in trouble."""


class Polling(threading.Thread):
    """Asks for whatever waits, until it is stopped or the relay refuses for good.

    Args:
        credentials: the relay and the login.
        ledger: which future waits for which task.
        large: gets what is too large for an answer.
        received: told, in this thread, which tasks' results are here.
        refused: told, in this thread, why no result will come at all.
        once: ask once.
    """

    def __init__(
        self,
        credentials: Credentials,
        ledger: Ledger,
        large: Large,
        received: Callable[[Sequence[str]], None],
        refused: Callable[[MEPError], None],
        *,
        once: bool = False,
    ) -> None:
        super().__init__(name="mep-polling", daemon=True)
        self._ledger = ledger
        self._large = large
        self._received = received
        self._refused = refused
        self._once = once
        self._http = Transport(credentials, TIMEOUT_S, 0.0, large.outage)
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Ask no more. Does not wait for an answer that is on its way."""
        self._stopped.set()
        self._http.close()

    def run(self) -> None:
        """The thread."""
        pause, newest = 0.0, ""
        while not self._stopped.wait(pause):
            waiting = self._ledger.waiting_ids()
            try:
                ended = self._ask(waiting)
            except MEPError as error:
                if not _passes(error):
                    self._refused(error)
                    return
                log.info("results cannot be asked for: %s", error)
                ended = 0
            except Exception as error:  # the thread must not die and leave futures waiting
                log.exception("results can be asked for no more")
                self._refused(MEPError(f"results can be asked for no more: {error!r}"))
                return
            if self._once:
                return
            fresh = not waiting or waiting[-1] != newest
            newest = waiting[-1] if waiting else ""
            pause = SHORTEST_S if ended or fresh else min(2 * pause or SHORTEST_S, LONGEST_S)

    def _ask(self, waiting: Sequence[str]) -> int:
        """End the futures of tasks that have ended; how many there were.

        Raises:
            RelayError, CredentialsError: the relay did not answer, or refused.
        """
        ended = []
        for at in range(0, len(waiting), IDS):
            body = TaskIds(list(waiting[at : at + IDS]))
            answer = self._http.call("POST", "/v2/batch_status", BatchStatus[bytes], body)
            for task_id, status in answer.results.items():
                if status.status not in ("success", "failed", "cancelled"):
                    if (future := self._ledger.waiting(task_id)) is not None:
                        future.task_state = status.status
                elif (told := self._told(status)) is not None:
                    for future in self._ledger.settled([task_id]):
                        settle(future, told)
                        ended.append(task_id)
        self._received(ended)
        return len(ended)

    def _told(self, status: TaskStatus[bytes]) -> dict[str, Any] | None:
        """How a task ended; None where its result cannot be had now."""
        try:
            return shown(self._large.whole(status))
        except MEPError as error:
            if _passes(error):
                return None
            return {"pending": False, "status": "failed", "exception": error}


def _passes(error: MEPError) -> bool:
    """Whether it is worth asking again."""
    if isinstance(error, (RelayUnreachable, Throttled)):
        return True
    return isinstance(error, RelayError) and error.status >= _OWN_FAULT
