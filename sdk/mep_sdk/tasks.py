"""What is asked of many tasks at once, in few requests; what has ended is asked for once."""

from collections.abc import Iterable
from typing import Any, Final

from mep.wire.rest import ASK_AGAIN, BatchStatus, TaskIds, TaskStatus
from mep_sdk.batch import uuid_text
from mep_sdk.connection import Connection
from mep_sdk.errors import TaskNotFound
from mep_sdk.outcome import shown

STATUS_IDS: Final = 1000
"""Tasks asked for in one request."""


class Tasks:
    """One user's tasks at one relay, as far as they were asked for."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ended: dict[str, dict[str, Any]] = {}

    def statuses(self, task_ids: list[str], *, keep: bool) -> dict[str, dict[str, Any]]:
        """See :meth:`mep_sdk.Client.statuses`."""
        names = {str(task_id): uuid_text(task_id, "task id") for task_id in task_ids}
        found = {each: self._ended[each] for each in names.values() if each in self._ended}
        for some in _chunks([each for each in dict.fromkeys(names.values()) if each not in found]):
            while some:
                results = self._ask(some)
                for task_id, status in results.items():
                    found[task_id] = told = shown(self._connection.large.whole(status))
                    known = not isinstance(told.get("exception"), TaskNotFound)
                    if keep and known and not told["pending"]:
                        self._ended[task_id] = told
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


def _chunks(task_ids: list[str]) -> Iterable[list[str]]:
    return (task_ids[at : at + STATUS_IDS] for at in range(0, len(task_ids), STATUS_IDS))
