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

    def opened(self, session: bytes | str, outbox: Outbox) -> None:
        """A stream is open."""
        self._open[session].add(outbox)

    def closed(self, session: bytes | str, outbox: Outbox) -> None:
        """It is not any more."""
        outboxes = self._open[session]
        outboxes.discard(outbox)
        if not outboxes:
            del self._open[session]

    def revoke(self, sessions: Collection[bytes | str]) -> None:
        """These sessions were ended here: close what they opened."""
        self.end(sessions)
        self._told(sessions)

    def end(self, sessions: Iterable[bytes | str]) -> None:
        """Close what these sessions opened."""
        for session in sessions:
            for outbox in list(self._open.get(session, ())):
                outbox.close(REVOKED, "The token was revoked. Log in again with `mep login`.")
