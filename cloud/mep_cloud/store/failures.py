"""When the database itself is in trouble: told apart from what its callers do wrong, and logged."""

import logging
import time
from collections.abc import Callable
from typing import Final

from sqlalchemy.exc import DBAPIError, OperationalError

from mep_cloud.errors import StoreFails

log = logging.getLogger(__name__)

RECENT_S: Final = 10.0
"""Seconds for which a failure counts as recent, and in which one of many is logged."""
_SQLITE: Final = frozenset(
    # https://sqlite.org/rescode.html: PERM, BUSY, NOMEM, READONLY, IOERR, CORRUPT, FULL, CANTOPEN,
    # NOTADB
    (3, 5, 7, 8, 10, 11, 13, 14, 26)
)
_POSTGRESQL: Final = (
    # Of https://www.postgresql.org/docs/current/errcodes-appendix.html: connection, read-only
    # transaction, rollback, resources, operator's intervention, system, damage.
    "08",
    "25006",
    "40",
    "53",
    "57",
    "58",
    "XX",
)


class Failures:
    """The failures of one database, from all threads.

    Args:
        name: of the database, for messages.
        clock: seconds.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._before = self._last = self._logged = clock() - RECENT_S
        self.logs = False
        """Whether they go to the log, too: of a relay that serves."""

    @property
    def recent(self) -> bool:
        """Whether there were two or more a moment ago: one alone, any database may have."""
        return self._clock() < self._before + RECENT_S

    def failure(self, error: Exception) -> StoreFails | None:
        """What callers get for `error` if it is a failure of the database, and not theirs."""
        if not (isinstance(error, DBAPIError) and _is_failure(error)):
            return None
        failure = StoreFails(f"The database {self._name} cannot be used: {reason(error)}")
        self._before, self._last = self._last, self._clock()
        if self.logs and self._last >= self._logged + RECENT_S:
            self._logged = self._last
            log.error("%s. Requests that need it are answered 503 meanwhile.", failure)
        return failure


def reason(error: Exception) -> str:
    """What the driver says, in one line."""
    told = str(error.orig if isinstance(error, DBAPIError) else error)
    return "; ".join(line.strip() for line in told.splitlines() if line.strip())


def _is_failure(error: DBAPIError) -> bool:
    if error.connection_invalidated:
        return True
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in _SQLITE
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return str(state).startswith(_POSTGRESQL)
    # Neither has said anything: no connection.
    return isinstance(error, OperationalError)
