"""Large arguments and results by HTTP, to the relay and from it: streamed, checked, tried again.

Shared by the user endpoint and the SDK, which call from threads, and import this when there is
something large.
"""

import hashlib
import io
import logging
import random
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

import msgspec
import requests
import urllib3
from requests.adapters import HTTPAdapter

from mep import __version__
from mep.link import Peer
from mep.wire import codes
from mep.wire.rest import MSGPACK, Uploaded, content_digest
from mep.wire.tasks import Blob

log = logging.getLogger(__name__)

CONNECT_S: Final = 10.0
SILENCE_S: Final = 120.0
"""How long the relay may say nothing: it answers an upload when all of it is on its disk."""
FIRST_RETRY_S: Final = 0.1
LAST_RETRY_S: Final = 30.0
_PIECE: Final = 1 << 20
_DAMAGED: Final = 3
"""Downloads with a wrong hash, before it is not the network's fault."""
_NO_ROOM: Final = 507
"""Somebody with patience waits for the administrator to make some."""
_AGAIN: Final = frozenset({408, 425, 429, 502, 503, 504})
"""HTTP statuses that say: not now."""

_BROKEN: Final = (requests.exceptions.RequestException, urllib3.exceptions.HTTPError)
"""What connections raise when they break."""

Token = Callable[[], str]
T = TypeVar("T")


class TransferError(Exception):
    """It could not be transferred, and trying again would not help.

    `status` is the relay's, or 0; `code` one of :mod:`mep.wire.codes`.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class TransferStopped(Exception):
    """:meth:`Transfer.close` was called, or the relay was not reachable for too long."""


class _LostError(Exception):
    """The connection broke, or the relay says: not now."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def new_session(peer: Peer, token: Token) -> requests.Session:
    """Connections to one relay that trust what the links trust.

    Raises:
        OSError: the CA certificates cannot be used.
    """
    context = peer.tls()

    class Adapter(HTTPAdapter):
        """Trusts the system's CAs and the user's."""

        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, ssl_context=context, **kwargs)

        def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
            return super().proxy_manager_for(proxy, ssl_context=context, **kwargs)

    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {token()}"
        return request

    session = requests.Session()
    session.mount("https://", Adapter())
    # A callable, since requests lets ~/.netrc replace an Authorization header.
    session.auth = authorize
    return session


def tries_within(patience_s: float) -> int:
    """How many tries it takes until about so many seconds have been spent on pauses; 1 for 0."""
    tries, spent_s = 1, 0.0
    while spent_s < patience_s:
        spent_s += 0.75 * _longest_s(tries)
        tries += 1
    return tries


def _longest_s(failures: int) -> float:
    """The pause after so many failures in a row, before chance shortens it to spread clients."""
    return min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(failures, 10))


def blob_of(data: bytes) -> Blob:
    """Size and hash of data that has no id yet."""
    return Blob("", len(data), hashlib.sha256(data).hexdigest())


