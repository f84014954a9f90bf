"""Makes the notes of one process and sends them; the only process of a database has none."""

import asyncio
import logging
from collections.abc import Iterable, Sequence

from mep.wire.tasks import StateChange
from mep_cloud.cluster import notes
from mep_cloud.errors import StoreError
from mep_cloud.store.processes import Processes

log = logging.getLogger(__name__)


class Teller:
    """What this process tells the others.

    The methods that return notes leave sending them to the transaction that they are about.
    """

    def __init__(self) -> None:
        self._number = 0
        self._processes: Processes | None = None
        self._sending: set[asyncio.Task[None]] = set()

    def begin(self, number: int, processes: Processes) -> None:
        """There are others, who know this process by `number`."""
        self._number, self._processes = number, processes

    def submitted(self, endpoint_id: str, task_ids: Sequence[str]) -> list[str]:
        """Tasks are about to be on disk."""
        portions = notes.portions(task_ids, notes.IDS)
        return self._notes(notes.Submitted(self._number, endpoint_id, ids) for ids in portions)

    def ended(self, group_ids: Iterable[str]) -> list[str]:
        """Results of these groups are about to be on disk."""
        portions = notes.portions(notes.distinct(group_ids), notes.IDS)
        return self._notes(notes.Ended(self._number, ids) for ids in portions)

    def cancelled(self, task_ids: Sequence[str]) -> None:
        """The wish to cancel is on disk."""
        portions = notes.portions(task_ids, notes.IDS)
        self._tell(notes.Cancelled(self._number, ids) for ids in portions)

    def moved(self, group_id: str, changes: Sequence[StateChange]) -> None:
        """Tasks of this group moved."""
        moves = [notes.Move(each.task_id, each.state, each.at) for each in changes]
        portions = notes.portions(moves, notes.MOVES)
        self._tell(notes.Moved(self._number, group_id, portion) for portion in portions)

    def removed(self, endpoint_id: str) -> None:
        """An endpoint was deleted."""
        self._tell([notes.Removed(self._number, endpoint_id)])

    def forget(self, memory: notes.Memories, key: str | None) -> None:
        """Something that processes remember has changed."""
        self._tell([notes.Forget(self._number, memory, key)])

    def revoked(self, sessions: Iterable[bytes | str]) -> None:
        """Logins, or lone tokens, have ended."""
        for portion in notes.portions(list(sessions), notes.IDS):
            families = tuple(each for each in portion if isinstance(each, str))
            hashes = tuple(each for each in portion if isinstance(each, bytes))
            self._tell([notes.Revoked(self._number, families, hashes)])

    def asked(self, question: int, portions: Sequence[tuple[str, ...]]) -> None:
        """What do you know of these tasks?"""
        last = len(portions) - 1
        self._tell(
            notes.Asked(self._number, question, ids, last=number == last)
            for number, ids in enumerate(portions)
        )

    def told(self, asked: notes.Asked, known: Sequence[notes.Known]) -> None:
        """That is known of them."""
        answer = notes.Told(self._number, asked.sender, asked.question, tuple(known), asked.last)
        self._tell([answer])

    def gone(self, number: int) -> list[str]:
        """A process is about to be forgotten."""
        return self._notes([notes.Gone(self._number, number)])

    async def close(self) -> None:
        """Finish what is being sent."""
        if self._sending:
            await asyncio.wait(self._sending)

    def _notes(self, made: Iterable[notes.AnyNote]) -> list[str]:
        return [] if self._processes is None else [notes.encode(note) for note in made]

    def _tell(self, made: Iterable[notes.AnyNote]) -> None:
        if self._processes is None:
            return
        task = asyncio.get_running_loop().create_task(self._send(self._processes, list(made)))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, processes: Processes, made: list[notes.AnyNote]) -> None:
        try:
            await processes.tell(self._notes(made))
        except StoreError as error:
            log.info("%d notes were not sent: %s", len(made), error)
