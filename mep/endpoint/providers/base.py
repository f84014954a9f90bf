"""What the interchange needs of a provider. Its thread alone calls these methods; none waits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


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


class Provider(Protocol):
    """Starts blocks and tells when they have ended."""

    def start(self, block_id: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a block: `command` once on each of its nodes.

        Raises:
            OSError: it cannot be started.
        """

    def descriptors(self) -> Sequence[int]:
        """Descriptors that are readable when :meth:`ended` has something to say."""

    def ended(self) -> list[Ended]:
        """The blocks that have ended since the last call."""

    def lifeline(self) -> int | None:
        """A descriptor that pools inherit and that ends with this process; None: there is none."""

    def stop(self, block_id: str) -> None:
        """Ask a block to end."""

    def kill(self, block_id: str) -> None:
        """End a block without asking."""

    def close(self) -> None:
        """Called when no block is left."""
