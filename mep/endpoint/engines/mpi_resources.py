"""``resource_specification`` where tasks take whole nodes: keys as in Parsl's MPIExecutor. Pure."""

import re
import shlex
from typing import Any, Final

import msgspec

from mep.endpoint.engines.resources import ResourcesError, number, walltime
from mep.endpoint.interchange.request import NOTHING_ASKED, Request
from mep.wire.settings import nearest

_COUNTS: Final = ("num_nodes", "ranks_per_node", "num_ranks")
_KEYS: Final = (*_COUNTS, "launcher_options", "priority", "walltime")
_WORD: Final = re.compile(r"[A-Za-z0-9_./:=,@%+~^-]+")
_MOST: Final = 1_000_000


def read(specification: bytes, nodes: int, longest_s: float | None = None) -> Request | None:
    """What a task asks for; None when its specification says nothing.

    Args:
        specification: JSON object as the user gave it.
        nodes: of a block.
        longest_s: no block lives longer; None: not known.

    Raises:
        ResourcesError: it cannot be understood, contradicts itself, or asks for more than a block.
    """
    asked = _decoded(specification)
    for key in asked:
        if key not in _KEYS:
            hint = nearest(str(key)[:60], list(_KEYS))
            raise ResourcesError(f"The resource_specification has an unknown key {key!r}{hint}")
    if not asked:
        return None
    counts = {name: _count(asked, name) for name in _COUNTS}
    num_nodes, ranks_per_node = _consistent(**counts)
    if num_nodes > nodes:
        raise ResourcesError(
            f"The task asks for {num_nodes} nodes, and a block of this endpoint has {nodes}: it "
            f"could never run. Ask for at most {nodes}, or for larger blocks (nodes_per_block)."
        )
    return Request(
        priority=number(asked, "priority", NOTHING_ASKED.priority),
        walltime_s=walltime(asked, longest_s),
        num_nodes=num_nodes,
        ranks_per_node=ranks_per_node,
        launcher_options=_options(asked.get("launcher_options")),
    )


def _decoded(specification: bytes) -> dict[str, Any]:
    try:
        asked = msgspec.json.decode(specification) if specification.strip() else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ResourcesError("The resource_specification cannot be read.") from None
    if asked is not None and not isinstance(asked, dict):
        raise ResourcesError(
            'The resource_specification must be a mapping, as in {"num_nodes": 2, '
            '"ranks_per_node": 4}.'
        )
    return asked or {}


def _count(asked: dict[str, Any], name: str) -> int | None:
    value = asked.get(name)
    if value is None:
        return None
    if isinstance(value, str) and value.isdecimal():  # Parsl fills in text
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
        raise ResourcesError(
            f"{name} of the resource_specification must be a whole number of at least 1, not "
            f"{str(value)[:60]!r}."
        )
    return value


def _consistent(
    num_nodes: int | None, ranks_per_node: int | None, num_ranks: int | None
) -> tuple[int, int]:
    """Nodes and ranks on each; the one of the three that is missing follows from the others."""
    if num_ranks is None:
        return num_nodes or 1, ranks_per_node or 1
    if num_nodes is None and ranks_per_node is not None:
        num_nodes = -(-num_ranks // ranks_per_node)
    num_nodes = num_nodes or 1
    if ranks_per_node is None:
        ranks_per_node = -(-num_ranks // num_nodes)
    if num_nodes * ranks_per_node != num_ranks:
        raise ResourcesError(
            f"The resource_specification contradicts itself: num_ranks is {num_ranks}, which is "
            f"not {num_nodes} nodes times {ranks_per_node} ranks on each "
            f"({num_nodes * ranks_per_node})."
        )
    return num_nodes, ranks_per_node


def _options(given: Any) -> str:
    if given is None:
        return ""
    if not isinstance(given, str):
        raise ResourcesError("launcher_options of the resource_specification must be text.")
    try:
        words = shlex.split(given)
    except ValueError as error:
        raise ResourcesError(f"launcher_options cannot be split into words: {error}.") from None
    for word in words:
        if not _WORD.fullmatch(word):
            raise ResourcesError(
                f"launcher_options has {word[:60]!r}, whose blanks, quotes or special characters "
                "would not outlive the shell that reads $PARSL_MPI_PREFIX; write that option into "
                "the command itself."
            )
    return given
