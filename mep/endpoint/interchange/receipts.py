"""Results that node pools keep until they are safe on disk here. Pure."""

from collections.abc import Iterable


class Receipts:
    """Which pool is to be told that a result has been received, and when."""

    def __init__(self) -> None:
        self._owed: dict[str, str] = {}

    def came(
        self, pool_id: str, task_ids: Iterable[str], reported: Iterable[str]
    ) -> dict[str, list[str]]:
        """A pool has sent results, some of which have been reported to the endpoint.

        Returns:
            the receipts that are due at once: of results that nobody waits for.
        """
        waits = set(reported)
        self._owed.update(dict.fromkeys(waits, pool_id))
        rest = [task_id for task_id in task_ids if task_id not in waits]
        return {pool_id: rest} if rest else {}

    def safe(self, task_ids: Iterable[str]) -> dict[str, list[str]]:
        """The endpoint has these on disk; the receipts that are due, by pool."""
        due: dict[str, list[str]] = {}
        for task_id in task_ids:
            pool_id = self._owed.pop(task_id, None)
            if pool_id is not None:
                due.setdefault(pool_id, []).append(task_id)
        return due
