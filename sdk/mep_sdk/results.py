"""The result stream that all executors of a client share: results into futures.

The thread starts with the first task group to watch and ends with the last. Futures' callbacks
run in it, as :mod:`concurrent.futures` says: in a thread of the process that added them. A callback
that waits for another future of the same client waits for ever.
"""

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import InvalidStateError

import msgspec

from mep.wire.tasks import Result
from mep_sdk.auth import Credentials
from mep_sdk.errors import MEPError
from mep_sdk.future import ComputeFuture
from mep_sdk.large import Large
from mep_sdk.ledger import Ledger
from mep_sdk.outcome import complete
from mep_sdk.receiver import Receiver


class ResultStream:
    """Results of task groups into futures. Safe to call from any thread."""

    def __init__(self, credentials: Credentials, large: Large) -> None:
        self.ledger = Ledger()
        self.large = large
        self._credentials = credentials
        self._lock = threading.Lock()
        self._groups: Counter[str] = Counter()
        self._receiver: Receiver | None = None
        self._pid = os.getpid()

    def watch(self, group: str) -> None:
        """Stream this task group, until :meth:`unwatch` has been called as often."""
        with self._lock:
            self._groups[group] += 1
            self._ensure_running().announce()

    def unwatch(self, group: str) -> None:
        """One watcher less; the last one ends the thread (which is not waited for)."""
        with self._lock:
            self._groups[group] -= 1
            self._groups += Counter()  # drops what nobody watches
            if self._receiver is None:
                return
            if self._groups:
                self._receiver.announce()
            else:
                receiver, self._receiver = self._receiver, None
                receiver.stop()

    def submitting(self) -> None:
        """A submit is about to be sent."""
        self.ledger.submitting()

    def submitted(self, futures: Iterable[tuple[str, ComputeFuture]] = ()) -> None:
        """The submit was answered with these tasks, or failed."""
        early = self.ledger.submitted(futures)
        with self._lock:
            if self._groups:  # a link that was refused meanwhile tries again, and says so again
                # Before they are complete: the last one done may end the link.
                here = [result.task_id for _, result in early if result.blob is None]
                self._ensure_running().acknowledge(here)
        for future, result in early:
            self.take(future, result)

    def take(self, future: ComputeFuture, result: Result) -> None:
        """Set a future to how its task ended, once a large result is here."""
        if result.blob is None:
            complete(future, result)
            return

        def downloaded(outcome: bytearray | MEPError) -> None:
            if isinstance(outcome, MEPError):
                with contextlib.suppress(InvalidStateError):  # cancelled by the user
                    future.set_exception(outcome)
                return
            complete(future, msgspec.structs.replace(result, payload=outcome, blob=None))
            with self._lock:
                if self._receiver is not None:
                    self._receiver.acknowledge([result.task_id])

        self.large.fetch(result.task_id, result.blob, downloaded)

    def groups(self) -> frozenset[str]:
        """Every group that is watched."""
        return frozenset(self._groups)

    def close(self, timeout_s: float) -> None:
        """End the thread, and wait for it that long."""
        with self._lock:
            receiver, self._receiver = self._receiver, None
        if receiver is not None and receiver.ident and self._pid == os.getpid():
            receiver.stop()
            receiver.join(timeout_s)

    def _ensure_running(self) -> Receiver:
        if self._receiver is None or self._receiver.over or self._receiver.ident is None:
            self._receiver = Receiver(self, self._credentials)
            self._receiver.start()
        return self._receiver
