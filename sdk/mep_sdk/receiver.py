"""The WebSocket that brings results: one thread and one link for all executors of a client.

While there is no WebSocket, :mod:`mep_sdk.fallback` asks for results instead.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import InvalidStateError
from functools import partial
from typing import TYPE_CHECKING, Final

from mep import __version__
from mep.link import Link, LinkRefused, Peer
from mep.wire import PROTOCOL, to_sdk
from mep.wire.tasks import Result
from mep_sdk import bearer
from mep_sdk.auth import Credentials
from mep_sdk.errors import MEPError, RelayUnreachable
from mep_sdk.fallback import Fallback
from mep_sdk.polling import Polling

if TYPE_CHECKING:
    from mep_sdk.results import ResultStream

log = logging.getLogger(__name__)

REFUSED_RETRY_S: Final = (1.0, 60.0)
"""Pauses of a stream that was refused, as by a proxy: doubled from the first to the last."""

Errand = Callable[[], Coroutine[None, None, None]]


class Receiver(threading.Thread):
    """One event loop with one link."""

    def __init__(self, stream: "ResultStream", credentials: Credentials) -> None:
        super().__init__(name="mep-results", daemon=True)
        self.over = False
        """Whether the relay has refused to tell results, in every way."""
        self._stream = stream
        self._credentials = credentials
        self._bearer = bearer.of(credentials)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        self._announced: frozenset[str] = frozenset()
        self._errands: set[asyncio.Task[None]] = set()
        polling = partial(Polling, credentials, stream.ledger, stream.large, self.acknowledge)
        self._fallback = Fallback(polling, stream.ledger, self._refused)

    def announce(self) -> None:
        """Tell the relay of groups that came, and of those that nobody watches any more."""
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
            token=self._token,
            hello=self._hello,
            decoder=to_sdk.to_sdk,
            receive=self._receive,
            changed=self._changed,
        )
        with self._lock:
            if self._stopping:
                return
            self._loop = asyncio.get_running_loop()
        self._closed = asyncio.Event()
        self._fallback.down()
        try:
            await self._keep()
        except MEPError as error:  # the login is over
            self._lost(error)
        except Exception as error:  # the thread must not die and leave futures waiting
            log.exception("the result stream ended")
            self._lost(MEPError(f"the result stream ended: {error!r}"))
        finally:
            self._fallback.stop()
            with self._lock:
                self._loop = None

    async def _keep(self) -> None:
        """Keep the link until it is closed. What refuses it may be no relay but a proxy: whether
        results can be had at all, and if not why, polling finds out.
        """
        self._pause_s = REFUSED_RETRY_S[0]
        while not self._closed.is_set():
            try:
                await self._link.run()
            except LinkRefused as refused:
                log.info(
                    "no result stream (HTTP %s %s); results are asked for instead",
                    *(refused.status, refused.message),
                )
                self._fallback.begin()
                # In Python 3.10 asyncio's is a class of its own.
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._closed.wait(), self._pause_s)
                self._pause_s = min(2 * self._pause_s, REFUSED_RETRY_S[1])

    def _refused(self, error: MEPError) -> None:
        self._lost(error)
        self.stop()

    def _token(self) -> str:
        try:
            return self._bearer.token()
        except RelayUnreachable as error:  # as any other loss of the relay: try again
            raise ConnectionError(str(error)) from error

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
        self._closed.set()
        await self._link.close()

    def _hello(self) -> to_sdk.StreamHello:
        self._announced = self._stream.groups()
        return to_sdk.StreamHello(PROTOCOL, __version__, tuple(self._announced))

    def _changed(self, up: bool) -> None:
        if up:  # groups that came after the hello was made
            self._start(self._subscribe)
        elif not self._closed.is_set():
            self._fallback.down()

    async def _subscribe(self) -> None:
        if not self._link.up:
            return  # the next hello tells all
        groups, told = self._stream.groups(), self._announced
        self._announced = groups
        if gone := told - groups:
            await self._link.send(to_sdk.Unsubscribe(tuple(gone)))
        if missing := groups - told:
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
            case to_sdk.Welcome():  # not sooner: a proxy may take what it does not hand on
                self._fallback.up()
                self._pause_s = REFUSED_RETRY_S[0]
                # Loading results needs it; now nothing is there to be loaded.
                import dill  # noqa: F401

    async def _results(self, results: tuple[Result, ...]) -> None:
        acknowledged = []
        for result in results:
            future, ours = self._stream.ledger.ended(result)
            if future is not None:
                self._stream.take(future, result)
            if ours and (future is None or result.blob is None):
                acknowledged.append(result.task_id)
        if acknowledged:
            await self._received(tuple(acknowledged))

    async def _received(self, task_ids: tuple[str, ...]) -> None:
        # Where the link is down now: the relay streams them again, and they are known.
        await self._link.send(to_sdk.Received(task_ids))
