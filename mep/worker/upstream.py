"""From a node pool to its interchange, wherever that is.

``connect`` of a pool's settings says so: ``{"ipc": DIRECTORY}`` for a pool beside the interchange,
whose socket lies in that directory; for one on another machine ``addresses``, ``port``,
``probe_timeout`` (seconds), and either ``server_key``, ``public_key`` and ``secret_key`` (CURVE,
Z85) or ``username`` and ``password`` (PLAIN, where the site's administrator allows it).
"""

from typing import Any, Dict, List, Optional, Protocol, Sequence

from mep.wire.frames import Piece


class Unreachable(Exception):
    """There is no interchange; the message says where one was looked for."""


class Upstream(Protocol):
    """The connection. Nothing here waits, but for :meth:`close`."""

    @property
    def descriptors(self) -> Sequence[int]:
        """They tell of changes only: what is at hand already must be asked for."""

    @property
    def ended(self) -> str:
        """Why there will be nothing more; empty while there may be."""

    def pending(self) -> bool:
        """Whether :meth:`receive` may have something."""

    def receive(self) -> Optional[List[Piece]]:
        """The next message; None: there is none now."""

    def send(self, message: Sequence[Piece]) -> None:
        """Send a message, now or when there is a connection."""

    def close(self, linger_s: float) -> None:
        """Let go; what has been sent has so many seconds to arrive."""


def connected(pool_id: str, connect: Dict[str, Any]) -> Upstream:
    """A connection as the settings have it.

    Raises:
        Unreachable: there is nobody.
    """
    if "ipc" in connect:
        from mep.worker.beside import Beside

        try:
            return Beside(pool_id, connect["ipc"])
        except OSError as error:
            raise Unreachable("the user endpoint cannot be reached: %s" % error) from error
    from mep.worker.connect import Across
    from mep.worker.probe import NobodyAnswers, probe

    try:
        return Across(pool_id, probe(connect))
    except NobodyAnswers as error:
        raise Unreachable(str(error)) from error
