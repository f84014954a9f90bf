"""One thread per executor: takes whatever is queued and sends it, one request for a batch.

There is no delay to wait for more: when the thread is idle a task leaves at once, and while a
request is under way the next batch gathers.
"""

import atexit
import contextlib
import functools
import logging
import os
import threading
import weakref
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING, Any, Final

from mep.wire import codes, limits
from mep_sdk.backlog import Backlog, Call
from mep_sdk.errors import MEPError
from mep_sdk.functions import Known
from mep_sdk.future import ComputeFuture
from mep_sdk.outcome import settle

if TYPE_CHECKING:
    from mep_sdk.client import Client

log = logging.getLogger(__name__)

FLUSH_S: Final = 10.0
"""At the end of the process: how long sending may take."""

ABANDONED_S: Final = 5.0
"""So often a thread with nothing to do looks whether its executor is still there."""

_OF_A_FUNCTION: Final = (
    codes.FUNCTION_NOT_FOUND,
    codes.FUNCTION_ACCESS_FORBIDDEN,
    codes.FUNCTION_NOT_PERMITTED,
)
"""Refusals of a whole request for one of its functions."""

_OF_LARGE_ARGUMENTS: Final = (codes.BLOBS_FULL, codes.BLOB_QUOTA_EXCEEDED)
"""Refusals of an upload, before a request with what is uploaded is made."""

_alive: "weakref.WeakSet[Submitter]" = weakref.WeakSet()


