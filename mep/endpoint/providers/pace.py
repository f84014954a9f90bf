"""When to ask the scheduler next. Pure: the time is an argument.

Fast at first, because most refusals and many starts come soon; then less and less often. News from
elsewhere (a node pool says that it ends) make it fast again.
"""

import math
from typing import Final

FIRST_S: Final = 1.0
LONGEST_S: Final = 60.0
"""As gentle as Parsl's own pace for batch systems."""
GROWTH: Final = 1.5


class Pace:
    """The pace of one series of questions, about all jobs of an endpoint at once."""

    def __init__(self) -> None:
        self._interval = FIRST_S
        self._asked = -math.inf
        self.due = math.inf
        """When to ask next."""

    def hasten(self, now: float) -> None:
        """Something has happened, or is about to: ask soon, but never twice within FIRST_S."""
        self._interval = FIRST_S
        self.due = min(self.due, max(now, self._asked) + FIRST_S)

    def asked(self, now: float, jobs: int) -> None:
        """The question has been asked; so many jobs live after the answer."""
        self._asked = now
        self._interval = min(self._interval * GROWTH, LONGEST_S)
        self.due = now + self._interval if jobs else math.inf
