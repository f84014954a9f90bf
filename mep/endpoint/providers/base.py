"""What the interchange needs of a provider. Its thread alone calls these methods; none waits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Ended:
    """A block whose processes are all gone."""

    block_id: str
    how: str
    """Ends the sentence "The node pool ...": ``exited with status 1``."""
    stderr: str
    """The last that it wrote to stderr."""
    exact: bool
    """Whether nothing of it can still run, so that its pools' ``begun`` counts are final."""
    by_walltime: bool = False
    """The batch system ended it because its time was over."""


@dataclass(frozen=True)
class BlockState:
    """A block as its provider sees it."""

    block_id: str
    state: str
    """``submitting``, ``pending``, ``running``, ``held``, ``unknown``, ``ending`` or ``ended``."""
    since: float
    """Epoch seconds."""
    nodes: int = 1
    job_id: str = ""
    """The batch system's name for it."""
    why: str = ""
    """Of a block that has ended: why, as in :attr:`Ended.how`."""
    reason: str = ""
    """Of a pending block: why the batch system has not started it, in its own words."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "id": self.block_id,
            "state": self.state,
            "since": self.since,
            "nodes": self.nodes,
            "job_id": self.job_id,
            "why": self.why,
            "reason": self.reason,
        }


class Provider(Protocol):
    """Starts blocks and tells when they have ended."""

    @property
    def apart(self) -> bool:
        """Whether a node pool may be gone while its block lives."""

    def adopt(self) -> list[str]:
        """The blocks of an earlier process of this endpoint that still serve; called once, first.

        Those that no longer do are ended, and nothing is said of them.
        """

    def start(self, block_id: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a block: `command` once on each of its nodes.

        Raises:
            OSError: it cannot be started.
        """

    def descriptors(self) -> Sequence[int]:
        """Descriptors that are readable when :meth:`ended` has something to say."""

    def ended(self) -> list[Ended]:
        """The blocks that have ended since the last call."""

    def states(self) -> Sequence[BlockState]:
        """Every block that lives, and the last few that have ended."""

    def lifeline(self) -> int | None:
        """A descriptor that pools inherit and that ends with this process; None: there is none."""

    def look(self, block_id: str) -> None:
        """Something has happened to this block: see soon what has become of it."""

    def stop(self, block_id: str) -> None:
        """Ask a block to end."""

    def kill(self, block_id: str) -> None:
        """End a block without asking."""

    def close(self) -> None:
        """Called when no block is left."""
