"""The jobs of an endpoint: what each is believed to be, and when one counts as ended. Pure.

A batch system that fails to answer has said nothing about any job. One that answers and does not
list a job may be behind: a job counts as ended only when several answers in a row have left it out.
So does a pending one when its reason to wait has been seen more than once and never passes.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mep.endpoint.providers.base import BlockState
from mep.endpoint.providers.words import never_starts

MISSES: Final = 2
"""Answers in a row that leave out a job which was listed before: then it has ended."""
NEVER_LISTED_S: Final = 60.0
"""So long may a job that was just submitted be missing: accounting databases lag behind."""
YOUNG: Final = 1
"""After so many answers that have a job pending it is worth another question why."""
SIGHTINGS: Final = 2
"""So often a job is seen with a reason that never passes before it is given up."""
REMEMBERED: Final = 8
"""Ended blocks that are kept for ``mep status``."""
GONE: Final = "it is no longer in the queue"


@dataclass(frozen=True)
class Seen:
    """What the scheduler has answered about one job."""

    state: str
    """``pending``, ``running``, ``held``, ``ended``, ``unknown`` or ``missing``."""
    word: str = ""
    """In the scheduler's own words."""
    marked: bool = False
    """The job's script has left word of its end."""


@dataclass
class Job:
    """One block."""

    block_id: str
    state: str
    since: float
    """Epoch seconds of the latest change of state."""
    submitted: float
    """Epoch seconds."""
    job_id: str = ""
    listed: bool = False
    missed: int = 0
    waited: int = 0
    """Answers in a row that had it pending."""
    reason: str = ""
    """Why it is pending, as far as that is known."""
    stuck: int = 0
    """How often in a row that was a reason that never passes."""


class Jobs:
    """All blocks of one provider.

    Args:
        nodes: of each block.
    """

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes
        self._jobs: dict[str, Job] = {}
        self._past: deque[BlockState] = deque(maxlen=REMEMBERED)

    def __contains__(self, block_id: str) -> bool:
        return block_id in self._jobs

    def __len__(self) -> int:
        return len(self._jobs)

    def job_id(self, block_id: str) -> str:
        """The batch system's name of a block; empty: it has none yet."""
        job = self._jobs.get(block_id)
        return job.job_id if job else ""

    def submitting(self, block_id: str, now: float) -> None:
        """A block is on its way to the scheduler."""
        self._jobs[block_id] = Job(block_id, "submitting", now, now)

    def submitted(self, block_id: str, job_id: str, now: float) -> None:
        """The scheduler has taken it."""
        job = self._jobs[block_id]
        job.job_id, job.submitted = job_id, now
        self._move(job, "pending", now)

    def found(self, block_id: str, job_id: str, submitted: float, now: float) -> None:
        """An earlier process submitted it."""
        self._jobs[block_id] = Job(block_id, "unknown", now, submitted, job_id)

    def ending(self, block_id: str, now: float) -> None:
        """It has been asked to end."""
        if block_id in self._jobs:
            self._move(self._jobs[block_id], "ending", now)

    def to_ask(self) -> list[str]:
        """The job ids that a query is about."""
        return [job.job_id for job in self._jobs.values() if job.job_id]

    def unanswered(self, now: float) -> None:
        """A query failed: nothing is known now, and nothing has ended."""
        for job in self._jobs.values():
            if job.state not in ("submitting", "ending"):
                self._move(job, "unknown", now)

    def answered(self, seen: Mapping[str, Seen], now: float) -> list[tuple[str, str]]:
        """A query was answered.

        Returns:
            the blocks that have ended, with the scheduler's word for it.
        """
        ended = []
        for job in list(self._jobs.values()):
            if job.job_id not in seen:
                continue
            word = self._judge(job, seen[job.job_id], now)
            if word is not None:
                ended.append((job.block_id, word))
        return ended

    def waiting(self) -> list[str]:
        """The job ids that have been pending for more than one answer."""
        return [
            job.job_id
            for job in self._jobs.values()
            if job.state == "pending" and job.waited > YOUNG
        ]

    def explained(self, reasons: Mapping[str, str]) -> list[tuple[str, str]]:
        """The scheduler has said why jobs are pending; of those left out nothing is known.

        Returns:
            the blocks that will not start, with the reason.
        """
        stuck = []
        for job in self._jobs.values():
            if job.job_id not in reasons:
                continue
            job.reason = reasons[job.job_id]
            job.stuck = job.stuck + 1 if never_starts(job.reason) else 0
            if job.stuck >= SIGHTINGS:
                stuck.append((job.block_id, job.reason))
        return stuck

    def ended(self, block_id: str, why: str, now: float) -> None:
        """It is no more."""
        job = self._jobs.pop(block_id, None)
        if job is not None:
            self._past.append(BlockState(block_id, "ended", now, self._nodes, job.job_id, why))

    def forget(self, block_id: str) -> None:
        """It was none of ours to tell of."""
        self._jobs.pop(block_id, None)

    def states(self) -> Iterable[BlockState]:
        """Those that live, then the last few that do not."""
        for job in self._jobs.values():
            reason = job.reason if job.state == "pending" else ""
            yield BlockState(
                job.block_id, job.state, job.since, self._nodes, job.job_id, reason=reason
            )
        yield from self._past

    def _judge(self, job: Job, seen: Seen, now: float) -> str | None:
        if seen.state == "ended":
            return seen.word
        if seen.state == "missing":
            return self._miss(job, seen, now)
        job.listed, job.missed = True, 0
        if seen.state == "pending":
            job.waited += 1
        else:
            job.waited, job.reason, job.stuck = 0, "", 0
        if job.state != "ending":
            self._move(job, seen.state, now)
        return None

    @staticmethod
    def _miss(job: Job, seen: Seen, now: float) -> str | None:
        if seen.marked:
            return seen.word or GONE
        if not job.listed and now - job.submitted < NEVER_LISTED_S:
            return None
        job.missed += 1
        return GONE if job.missed >= MISSES else None

    @staticmethod
    def _move(job: Job, state: str, now: float) -> None:
        if job.state != state:
            job.state, job.since = state, now
