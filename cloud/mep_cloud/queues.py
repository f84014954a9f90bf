"""How many unfinished tasks an endpoint may have: those that are being committed count too.

Pure: what has been committed and has not ended is an argument.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from mep.wire import codes
from mep_cloud.errors import Refusal

RETRY_S: Final = 5.0
"""When to ask again whether an endpoint's queue has room."""


class Queues:
    """The queues of all endpoints, as far as this process fills them; `depth` 0: no bound."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._entering: Counter[str] = Counter()

    @contextmanager
    def room(self, endpoint_id: str, unfinished: int, count: int) -> Iterator[None]:
        """Room for `count` tasks more, until they are among the unfinished ones themselves.

        Raises:
            Refusal: 429, there is none just now; 422, there never is for so many.
        """
        if self.depth:
            self._check(endpoint_id, unfinished + self._entering[endpoint_id], count)
        self._entering[endpoint_id] += count
        try:
            yield
        finally:
            self._entering[endpoint_id] -= count
            if not self._entering[endpoint_id]:
                del self._entering[endpoint_id]

    def _check(self, endpoint_id: str, waiting: int, count: int) -> None:
        if count > self.depth:
            message = (
                f"This relay keeps {self.depth} unfinished tasks for one endpoint; a request of "
                f"{count} never fits. Submit fewer tasks in one request."
            )
            raise Refusal(422, codes.QUEUE_FULL, message)
        if waiting + count > self.depth:
            message = (
                f"Endpoint {endpoint_id} has {waiting} unfinished tasks, and this relay keeps "
                f"{self.depth} for one endpoint. Try again when some have ended."
            )
            raise Refusal(429, codes.QUEUE_FULL, message, retry_after_s=RETRY_S)
