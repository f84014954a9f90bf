"""What has begun and has not been told of. Pure: times are arguments.

Most tasks are over before anybody could do something with the news that they have begun, and their
end implies it; so it is told of those alone that last.

Runs on Python 3.8 and newer; standard library only.
"""

import math
from typing import Dict, Generic, List, TypeVar

K = TypeVar("K")


class Untold(Generic[K]):
    """Things that began at some time, the latest last.

    Args:
        after_s: how long they must last to be told of.
    """

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._since: Dict[K, float] = {}

    def begins(self, key: K, now: float) -> None:
        """It begins now, whatever was said of it before."""
        self._since.pop(key, None)
        self._since[key] = now

    def ends(self, key: K) -> None:
        """It is over, if it was going on."""
        self._since.pop(key, None)

    @property
    def due(self) -> float:
        """When :meth:`take` has something; never is infinite."""
        for since in self._since.values():
            return since + self._after_s
        return math.inf

    def take(self, now: float) -> List[K]:
        """What has lasted for long enough; each is told once."""
        told = []
        for key, since in self._since.items():
            if now < since + self._after_s:
                break
            told.append(key)
        for key in told:
            del self._since[key]
        return told
