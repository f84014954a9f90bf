"""``resource_specification`` where each task takes one worker: what it may say. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from mep.endpoint.interchange.request import NOTHING_ASKED, Request
from mep.wire.tasks import Task

ACCEPTED: Final = (
    "The endpoint's engine gives each task one worker; all that it takes of a "
    "resource_specification is priority, a number (lower runs first, none runs last), and "
    "walltime, the seconds that the task takes at most"
)
REMEDY: Final = "leave the rest out, or use an endpoint with an engine for MPI."


class ResourcesError(ValueError):
    """A task asks for what this engine does not have; the message is a sentence for the user."""


@dataclass
class Sorted:
    """Tasks by what they ask for."""

    good: list[Task] = field(default_factory=list)
    requests: dict[str, Request] = field(default_factory=dict)
    """By task id, of those that ask for something."""
    refused: list[tuple[Task, str]] = field(default_factory=list)
    """And why."""


Reader = Callable[[bytes], Request | None]
"""Reads one task's specification, see :func:`read`."""


def sort_out(tasks: Iterable[Task], reader: Reader) -> Sorted:
    """Read what each asks for."""
    found = Sorted()
    for task in tasks:
        try:
            specification = task.resource_specification
            request = reader(specification) if specification else None
        except ResourcesError as error:
            found.refused.append((task, str(error)))
            continue
        found.good.append(task)
        if request is not None:
            found.requests[task.task_id] = request
    return found


def read(specification: bytes, longest_s: float | None = None) -> Request | None:
    """What a task asks for; None when its specification says nothing.

    Raises:
        ResourcesError: it is no JSON object, or asks for what is not there.
    """
    try:
        asked = msgspec.json.decode(specification) if specification.strip() else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ResourcesError(f"{ACCEPTED}; this one cannot be read.") from None
    if not asked:
        return None
    if not isinstance(asked, dict):
        raise ResourcesError(f"{ACCEPTED}, as a mapping; this one is none.")
    more = ", ".join(sorted(asked.keys() - {"priority", "walltime"}))
    if more:
        raise ResourcesError(f"{ACCEPTED}. This one has {more[:200]}: {REMEDY}")
    return Request(
        priority=number(asked, "priority", NOTHING_ASKED.priority),
        walltime_s=walltime(asked, longest_s),
    )


def number(asked: dict[str, Any], name: str, default: float) -> float:
    """A member that is a number; of every engine.

    Raises:
        ResourcesError: it is none.
    """
    value = asked.get(name)
    if value is None:
        return default
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    except OverflowError:
        value = "one of hundreds of digits"
    raise ResourcesError(
        f"{name} of the resource_specification must be a number, not {str(value)[:60]!r}."
    )


def walltime(asked: dict[str, Any], longest_s: float | None) -> float | None:
    """The member ``walltime``, in seconds; None: it is not given.

    Raises:
        ResourcesError: no block lives as long.
    """
    if asked.get("walltime") is None:
        return None
    walltime_s = number(asked, "walltime", 0.0)
    if walltime_s <= 0:
        raise ResourcesError(
            "walltime of the resource_specification must be more than 0 seconds, not "
            f"{walltime_s:g}."
        )
    if longest_s is not None and walltime_s > longest_s:
        raise ResourcesError(
            f"The task needs {walltime_s:g} seconds (its walltime), and the endpoint's blocks are "
            f"granted {longest_s:g} seconds each, so that none could ever run it; ask for less, or "
            "for blocks with a longer walltime."
        )
    return walltime_s
