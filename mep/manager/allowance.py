"""How much one account may report: a token bucket for each uid. Pure; the time is an argument."""

from dataclasses import dataclass, field
from typing import Final

PRUNE_ABOVE: Final = 1_000
"""Buckets kept before full ones, which are as good as new ones, are forgotten."""


@dataclass
class _Bucket:
    level: float
    at: float
    dropped: int = 0


@dataclass
class Allowances:
    """For each uid, `rate` units a second and a burst of `burst`."""

    rate: float
    burst: float
    _buckets: dict[int, _Bucket] = field(default_factory=dict)

    def take(self, uid: int, units: float, now: float) -> bool:
        """Whether `uid` may have so many units now; `now` is in seconds, of any steady clock."""
        bucket = self._buckets.get(uid)
        if bucket is None:
            self._prune(now)
            bucket = self._buckets[uid] = _Bucket(self.burst, now)
        bucket.level = min(self.burst, bucket.level + (now - bucket.at) * self.rate)
        bucket.at = now
        if bucket.level < units:
            bucket.dropped += int(units)
            return False
        bucket.level -= units
        return True

    def dropped(self, uid: int) -> int:
        """How many units `uid` has been denied since this was last asked."""
        bucket = self._buckets.get(uid)
        if bucket is None:
            return 0
        count, bucket.dropped = bucket.dropped, 0
        return count

    def _prune(self, now: float) -> None:
        if len(self._buckets) < PRUNE_ABOVE:
            return
        self._buckets = {
            uid: bucket
            for uid, bucket in self._buckets.items()
            if bucket.dropped or bucket.level + (now - bucket.at) * self.rate < self.burst
        }
