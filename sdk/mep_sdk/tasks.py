"""What is asked of many tasks at once, in few requests; what has ended is asked for once."""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final

from mep.wire.rest import ASK_AGAIN, BatchStatus, TaskIds, TaskStatus
from mep_sdk.batch import uuid_text
from mep_sdk.connection import Connection
from mep_sdk.errors import TaskNotFound
from mep_sdk.outcome import shown

STATUS_IDS: Final = 1000
"""Tasks asked for in one request."""
KEPT_BYTES: Final = 64 * 1024 * 1024
"""Of serialized results that are told again without the network; the newest are kept."""
_TASK_BYTES: Final = 1000
"""What a task takes besides, about."""


class Ended:
    """How tasks ended that were asked for lately. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: OrderedDict[str, tuple[dict[str, Any], int]] = OrderedDict()
        self._bytes = 0

    def get(self, task_id: str) -> dict[str, Any] | None:
        """What is known of this task."""
        kept = self._told.get(task_id)
        return None if kept is None else kept[0]

    def keep(self, task_id: str, told: dict[str, Any], size: int) -> None:
        """Remember it, and forget the oldest where that is too much; `size` is the result's."""
        with self._lock:
            if task_id in self._told:
                return
            self._told[task_id] = told, size + _TASK_BYTES
            self._bytes += size + _TASK_BYTES
            while self._bytes > KEPT_BYTES:
                _, (_, freed) = self._told.popitem(last=False)
                self._bytes -= freed


class Tasks:
    """One user's tasks at one relay, as far as they were asked for."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ended = Ended()

    def statuses(self, task_ids: list[str], *, keep: bool) -> dict[str, dict[str, Any]]:
        """See :meth:`mep_sdk.Client.statuses`."""
        names = {str(task_id): uuid_text(task_id, "task id") for task_id in task_ids}
        kept = {each: self._ended.get(each) for each in names.values()}
        found = {each: told for each, told in kept.items() if told is not None}
        for some in _chunks([each for each in dict.fromkeys(names.values()) if each not in found]):
            while some:
                results = self._ask(some)
                for task_id, status in results.items():
                    whole = self._connection.large.whole(status)
                    found[task_id] = told = shown(whole)
                    known = not isinstance(told.get("exception"), TaskNotFound)
                    if keep and known and not told["pending"]:
                        self._ended.keep(task_id, told, _size(whole))
                late = [each for each in some if (results[each].details or {}).get(ASK_AGAIN)]
                # An answer has room for one at least.
                some = late if len(late) < len(some) else []
        return {name: dict(found[task_id]) for name, task_id in names.items()}

    def _ask(self, task_ids: list[str]) -> dict[str, TaskStatus[bytes]]:
        body = TaskIds(task_ids)
        answer = self._connection.http.call("POST", "/v2/batch_status", BatchStatus[bytes], body)
        return answer.results

    def cancel(self, task_ids: Iterable[str]) -> dict[str, str]:
        """See :meth:`mep_sdk.Client.cancel`."""
        answers: dict[str, str] = {}
        for some in _chunks([uuid_text(each, "task id") for each in task_ids]):
            answer = self._connection.http.call(
                "POST", "/v3/tasks/cancel", dict[str, Any], TaskIds(some)
            )
            answers.update(answer["tasks"])
        return answers


def _size(status: TaskStatus[bytes]) -> int:
    return sum(len(each or b"") for each in (status.result, status.exception_payload))


def _chunks(task_ids: list[str]) -> Iterable[list[str]]:
    return (task_ids[at : at + STATUS_IDS] for at in range(0, len(task_ids), STATUS_IDS))
