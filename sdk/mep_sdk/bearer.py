"""The token to send now: renewed when it expires, once for all connections of a process."""

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from mep_sdk import auth
from mep_sdk.auth import Credentials
from mep_sdk.errors import CredentialsError

MARGIN_S: Final = 60.0
"""A token is renewed so long before it expires: clocks differ, and requests take time."""


class Bearer:
    """Keeps one login's token good. Safe to use from several threads."""

    def __init__(self, credentials: Credentials) -> None:
        self._now = credentials
        self._lock = threading.Lock()

    def token(self) -> str:
        """A token that has not expired.

        Raises:
            CredentialsError: the relay gives no new one, since the login is over.
            RelayUnreachable: no answer.
            Exception: what the caller's own authorizer raises.
        """
        if self._now.authorizer is not None:
            return self._now.authorizer()
        with self._lock:
            if not _is_good(self._now):
                self._now = _renewed(self._now)
            return self._now.token

    def refused(self, token: str) -> bool:
        """The relay takes this token for no good (clocks differ); whether there may be another."""
        with self._lock:
            if self._now.authorizer is not None or self._now.is_lasting:
                return False
            if self._now.token == token:
                self._now = replace(self._now, expires=0.0)
            return True


_bearers: "weakref.WeakValueDictionary[tuple[object, ...], Bearer]" = weakref.WeakValueDictionary()
_making = threading.Lock()


def of(credentials: Credentials) -> Bearer:
    """The bearer of this login in this process; a forked child has its own."""
    key = (os.getpid(), credentials.person)
    with _making:
        found = _bearers.get(key)
        if found is None:
            found = _bearers[key] = Bearer(credentials)
        return found


def _is_good(credentials: Credentials) -> bool:
    if credentials.is_lasting:
        return True
    return bool(credentials.token) and credentials.expires - MARGIN_S > time.time()


def _renewed(credentials: Credentials) -> Credentials:
    from mep_sdk import oauth

    if credentials.client_id:
        return oauth.client_token(credentials, time.time())
    with _stored_login_locked():
        stored = auth.load()
        if stored is None or stored.login != credentials.login:
            raise CredentialsError("you logged out meanwhile; run `mep login`")
        if _is_good(stored) and stored.token != credentials.token:  # another process was faster
            return stored
        fresh = oauth.refreshed(stored, time.time())
        auth.store(fresh)
        return fresh


@contextlib.contextmanager
def _stored_login_locked() -> Iterator[None]:
    """One process at a time exchanges the refresh token, which works once."""
    try:
        import fcntl
    except ImportError:  # not POSIX: the relay bears with a second exchange within a minute
        yield
        return
    lock = os.open(auth.path().with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
