"""HTTP to the relay: one session, keep-alive, time-outs, and what may be tried again.

Repeated are requests that the relay surely did not take (no connection, 408, 429, 503) and, where
repeating is harmless, those whose answer was lost. A request marked `once` whose answer was lost
(a submit) raises :class:`~mep_sdk.errors.SubmissionUncertain` instead of running tasks twice.
"""

import logging
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from mep import __version__
from mep.wire.rest import MSGPACK
from mep_sdk import bearer
from mep_sdk.auth import Credentials
from mep_sdk.bearer import Bearer
from mep_sdk.errors import (
    CredentialsError,
    RelayError,
    RelayUnreachable,
    SubmissionUncertain,
    refusal,
)
from mep_sdk.outage import Outage

if TYPE_CHECKING:
    import requests

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_S: Final = 10.0
FIRST_RETRY_S: Final = 0.1
LAST_RETRY_S: Final = 5.0
PATIENCE_S: Final = 60.0
LONG_PATIENCE_S: Final = 900.0
THROTTLED_S: Final = 900.0
"""How long one request obeys 429 before it gives up."""
_LONGEST_ADVICE_S: Final = 60.0
_STOPPED: Final = 408
"""The request did not come to its end in time, as when a laptop was closed: no word about it."""
_NOT_NOW: Final = (429, 502, 503, 504)
"""Statuses of a relay, or of a proxy before it, that is in trouble."""


class Transport:
    """Requests to one relay as one user. Safe to use from several threads.

    Args:
        credentials: the relay and the token.
        timeout_s: how long the relay may take to answer one request.
        patience_s: how long a relay that cannot be reached is tried again; None:
            :data:`PATIENCE_S`, and :data:`LONG_PATIENCE_S` where nobody waits.
        outage: of another transport to the same relay; a new one by default.
    """

    def __init__(
        self,
        credentials: Credentials,
        timeout_s: float,
        patience_s: float | None,
        outage: Outage | None = None,
    ) -> None:
        self.credentials = credentials
        self.outage = outage or Outage()
        self._bearer = bearer.of(credentials)
        self._timeout_s = timeout_s
        both = (PATIENCE_S, LONG_PATIENCE_S) if patience_s is None else (patience_s, patience_s)
        self._patience_s, self._long_patience_s = both
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._session: requests.Session | None = None

    def call(
        self,
        method: str,
        path: str,
        answer: type[T],
        body: Any = None,
        *,
        params: dict[str, str] | None = None,
        once: bool = False,
        patient: bool = False,
    ) -> T:
        """One request, answered as `answer`; `patient`: nobody waits for it.

        Raises:
            RelayError: refused, or not reachable for that long.
            CredentialsError: the CA certificates cannot be read.
            SubmissionUncertain: `once`, and it is not known whether the relay took it.
        """
        data = None if body is None else msgspec.msgpack.encode(body)
        waits = _waits(self.patience_s(patient=patient))
        throttled = _waits(THROTTLED_S)
        renewed = False
        while True:
            failure: RelayError
            try:
                response = self._send(method, path, data, params, once=once)
            except _NotTakenError as error:
                failure, wait = RelayUnreachable(str(error)), next(waits, None)
                self.outage.goes_on(failure)
            else:
                if response.status_code in _NOT_NOW:
                    self.outage.goes_on(_refusal(response, once=once))
                else:
                    self.outage.is_over()
                if response.status_code < 300:
                    return _decoded(response, answer)
                if response.status_code == 401 and not renewed and self._renews(response):
                    renewed = True
                    continue
                failure = _refusal(response, once=once)
                pauses = throttled if response.status_code == 429 else waits
                wait = retry_wait(response.status_code, _advice(response), pauses, once=once)
            if wait is None:
                raise failure
            log.info("%s; next try in %.1f s", failure, wait)
            if self._closing.wait(wait):
                raise failure

    def patience_s(self, *, patient: bool) -> float:
        """How long a relay that cannot be reached is tried again; `patient`: nobody waits."""
        return self._long_patience_s if patient else self._patience_s

    def close(self) -> None:
        """Stop trying again, and give connections back."""
        self._closing.set()
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def _send(
        self,
        method: str,
        path: str,
        data: bytes | None,
        params: dict[str, str] | None,
        *,
        once: bool,
    ) -> "requests.Response":
        import requests

        session = self._session or self._open()
        try:
            self._bearer.token()  # in the request's own place it could not be told from its failure
        except RelayUnreachable as error:
            raise _NotTakenError(str(error)) from error
        url = self.credentials.relay_url + path
        try:
            return session.request(
                method,
                url,
                data=data,
                params=params,
                timeout=(CONNECT_S, self._timeout_s),
                allow_redirects=False,
            )
        except requests.exceptions.SSLError as error:
            raise RelayUnreachable(
                f"the relay at {self.credentials.relay_url} cannot be verified: {_innermost(error)}"
                "; if its certificate is from a CA of its own, set MEP_CA_FILE"
            ) from error
        except requests.exceptions.RequestException as error:
            reason = _innermost(error)
            if once and not _never_connected(error):
                raise SubmissionUncertain(_UNCERTAIN.format(reason)) from error
            raise _NotTakenError(
                f"the relay at {self.credentials.relay_url} does not answer: {reason}"
            ) from error

    def _renews(self, refused: "requests.Response") -> bool:
        """Whether another token may do: this one has expired earlier than our clock says."""
        sent = refused.request.headers["Authorization"].removeprefix("Bearer ")
        return self._bearer.refused(sent)

    def _open(self) -> "requests.Session":
        with self._lock:
            if self._session is None:
                self._session = _new_session(self.credentials, self._bearer)
            return self._session


