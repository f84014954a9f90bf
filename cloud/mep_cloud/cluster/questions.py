"""Asks the other processes in which state tasks are: only their homes know, and only in memory."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from mep_cloud.cluster import notes
from mep_cloud.cluster.homes import Homes
from mep_cloud.cluster.teller import Teller
from mep_cloud.delivery.machine import Delivery
from mep_cloud.delivery.state import Call

ANSWER_S: Final = 1.0
"""A process that does not answer in this time has other worries."""


@dataclass(slots=True)
class _Question:
    silent: set[int]
    """Processes that have not answered."""
    done: asyncio.Future[None]
    calls: dict[str, Call] = field(default_factory=dict)


class Questions:
    """Those of this process, and its answers to those of others."""

    def __init__(self, delivery: Delivery, homes: Homes, teller: Teller) -> None:
        self._delivery = delivery
        self._homes = homes
        self._teller = teller
        self._numbers = itertools.count(1)
        self._open: dict[int, _Question] = {}

    async def ask(self, task_ids: Sequence[str]) -> dict[str, Call]:
        """What is known of these tasks where they are at home; those that have ended are left out.

        Of a call, the state and the times are what counts.
        """
        if not task_ids or not self._homes.peers:
            return {}
        number = next(self._numbers)
        portions = list(notes.portions(task_ids, notes.KNOWN))
        done = asyncio.get_running_loop().create_future()
        question = _Question(set(self._homes.peers), done)
        self._open[number] = question
        self._teller.asked(number, portions)
        try:
            async with asyncio.timeout(ANSWER_S):
                await done
        except TimeoutError:
            pass
        finally:
            del self._open[number]
        return question.calls

    def asked(self, note: notes.Asked) -> None:
        """Another process asks."""
        found = [self._delivery.task_call(task_id) for task_id in note.task_ids]
        known = [
            notes.Known(call.task_id, call.state, call.dispatched, call.waited, call.running)
            for call in found
            if call is not None
        ]
        self._teller.told(note, known)

    def told(self, note: notes.Told) -> None:
        """Another process answers, perhaps this one."""
        question = self._open.get(note.question)
        if note.asker != self._homes.number or question is None:
            return
        for each in note.known:
            call = Call(each.task_id, "", 0, "", None, 0, state=each.state)
            call.dispatched, call.waited, call.running = each.dispatched, each.waited, each.running
            question.calls[each.task_id] = call
        if note.last:
            question.silent.discard(note.sender)
        if not question.silent and not question.done.done():
            question.done.set_result(None)
