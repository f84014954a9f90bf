"""The WebSocket that brings results: one thread and one link for all executors of a client.

The thread starts with the first task group to watch and ends with the last. Futures' callbacks
run in it, as :mod:`concurrent.futures` says: in a thread of the process that added them. A callback
that waits for another future of the same client waits for ever.
"""

import asyncio
import contextlib
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import InvalidStateError
from functools import partial
from typing import Any

from mep import __version__
from mep.link import Link, LinkRefused, Peer
from mep.wire import PROTOCOL, to_sdk
from mep.wire.tasks import Result
from mep_sdk.auth import Credentials
from mep_sdk.errors import MEPError, refusal
from mep_sdk.future import ComputeFuture
from mep_sdk.ledger import Ledger
from mep_sdk.outcome import error_of, value_of

log = logging.getLogger(__name__)

Errand = Callable[[], Coroutine[None, None, None]]


class ResultStream:
    """Results of task groups into futures. Safe to call from any thread."""

    def __init__(self, credentials: Credentials) -> None:
        self.ledger = Ledger()
        self._credentials = credentials
        self._lock = threading.Lock()
        self._groups: Counter[str] = Counter()
        self._runner: _Runner | None = None
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
            if not self._groups and self._runner is not None:
                runner, self._runner = self._runner, None
                runner.stop()

    def submitting(self) -> None:
        """A submit is about to be sent."""
        self.ledger.submitting()

    def submitted(self, futures: Iterable[tuple[str, ComputeFuture]] = ()) -> None:
        """The submit was answered with these tasks, or failed."""
        early = self.ledger.submitted(futures)
        with self._lock:
            if self._groups:  # a link that was refused meanwhile tries again, and says so again
                # Before they are complete: the last one done may end the link.
                self._ensure_running().acknowledge([result.task_id for _, result in early])
        for future, result in early:
            complete(future, result)

    def groups(self) -> frozenset[str]:
        """Every group that is watched."""
        return frozenset(self._groups)

    def close(self, timeout_s: float) -> None:
        """End the thread, and wait for it that long."""
        with self._lock:
            runner, self._runner = self._runner, None
        if runner is not None and self._pid == os.getpid():
            runner.stop()
            runner.join(timeout_s)

    def _ensure_running(self) -> "_Runner":
        if self._runner is None or self._runner.over:
            self._runner = _Runner(self, self._credentials)
            self._runner.start()
        return self._runner


class _Runner(threading.Thread):
    """One event loop with one link."""

    def __init__(self, stream: ResultStream, credentials: Credentials) -> None:
        super().__init__(name="mep-results", daemon=True)
        self.over = False
        """Whether the relay has refused the link."""
        self._stream = stream
        self._credentials = credentials
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        self._announced: frozenset[str] = frozenset()
        self._errands: set[asyncio.Task[None]] = set()

    def announce(self) -> None:
        """Subscribe to groups that the relay has not been told of."""
        self._soon(self._subscribe)

    def acknowledge(self, task_ids: Sequence[str]) -> None:
        """Tell the relay that these results need not be streamed again."""
        if task_ids:
            self._soon(partial(self._received, tuple(task_ids)))

    def stop(self) -> None:
        """End the link and the thread."""
        with self._lock:
            self._stopping = True
        self._soon(self._close)

    def run(self) -> None:
        """The thread."""
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._link = Link(
            Peer(self._credentials.relay_url, self._credentials.ca_file),
            to_sdk.PATH,
            token=lambda: self._credentials.token,
            hello=self._hello,
            decoder=to_sdk.to_sdk,
            receive=self._receive,
            changed=self._changed,
        )
        with self._lock:
            if self._stopping:
                return
            self._loop = asyncio.get_running_loop()
        try:
            await self._link.run()
        except LinkRefused as refused:
            message = refused.message or "the relay refused the result stream"
            self._lost(refusal(refused.status, "", message))
        except Exception as error:  # the thread must not die and leave futures waiting
            log.exception("the result stream ended")
            self._lost(MEPError(f"the result stream ended: {error!r}"))
        finally:
            with self._lock:
                self._loop = None

    def _lost(self, error: MEPError) -> None:
        self.over = True
        for future in self._stream.ledger.all_lost():
            with contextlib.suppress(InvalidStateError):  # cancelled by the user
                future.set_exception(error)

    def _soon(self, errand: Errand) -> None:
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._start, errand)

    def _start(self, errand: Errand) -> None:
        task = asyncio.get_running_loop().create_task(errand())
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def _close(self) -> None:
        await self._link.close()

    def _hello(self) -> to_sdk.StreamHello:
        self._announced = self._stream.groups()
        return to_sdk.StreamHello(PROTOCOL, __version__, tuple(self._announced))

    def _changed(self, up: bool) -> None:
        if up:  # groups that came after the hello was made
            self._start(self._subscribe)

    async def _subscribe(self) -> None:
        missing = self._stream.groups() - self._announced
        if missing and self._link.up:
            self._announced |= missing
            await self._link.send(to_sdk.Subscribe(tuple(missing)))

    async def _receive(self, message: to_sdk.ToSdk) -> None:
        match message:
            case to_sdk.Results(results):
                await self._results(results)
            case to_sdk.States(changes):
                for change in changes:
                    future = self._stream.ledger.waiting(change.task_id)
                    if future is not None:
                        future.task_state = change.state
            case to_sdk.Goodbye(reason, retry_s):
                log.info("the relay closes the result stream: %s", reason)
                self._link.retry_after(retry_s)
            case to_sdk.Welcome():
                # Loading results needs it; now nothing is there to be loaded.
                import dill  # noqa: F401

    async def _results(self, results: tuple[Result, ...]) -> None:
        acknowledged = []
        for result in results:
            future, ours = self._stream.ledger.ended(result)
            if future is not None:
                complete(future, result)
            if ours:
                acknowledged.append(result.task_id)
        if acknowledged:
            await self._received(tuple(acknowledged))

    async def _received(self, task_ids: tuple[str, ...]) -> None:
        # Where the link is down now: the relay streams them again, and they are known.
        await self._link.send(to_sdk.Received(task_ids))


def complete(future: ComputeFuture, result: Result) -> None:
    """Set a future to how its task ended; nothing where the user cancelled it first."""
    if result.outcome == "cancelled":
        future.cancelled_remotely()
        return
    value: Any = None
    error: BaseException | None = None
    try:
        if result.outcome == "success":
            value = value_of(result.payload)
        else:
            error = error_of(result)
    except Exception as problem:  # noqa: BLE001 - whatever a payload does, its future must end
        error = problem
    with contextlib.suppress(InvalidStateError):
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)
        future.task_state = result.outcome
