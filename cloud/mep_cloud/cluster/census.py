"""Who lives, who is dead, and who must be fenced off. No I/O.

A process is dead once the lock of its number is free: the server freed it when the connection
ended, by which alone the process wrote. One that holds its lock and shows no life (stopped, hung,
or cut off from the others' sight) is fenced: the server ends that connection.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Row:
    """What the database says of one process."""

    number: int
    url: str
    seal: bytes
    """Shows that a process with the master credential wrote the URL."""
    age_s: float
    """Since it last showed life, by the server's clock."""
    holds: bool
    """Whether it can write."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What is to be done."""

    alive: tuple[Row, ...] = ()
    """The others that can write."""
    dead: tuple[int, ...] = ()
    to_fence: tuple[int, ...] = ()


@dataclass(slots=True)
class Census:
    """Looks at the others, again and again.

    A process is fenced only if two looks in a row found it late: after a pause of the whole machine
    all are late at first, this one not less than the others.
    """

    number: int
    """Of this process."""
    lease_s: float
    _late: set[int] = field(default_factory=set)

    def look(self, rows: Iterable[Row]) -> Findings:
        """What the rows of all processes mean."""
        others = [row for row in rows if row.number != self.number]
        late = {row.number for row in others if row.holds and row.age_s > self.lease_s}
        to_fence = late & self._late
        self._late = late
        return Findings(
            tuple(row for row in others if row.holds),
            tuple(row.number for row in others if not row.holds),
            tuple(sorted(to_fence)),
        )
