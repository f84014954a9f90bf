"""The token to send now: renewed when it expires, once for all connections of a process."""

import contextlib
import logging
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

log = logging.getLogger(__name__)

MARGIN_S: Final = 60.0
"""A token is renewed so long before it expires: clocks differ, and requests take time."""


class Bearer:
    """Keeps one login's token good. Safe to use from several threads."""

    def __init__(self, credentials: Credentials) -> None:
        self._now = credentials
        self._is_stored = True
        """Where it is a person's login; else what is stored is older than this one."""
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
                self._renew()
            return self._now.token

    def refused(self, token: str) -> bool:
        """The relay takes this token for no good (clocks differ); whether there may be another."""
        with self._lock:
            if self._now.authorizer is not None or self._now.is_lasting:
                return False
            if self._now.token == token:
                self._now = replace(self._now, expires=0.0)
            return True

    def _renew(self) -> None:
        from mep_sdk import oauth

        if self._now.client_id:
            self._now = oauth.client_token(self._now, time.time())
            return
        with _stored_login_locked():
            stored = auth.load()
            if stored is None or stored.login != self._now.login:
                raise CredentialsError("you logged out meanwhile; run `mep login`")
            if _is_good(stored) and stored.token != self._now.token:  # another process was faster
                self._now, self._is_stored = stored, True
                return
            self._now = oauth.refreshed(stored if self._is_stored else self._now, time.time())
            self._is_stored = _stored(self._now)


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


def _stored(credentials: Credentials) -> bool:
    try:
        auth.store(credentials)
    except OSError as error:
        log.warning(
            "the login was renewed, and cannot be stored: %s. It ends with this program; make "
            "room, then run `mep login`",
            error,
        )
        return False
    return True


@contextlib.contextmanager
def _stored_login_locked() -> Iterator[None]:
    """One process at a time exchanges the refresh token, which works once."""
    try:
        import fcntl
    except ImportError:  # not POSIX: the relay bears with a second exchange within a minute
        yield
        return
    try:
        path = auth.path().with_suffix(".lock")
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:  # a home that is full or read-only: likewise, and nothing can be stored
        yield
        return
    try:
        with contextlib.suppress(
            OSError
        ):  # a file system without locks, as Lustre may be: likewise
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