class Transfer:
    """Uploads to and downloads from one relay. Safe to use from several threads.

    Args:
        peer: the relay.
        token: goes into the Authorization header of each request.
        tries: how often in a row a transfer that does not get on is tried, 0: until closed.
        failing: called each time that one does not get on.
    """

    def __init__(
        self, peer: Peer, token: Token, tries: int = 0, failing: Callable[[], None] = lambda: None
    ) -> None:
        self._peer = peer
        self._token = token
        self._tries = tries
        self._failing = failing
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._session: requests.Session | None = None

    def upload(self, path: str, source: bytes | Path, blob: Blob) -> Uploaded:
        """Send what `blob` describes; it is on the relay's disk then.

        Raises:
            TransferError: the relay refuses it.
            TransferStopped: not reachable, or closed.
            OSError: `source` cannot be read.
        """
        return self._persist(lambda: self._upload(path, source, blob), lambda: 0)

    def download(self, path: str, blob: Blob) -> bytearray:
        """Fetch a blob. Where the connection breaks, it goes on from there.

        Raises:
            TransferError: the relay refuses it, or has it no longer as it was.
            TransferStopped: not reachable, or closed.
        """
        for _ in range(_DAMAGED):
            fetched = _Fetched(blob.size)
            self._persist(partial(self._download, path, fetched), partial(_size_of, fetched))
            if hashlib.sha256(fetched.data).hexdigest() == blob.sha256:
                return fetched.data
            log.warning("%s came damaged", path)
        raise TransferError(0, codes.BLOB_DAMAGED, f"{path} is not what was sent to the relay")

    def close(self) -> None:
        """Stop trying again."""
        self._closing.set()
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def _persist(self, act: Callable[[], T], progress: Callable[[], int]) -> T:
        """Try until it is done; what got on begins to count anew."""
        failures, reached = 0, progress()
        while not self._closing.is_set():
            try:
                return act()
            except _LostError as error:
                failures, reached = (1 if progress() > reached else failures + 1), progress()
                self._failing()
                if failures == self._tries:
                    raise TransferStopped(str(error)) from error
                wait_s = _longest_s(failures) * random.uniform(0.5, 1.0)  # noqa: S311
                wait_s = max(error.wait_s, wait_s)
                log.info("%s; next try in %.1f s", error, wait_s)
                self._closing.wait(wait_s)
        raise TransferStopped("the transfer was given up")

    def _upload(self, path: str, source: bytes | Path, blob: Blob) -> Uploaded:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Digest": content_digest(bytes.fromhex(blob.sha256)),
            "Accept": MSGPACK,
        }
        with _opened(source) as body:
            response = self._send("POST", path, headers, body)
            with response:
                try:
                    return msgspec.msgpack.decode(response.content, type=Uploaded)
                except (msgspec.DecodeError, *_BROKEN) as error:
                    raise _LostError(f"the relay's answer cannot be read: {error}") from error

    def _download(self, path: str, into: "_Fetched") -> None:
        headers = {"Accept-Encoding": "identity"}
        if into.size:
            headers["Range"] = f"bytes={into.size}-"
        with self._send("GET", path, headers, None) as response:
            if response.status_code != 206:
                into.size = 0
            try:
                while piece := response.raw.read(_PIECE):
                    into.add(piece)
            except _BROKEN as error:
                raise _LostError(f"the relay stopped in midst of {path}: {error}") from error
        if into.size < len(into.data):
            raise _LostError(f"the relay stopped in midst of {path}")

    def _send(
        self, method: str, path: str, headers: dict[str, str], body: BinaryIO | None
    ) -> requests.Response:
        url = self._peer.url.rstrip("/") + path
        try:
            response = self._opened().request(
                method,
                url,
                data=body,
                headers=headers,
                timeout=(CONNECT_S, SILENCE_S),
                allow_redirects=False,
                stream=True,
            )
        except (ConnectionError, *_BROKEN) as error:
            raise _LostError(f"the relay does not answer: {error}") from error
        if response.status_code < 300:
            return response
        with response:
            raise self._refused(response)

    def _refused(self, response: requests.Response) -> Exception:
        later = response.status_code == _NO_ROOM and not self._tries
        if later or response.status_code in _AGAIN:
            try:
                wait_s = min(60.0, float(response.headers.get("Retry-After", "0")))
            except ValueError:
                wait_s = 0.0
            return _LostError(f"the relay answers HTTP {response.status_code}", wait_s)
        try:
            said = msgspec.json.decode(response.content, type=dict[str, Any])
        except (msgspec.DecodeError, *_BROKEN):
            said = {}
        message = said.get("message") or f"the relay answers HTTP {response.status_code}"
        return TransferError(response.status_code, str(said.get("code", "")), str(message))

    def _opened(self) -> requests.Session:
        with self._lock:
            if self._session is None:
                self._session = new_session(self._peer, self._token)
                self._session.headers["User-Agent"] = f"mep/{__version__}"
            return self._session


class _Fetched:
    """A download on its way."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self.size = 0

    def add(self, piece: bytes) -> None:
        """The next bytes; more than there are to be is damage, which the hash tells."""
        after = min(len(self.data), self.size + len(piece))
        self.data[self.size : after] = piece[: after - self.size]
        self.size = after


def _size_of(fetched: _Fetched) -> int:
    return fetched.size


def _opened(source: bytes | Path) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")
