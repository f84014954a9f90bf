"""What a task asks for. Pure data; :mod:`mep.endpoint.interchange.dispatch` decides by it."""

import math
from typing import Final

from msgspec import Struct


class Request(Struct, frozen=True):
    """A task's ``resource_specification``, read."""

    priority: float = math.inf
    """Lower first; a task that names none comes after all that do, as in Parsl."""
    walltime_s: float | None = None
    """What it needs at most, by its own account."""
    num_nodes: int = 1
    ranks_per_node: int = 1
    launcher_options: str = ""
    """Shell words for the launcher."""

    @property
    def num_ranks(self) -> int:
        """Of all nodes together."""
        return self.num_nodes * self.ranks_per_node


NOTHING_ASKED: Final = Request()
