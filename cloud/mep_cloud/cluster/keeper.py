"""Takes endpoints and their tasks in, one thing after the other.

A task is read from the disk only while it is neither known here nor ended; since nobody but this
queue takes in what was read, and each thing is finished before the next is begun, none can be taken
in twice. What concerns a task (a cancel, the end of its endpoint) waits here behind it.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mep_cloud.cluster import seal
from mep_cloud.cluster.homes import Homes
from mep_cloud.cluster.teller import Teller
from mep_cloud.delivery import events
from mep_cloud.hub import Hub
from mep_cloud.store import Store
from mep_cloud.store.processes import Owner

_MOST: Final = 1000
"""Tasks that were announced, or claims, dealt with at once."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Find out whose endpoint this is; ours, if nobody's."""

    endpoint_id: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """Take in every endpoint that has work and is nobody's."""

    done: asyncio.Future[None] | None = None


@dataclass(frozen=True, slots=True)
class Bury:
    """A process seems to be dead."""

    number: int


@dataclass(frozen=True, slots=True)
class Load:
    """These tasks of an endpoint of ours are on disk."""

    task_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Apply:
    """Something happened to tasks that were on disk before."""

    event: events.Event


Command = Claim | Adopt | Bury | Load | Apply


class Keeper:
    """The queue, and the task that works it off."""

    def __init__(self, store: Store, hub: Hub, homes: Homes, teller: Teller, master: bytes) -> None:
        self._store = store
        self._hub = hub
        self._homes = homes
        self._teller = teller
        self._master = master
        self._commands: deque[Command] = deque()
        self._claims: dict[str, asyncio.Future[None]] = {}
        self._filled = asyncio.Event()

    def put(self, command: Command) -> None:
        """Do this after everything that was put before."""
        self._commands.append(command)
        self._filled.set()

    def claim(self, endpoint_id: str) -> asyncio.Future[None]:
        """Find out whose endpoint this is: done once the homes know."""
        claim = self._claims.get(endpoint_id)
        if claim is None:
            claim = asyncio.get_running_loop().create_future()
            self._claims[endpoint_id] = claim
            self.put(Claim(endpoint_id))
        return claim

    async def run(self) -> None:
        """Work for ever.

        Raises:
            StoreError: the database cannot be used: what was to be taken in is not.
        """
        while True:
            while not self._commands:
                self._filled.clear()
                await self._filled.wait()
            await self._perform(self._commands.popleft())

    async def _perform(self, command: Command) -> None:
        match command:
            case Claim(endpoint_id):
                await self._claim([endpoint_id, *self._more_claims()])
            case Adopt(done):
                await self._adopt()
                _finish(done)
            case Bury(number):
                await self._bury(number)
            case Load(task_ids):
                await self._load(self._more(task_ids))
            case Apply(event):
                self._hub.apply(event)

    def _more(self, first: tuple[str, ...]) -> list[str]:
        """With what was announced meanwhile."""
        task_ids = list(first)
        while self._commands and len(task_ids) < _MOST:
            following = self._commands[0]
            if not isinstance(following, Load):
                break
            self._commands.popleft()
            task_ids += following.task_ids
        return task_ids

    def _more_claims(self) -> Iterator[str]:
        """After a restart thousands of managers may be back at once."""
        for _ in range(_MOST):
            following = self._commands[0] if self._commands else None
            if not isinstance(following, Claim):
                return
            self._commands.popleft()
            yield following.endpoint_id

    async def _claim(self, endpoint_ids: list[str]) -> None:
        unknown = [each for each in endpoint_ids if not self._homes.mine(each)]
        if unknown:
            owners = await self._store.processes.claim(unknown, self._homes.number)
            ours = [each for each, owner in owners.items() if owner.number == self._homes.number]
            for endpoint_id, owner in owners.items():
                if owner.number != self._homes.number:
                    self._found(endpoint_id, owner)
            if ours:
                await self._take_in(ours)
        for endpoint_id in endpoint_ids:
            _finish(self._claims.pop(endpoint_id))

    def _found(self, endpoint_id: str, owner: Owner) -> None:
        if seal.genuine(self._master, owner.url, owner.seal):
            self._homes.found(endpoint_id, owner.number, owner.url)

    async def _adopt(self) -> None:
        adopted = await self._store.processes.adopt(self._homes.number)
        if adopted:
            await self._take_in(adopted)

    async def _take_in(self, endpoint_ids: list[str]) -> None:
        # From here on what is announced is queued; what was before is on disk, and read now.
        for endpoint_id in endpoint_ids:
            self._homes.claimed(endpoint_id)
        await self._hub.recover(endpoint_ids)
        for endpoint_id in endpoint_ids:
            self._homes.loaded(endpoint_id)

    async def _load(self, task_ids: list[str]) -> None:
        state = self._hub.delivery.task_state
        unknown = [each for each in task_ids if state(each) is None]
        if unknown:
            await self._hub.take_up_some(unknown)

    async def _bury(self, number: int) -> None:
        if await self._store.processes.bury(number, self._teller.gone(number)):
            self._homes.gone(number)
            await self._adopt()


def _finish(done: asyncio.Future[None] | None) -> None:
    if done is not None and not done.done():
        done.set_result(None)