class Submitter:
    """The queue, the thread, and the futures that are not done."""

    def __init__(self, client: "Client", batch_size: int) -> None:
        self._client = client
        self._stream = client.result_stream()
        # The lock itself is entered, not the condition, which is Python: Ctrl-C between its
        # acquiring and the body would leave it locked.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._backlog = Backlog(batch_size, client.connection.bounds)
        self._cancels: list[str] = []
        self._open: set[ComputeFuture] = set()
        self._groups: set[str] = set()
        self._registered: dict[bytes, str] = {}
        self._stopping = False
        self._abandoned = False
        self._busy = False
        self._thread: threading.Thread | None = None
        self.pid = os.getpid()
        _alive.add(self)

    def add(self, call: Call) -> None:
        """Queue a call; it is sent in the background."""
        call.future.on_cancel = self._cancel
        with self._lock:
            self._watch(call.destination.task_group_id)
            # In this order: interrupted (Ctrl-C), there must be no queued future that no thread
            # sends or whose condition stays locked, and none that is waited for and nothing ends.
            self._start()
            call.future.add_done_callback(self._done)
            self._backlog.add(call)
            self._open.add(call.future)
            self._changed.notify_all()

    def limit(self, batch_size: int) -> None:
        """Send so many tasks in one request, at most, from now on."""
        self._backlog.most_calls = batch_size

    def reload(self, group: str) -> list[ComputeFuture]:
        """Futures for every task of the group, in the order of submission.

        They wait for results before their states are asked for, so that none is missed between.

        Raises:
            RelayError: the relay was not reachable, or refused.
        """
        futures = self._adopt(group, self._client.get_task_group(group))
        waiting = [future.task_id for future in futures if future.task_id and not future.done()]
        try:
            statuses = self._client.statuses(waiting, keep=False)
        except Exception as error:
            for future in self._stream.ledger.settled(waiting):
                settle(future, {"status": "failed", "exception": error})
            raise
        for task_id, status in statuses.items():
            if status["pending"]:
                continue
            for future in self._stream.ledger.settled([task_id]):
                settle(future, status)
        return futures

    def _adopt(self, group: str, task_ids: Iterable[str]) -> list[ComputeFuture]:
        """Futures that wait for these tasks, in the order given."""
        futures = []
        with self._lock:
            self._watch(group)
            for task_id in task_ids:
                future = self._stream.ledger.waiting(task_id)
                if future is None:
                    future = ComputeFuture()
                    future.task_id, future.task_group_id = task_id, group
                    future.on_cancel = self._cancel
                    self._track(future)
                    self._stream.ledger.expect(task_id, future)
                futures.append(future)
            self._wake()
        return futures

    def cancel_all(self) -> None:
        """Cancel every future that is not done."""
        for future in self.unfinished():
            future.cancel()

    def stop(self) -> None:
        """Take no more; send what is queued, then end the thread. Does not wait."""
        with self._lock:
            self._stopping = True
            self._changed.notify_all()
        self._release_if_done()

    def abandon(self) -> None:
        """Stop, soon. Takes no lock: the garbage collector may call it in midst of anything."""
        self._abandoned = True

    def finish(self) -> None:
        """At the end of the process: send what is queued, within a bounded time; disconnect."""
        self.stop()
        self.join(FLUSH_S)
        if unsent := [each for each in self.unfinished() if each.task_id is None]:
            log.warning("not sent to the relay, and will not run: %d task(s)", len(unsent))
        self._client.close()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until everything queued has been sent."""
        thread = self._thread
        if thread is not None and thread.ident and thread is not threading.current_thread():
            thread.join(timeout_s)

    def unfinished(self) -> list[ComputeFuture]:
        """Every future that is not done."""
        with self._lock:
            return list(self._open)

    def wait(self) -> None:
        """Wait until every future is done."""
        while futures := self.unfinished():
            wait_for(futures)

    def orphan(self) -> None:
        """In a forked child: neither thread nor connection exists here."""
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._stopping, self._thread = True, None
        futures, self._open = self._open, set()
        for future in futures:
            # Another thread of the parent may have held it when the process forked.
            future._condition = threading.Condition()
            with contextlib.suppress(InvalidStateError):
                future.set_exception(
                    MEPError("this task was submitted by the parent process; only that gets it")
                )

    def _track(self, future: ComputeFuture) -> None:
        self._open.add(future)
        future.add_done_callback(self._done)

    def _done(self, future: Future[Any]) -> None:
        with self._lock:
            self._open.discard(future)
        if self._stopping:
            self._release_if_done()

    def _release_if_done(self) -> None:
        """The last one leaves the result stream."""
        with self._lock:
            if self._open or not self._stopping:
                return
            groups, self._groups = self._groups, set()
        for group in groups:
            self._stream.unwatch(group)

    def _watch(self, group: str) -> None:
        if self._stopping:
            raise RuntimeError("cannot submit after shutdown")
        if group not in self._groups:
            self._groups.add(group)
            self._stream.watch(group)

    def _start(self) -> None:
        if self._thread is None or self._thread.ident is None:  # its start may be interrupted
            self._thread = threading.Thread(target=self._run, name="mep-submitter", daemon=True)
            self._thread.start()

    def _wake(self) -> None:
        self._start()
        self._changed.notify_all()

    def _cancel(self, future: ComputeFuture) -> None:
        """The user has cancelled; without a task id it is not sent, or its answer will tell."""
        if future.task_id is not None:
            with self._lock:
                self._cancels.append(future.task_id)
                self._wake()

    def flush(self, timeout_s: float | None) -> bool:
        """Wait until everything queued has been sent, or refused; False: not in time."""
        with self._lock:
            return self._changed.wait_for(lambda: not (self._busy or self._backlog), timeout_s)

    def _run(self) -> None:
        while self._wait_for_work():
            cancels, batch = self._take()
            if cancels:
                self._send_cancels(cancels)
            if batch:
                self._send(batch)

    def _wait_for_work(self) -> bool:
        with self._lock:
            self._busy = False
            self._changed.notify_all()
            while not (self._backlog or self._cancels):
                if self._abandoned:
                    self.stop()
                if self._stopping:
                    return False
                self._changed.wait(ABANDONED_S)
            self._busy = True
            return True

    def _take(self) -> tuple[list[str], list[Call]]:
        with self._lock:
            cancels, self._cancels = self._cancels, []
            return cancels, self._backlog.take() if self._backlog else []

    def _send(self, batch: list[Call]) -> None:
        calls: dict[str, list[Call]] = {}
        try:
            calls = self._with_function_ids(batch)
            if calls:
                self._submit(calls)
        except Exception as error:  # noqa: BLE001 - whatever it is, the futures must end with it
            if parts := _apart(calls, getattr(error, "code", "")):
                for part in parts:
                    self._send(part)
            elif not self._put_back(batch, error):
                fail(batch, error)

    def _put_back(self, batch: list[Call], refused: Exception) -> bool:
        """Queue the batch again, if it was more than the relay takes at once; False: it was not."""
        connection = self._client.connection
        try:
            if not connection.learn(refused):
                return False
        except MEPError as error:
            log.info("the relay refused a batch and does not say what it takes: %s", error)
            return False
        calls = [call for call in batch if not call.future.done()]
        payloads = [len(call.payload) for call in calls]
        # What is too large by itself is found again on the way, and fails alone.
        alone = any(each > connection.bounds.payload for each in payloads)
        if not calls or (connection.bounds.fit(payloads) and not alone):
            return False
        with self._lock:
            self._backlog.put_back(calls)
        return True

    def _with_function_ids(self, batch: list[Call]) -> dict[str, list[Call]]:
        """The batch by function; what is too large or cannot be registered fails here."""
        calls: dict[str, list[Call]] = {}
        refused: dict[int, Exception] = {}
        for call in batch:
            function = call.function
            try:
                self._client.connection.large.check(len(call.payload), patient=True)
            except MEPError as error:
                fail([call], error)
                continue
            if not function.function_id and id(function) not in refused:
                try:
                    self._register(function)
                except MEPError as error:
                    refused[id(function)] = error
            if function.function_id:
                call.future.function_id = function.function_id
                calls.setdefault(function.function_id, []).append(call)
            else:
                fail([call], refused[id(function)])
        return calls

    def _register(self, function: Known) -> None:
        digest = function.digest
        if digest not in self._registered:
            self._registered[digest] = self._client.register_known(function, patient=True)
        function.function_id = self._registered[digest]

    def _submit(self, calls: dict[str, list[Call]]) -> None:
        destination = next(iter(calls.values()))[0].destination
        options = {}
        if destination.container_id:
            where = (destination.endpoint_id, destination.container_id)
            containers = self._client.connection.containers
            options = containers.options(self._client, *where)
        request = destination.submit(
            {function_id: [call.payload for call in group] for function_id, group in calls.items()},
            **options,
        )
        tasks: list[tuple[str, ComputeFuture]] = []
        self._stream.submitting()
        try:
            answer = self._client.submit(destination.endpoint_id, request, patient=True)
            for function_id, group in calls.items():
                for call, task_id in zip(group, answer.tasks[function_id], strict=True):
                    call.future.task_id = task_id
                    tasks.append((task_id, call.future))
        finally:
            self._stream.submitted(tasks)
        late = [task_id for task_id, future in tasks if future.cancelled()]
        if late:
            self._send_cancels(late)

    def _send_cancels(self, task_ids: list[str]) -> None:
        # The futures have ended already; what the relay refuses now concerns nobody any more.
        with contextlib.suppress(MEPError):
            self._client.cancel(*task_ids)


def _apart(calls: Mapping[str, list[Call]], code: str) -> list[list[Call]]:
    """A batch by function that was refused with this code, in parts that may be taken; empty where
    that changes nothing.
    """
    if code in _OF_A_FUNCTION and len(calls) > 1:
        return [*calls.values()]
    every = [call for group in calls.values() for call in group]
    if code in _OF_LARGE_ARGUMENTS and len(every) > 1:
        small = [call for call in every if len(call.payload) <= limits.INLINE]
        large = [[call] for call in every if len(call.payload) > limits.INLINE]
        return [small, *large] if small else large
    return []


def fail(calls: Iterable[Call], error: Exception) -> None:
    """End the futures of calls that were not taken."""
    for call in calls:
        if call.future.task_id is None:
            call.future.task_state = "failed"
            with contextlib.suppress(InvalidStateError):  # cancelled by the user meanwhile
                call.future.set_exception(error)


@functools.cache
def finish_at_exit() -> None:
    """At the end of the process, send what was submitted; results stay at the relay.

    To be called after the first :func:`weakref.finalize`: what is registered last runs first, and
    connections (which have finalizers) must still be there.
    """
    atexit.register(_finish)


def _finish() -> None:
    try:
        for submitter in list(_alive):
            submitter.finish()
    except KeyboardInterrupt:
        log.warning("interrupted: what had not been sent to the relay yet does not run")


def _after_fork() -> None:
    for submitter in list(_alive):
        submitter.orphan()
    _alive.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
