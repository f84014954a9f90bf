"""How fast one user may ask: a token bucket for each. Pure; the time is an argument."""

import math
from typing import Final

from mep.wire import codes
from mep_cloud.errors import Refusal

_PRUNE_AT: Final = 10_000
"""Buckets, before those that have filled up again are dropped."""


class Rates:
    """Buckets of `requests` tokens that fill up within `period_s` seconds; 0 requests: no bound."""

    def __init__(self, requests: int, period_s: float) -> None:
        self._requests = requests
        self._period_s = period_s
        self._per_s = requests / period_s
        self._prune_at = _PRUNE_AT
        self._buckets: dict[str, tuple[float, float]] = {}
        """User -> tokens, and when there were so many."""

    def take(self, user: str, now: float) -> float:
        """Seconds that `user` has to wait; 0: this request is one of those allowed."""
        if not self._requests:
            return 0.0
        tokens = self._tokens(user, now)
        if tokens < 1.0:
            return (1.0 - tokens) / self._per_s
        self._buckets[user] = (tokens - 1.0, now)
        if len(self._buckets) > self._prune_at:
            self._prune(now)
        return 0.0

    def check(self, user: str, now: float) -> None:
        """As :meth:`take`, for a request.

        Raises:
            Refusal: 429, with the seconds to wait.
        """
        wait = self.take(user, now)
        if wait:
            message = (
                f"This relay answers {self._requests} requests of one user in "
                f"{self._period_s:g} s. Wait {math.ceil(wait)} s, and submit many tasks in one "
                "request."
            )
            raise Refusal(429, codes.TOO_MANY_REQUESTS, message, retry_after_s=wait)

    def _tokens(self, user: str, now: float) -> float:
        full = float(self._requests)
        tokens, at = self._buckets.get(user, (full, now))
        return min(full, tokens + max(0.0, now - at) * self._per_s)

    def _prune(self, now: float) -> None:
        full = float(self._requests)
        self._buckets = {
            user: bucket for user, bucket in self._buckets.items() if self._tokens(user, now) < full
        }
        self._prune_at = max(_PRUNE_AT, 2 * len(self._buckets))