_UNCERTAIN = (
    "the connection to the relay broke while tasks were handed over ({}), so it is not known "
    "whether they run; Executor.reload_tasks() returns what the relay has"
)


class _NotTakenError(Exception):
    """The request was not taken, or taking it twice is harmless."""


def _new_session(credentials: Credentials, bearer: Bearer) -> "requests.Session":
    from mep.link import Peer
    from mep.transfer import new_session

    try:
        session = new_session(Peer(credentials.relay_url, credentials.ca_file), bearer.token)
    except OSError as error:
        raise CredentialsError(
            f"the CA certificates in {credentials.ca_file} cannot be used: {error}"
        ) from error
    session.headers["User-Agent"] = f"mep-sdk/{__version__}"
    session.headers["Accept"] = MSGPACK
    session.headers["Content-Type"] = MSGPACK
    return session


def retry_wait(status: int, advice_s: float, waits: Iterator[float], *, once: bool) -> float | None:
    """Seconds until a refused request is sent again; None: it is not.

    408, 429 and 503 say that it was not taken. 502 and 504 come from a proxy that lost sight of a
    relay which may have taken it, so a request that may be taken `once` only is not repeated.
    """
    if status in (_STOPPED, 429, 503) or (status in (502, 504) and not once):
        wait = next(waits, None)
        return None if wait is None else max(wait, advice_s)
    return None


def _waits(patience_s: float) -> Iterator[float]:
    """Growing pauses before further tries, until `patience_s` seconds have been spent on them.

    One try counts as no more than a pause and a connection may take: a process that was stopped for
    an hour has not tried for an hour.
    """
    spent, wait = 0.0, FIRST_RETRY_S
    while spent + wait < patience_s:
        began = time.monotonic()
        yield wait
        spent += min(time.monotonic() - began, wait + CONNECT_S)
        wait = min(2 * wait, LAST_RETRY_S)


def _advice(response: "requests.Response") -> float:
    """The Retry-After header in seconds; 0 where there is none, or it is a date."""
    try:
        seconds = float(response.headers.get("Retry-After", "0"))
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), _LONGEST_ADVICE_S)


def _decoded(response: "requests.Response", answer: type[T]) -> T:
    binary = response.headers.get("Content-Type", "").startswith(MSGPACK)
    try:
        if binary:
            return msgspec.msgpack.decode(response.content, type=answer)
        return msgspec.json.decode(response.content, type=answer)
    except msgspec.DecodeError as error:
        raise RelayError(
            response.status_code, "", f"{response.url} answers what a relay would not: {error}"
        ) from error


def _refusal(response: "requests.Response", *, once: bool) -> RelayError:
    if once and response.status_code in (502, 504):
        return SubmissionUncertain(_UNCERTAIN.format(f"HTTP {response.status_code}"))
    try:
        body = _decoded(response, dict[str, Any])
    except RelayError:
        body = {}
    said = body.get("message")
    message = str(said) if said else f"{response.url} answers HTTP {response.status_code}"
    if response.status_code == _STOPPED:
        return RelayUnreachable(message)
    return refusal(response.status_code, str(body.get("code", "")), message)


def _never_connected(error: BaseException) -> bool:
    """Whether the request cannot have reached the relay."""
    import requests
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ProxyError

    if isinstance(error, (requests.exceptions.ConnectTimeout, requests.exceptions.InvalidURL)):
        return True
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(reason, (NewConnectionError, ConnectTimeoutError, ProxyError))


def _innermost(error: BaseException) -> str:
    """What went wrong at the bottom of a chain of wrappers."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return str(error) or type(error).__name__
