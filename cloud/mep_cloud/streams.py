"""Open result streams by the login that opened them, so that its end ends them."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from typing import Final

from mep_cloud.outbox import Outbox

REVOKED: Final = 4401


class Streams:
    """Which outboxes belong to which session (a family's name, or a token's hash).

    `told` hears of what is revoked, so that other processes can :meth:`end` it too.
    """

    def __init__(self, told: Callable[[Collection[bytes | str]], None] = lambda _: None) -> None:
        self._told = told
        self._open: defaultdict[bytes | str, set[Outbox]] = defaultdict(set)
        self._stored: set[bytes | str] = set()

    def opened(self, session: bytes | str, outbox: Outbox, *, stored: bool) -> None:
        """A stream is open; `stored`: the store knows whether the session has ended."""
        self._open[session].add(outbox)
        if stored:
            self._stored.add(session)

    def closed(self, session: bytes | str, outbox: Outbox) -> None:
        """It is not any more."""
        outboxes = self._open[session]
        outboxes.discard(outbox)
        if not outboxes:
            del self._open[session]
            self._stored.discard(session)

    @property
    def stored(self) -> frozenset[bytes | str]:
        """Sessions with open streams whose end the store knows."""
        return frozenset(self._stored)

    def again(self, sessions: Iterable[bytes | str]) -> None:
        """Have these connect again, with a token that is good: they are not in the store."""
        for session in sessions:
            for outbox in list(self._open.get(session, ())):
                outbox.goodbye("The token has expired, or was revoked.", 0.0)

    def revoke(self, sessions: Collection[bytes | str]) -> None:
        """These sessions were ended here: close what they opened."""
        self.end(sessions)
        self._told(sessions)

    def end(self, sessions: Iterable[bytes | str]) -> None:
        """Close what these sessions opened."""
        for session in sessions:
            for outbox in list(self._open.get(session, ())):
                outbox.close(REVOKED, "The token was revoked. Log in again with `mep login`.")
