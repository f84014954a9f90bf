"""What happens to tasks, as events for the audit log. Pure."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from mep.endpoint.custody import Taken
from mep.wire import events
from mep.wire.events import Event
from mep.wire.tasks import Result, StateChange, Task

Known = Callable[[str], Task | None]
"""The task of an id; None of an earlier process's."""
Places = Mapping[str, tuple[str, str]]
"""Block and batch job of a task."""
NOWHERE: Final[Places] = {}

_ID: Final = 100
_TEXT: Final = 500


def happened(event: str, text: str = "") -> Event:
    """Something that concerns no task."""
    return Event(event, time.time(), text=text[:_TEXT])


def taken(batch: Taken) -> list[Event]:
    """The relay has handed a batch over, and the engine is about to have what is not refused."""
    now = time.time()
    received = [_of(events.RECEIVED, now, task) for task in batch.tasks]
    return received + [_of(events.EXEC_START, now, task) for task in batch.tasks]


class Progress:
    """Of tasks that workers have: each is told of as running before it is told of as ended.

    Quick tasks may end without a word on their beginning; their results say when it was.
    """

    def __init__(self) -> None:
        self._running: set[str] = set()

    def running(self, changes: Sequence[StateChange], known: Known, places: Places) -> list[Event]:
        """Workers have tasks."""
        begun = [(one.task_id, one.at) for one in changes if one.state == "running"]
        self._running.difference_update(one.task_id for one in changes if one.state != "running")
        self._running.update(task_id for task_id, _ in begun)
        return [_running(task_id, at, known, places) for task_id, at in begun]

    def ended(self, results: Iterable[Result], known: Known, places: Places) -> list[Event]:
        """Tasks have ended."""
        now, found = time.time(), []
        for each in results:
            if each.began and each.task_id not in self._running:
                found.append(_running(each.task_id, each.began, known, places))
            self._running.discard(each.task_id)
            task = known(each.task_id)
            found.append(_event(events.EXEC_END, now, each.task_id, task, _outcome(each)))
        return found


def refused(results: Iterable[Result], known: Known) -> list[Event]:
    """The relay has handed tasks over that do not run here."""
    now = time.time()
    return [
        _event(events.REFUSED, now, each.task_id, known(each.task_id), _outcome(each))
        for each in results
    ]


def places_of(pools: Mapping[str, str], detail: Mapping[str, Any]) -> Places:
    """Block and batch job of tasks.

    Args:
        pools: the node pool of each task.
        detail: of an engine's status.
    """
    jobs = {block["id"]: block["job_id"] for block in detail.get("blocks", ())}
    blocks = {task_id: pool.partition(".")[0] for task_id, pool in pools.items()}
    return {task_id: (block, jobs.get(block, "")) for task_id, block in blocks.items()}


def _running(task_id: str, at: float, known: Known, places: Places) -> Event:
    return _event(events.RUNNING, at, task_id, known(task_id), "", *places.get(task_id, ("", "")))


def _outcome(result: Result) -> str:
    return f"{result.outcome} {result.failure.code}" if result.failure else result.outcome


def _of(event: str, at: float, task: Task) -> Event:
    return Event(event, at, task.task_id[:_ID], task.function_id[:_ID])


def _event(
    event: str,
    at: float,
    task_id: str,
    task: Task | None,
    text: str,
    block: str = "",
    job: str = "",
) -> Event:
    function_id = task.function_id if task else ""
    return Event(event, at, task_id[:_ID], function_id[:_ID], block[:_ID], job[:_ID], text[:_TEXT])
