"""Results on their way to the relay: spooled before they are sent, forgotten once it has them."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from mep.endpoint.carrier import Carrier
from mep.endpoint.custody import Custody
from mep.endpoint.journal import Journal, JournalError
from mep.endpoint.outbox import Outbox
from mep.wire.tasks import Result

log = logging.getLogger(__name__)


class Returns:
    """The results of one user endpoint. Lives in the event loop.

    Args:
        custody: which tasks are here.
        carrier: has what is too large for a message.
        outbox: what waits to be sent.
        journal: where results are spooled.
        safe: told of results that the engine need not hold any more.
        wake: called when there is something to send.
    """

    def __init__(
        self,
        custody: Custody,
        carrier: Carrier,
        outbox: Outbox,
        journal: Journal,
        safe: Callable[[Sequence[str]], None],
        wake: Callable[[], None],
    ) -> None:
        self._custody = custody
        self._carrier = carrier
        self._outbox = outbox
        self._journal = journal
        self._safe = safe
        self._wake = wake
        self._unspooled: set[str] = set()
        """Ended tasks whose results are in memory alone."""
        self._acknowledged = asyncio.Event()

    def end(self, results: Sequence[Result]) -> None:
        """Write down, spool, then send."""
        ended = self._custody.end(results)
        safe = [result.task_id for result in results]
        if not ended:
            self._safe(safe)
            return
        self._acknowledged.clear()
        try:
            self._journal.ended(ended)
            self._safe(safe)
        except JournalError as error:
            log.warning("%s; %d results live in memory alone", error.strerror, len(ended))
            self._unspooled.update(safe)
        self._outbox.add_results(self.sendable(ended))
        self._wake()

    def sendable(self, results: Iterable[Result]) -> list[Result]:
        """Those that can be sent now; a large one is uploaded first, and then it is settled."""
        return self._carrier.ready(results, self._custody.inline)

    def settled(self, result: Result) -> None:
        """A large result is at the relay; or it cannot be, and ended as this failure."""
        if not self._custody.still([result.task_id]):
            return
        if result.blob is None:
            self._custody.replace(result)
            try:
                self._journal.ended([result])
            except JournalError as error:
                log.warning("%s; the result may be sent once more", error.strerror)
        self._outbox.add_results([result])
        self._wake()

    def missing(self, task_ids: Sequence[str]) -> None:
        """The relay has the large results of these tasks no longer."""
        self._carrier.missing(task_ids)
        self._outbox.add_results(self.sendable(self._custody.still(task_ids)))

    def committed(self, task_ids: Sequence[str]) -> None:
        """The relay keeps these results from now on."""
        known = self._custody.commit(task_ids)
        self._carrier.committed(known)
        if not self._unspooled.isdisjoint(known):
            self._safe([one for one in known if one in self._unspooled])
            self._unspooled.difference_update(known)
        try:
            self._journal.committed(known)
        except JournalError as error:
            log.warning("%s; results may be sent once more", error.strerror)
        if self._custody.all_acknowledged:
            self._acknowledged.set()

    async def flush(self, seconds: float) -> None:
        """Wait that long for the relay to have every result; the spool keeps what it has not."""
        self._acknowledged.clear()
        self._wake()
        try:
            await asyncio.wait_for(self._acknowledged.wait(), seconds)
        except TimeoutError:
            count = len(self._custody.unacknowledged)
            log.info("%d results are left to the next process", count)
