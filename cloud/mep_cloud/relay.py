"""The relay's parts, joined: what every handler works with."""

import logging
from pathlib import Path
from typing import Final, Self

from mep.wire import codes
from mep_cloud.acknowledgements import Acknowledgements
from mep_cloud.auth import Gatekeeper, Provider
from mep_cloud.errors import HomeError, Refusal
from mep_cloud.home import Home
from mep_cloud.hub import Hub
from mep_cloud.memory import Memory
from mep_cloud.store import Store
from mep_cloud.store.records import EndpointRecord, FunctionRecord

log = logging.getLogger(__name__)

MEMORY_S: Final = 60.0
MEMORY_SIZE: Final = 10_000


class Relay:
    """One relay process over one data directory. Use it as an asynchronous context manager."""

    def __init__(self, directory: Path) -> None:
        self._home = Home(directory)
        self._home.check()
        self.master = self._home.master()
        self.store = Store(self._home.database)
        self.gatekeeper = Gatekeeper(self.store)
        self.acknowledgements = Acknowledgements(self.store.tasks)
        self.functions: Memory[str, FunctionRecord] = Memory(
            self.store.functions.get, seconds=MEMORY_S, size=MEMORY_SIZE
        )
        self.endpoints: Memory[str, EndpointRecord] = Memory(
            self.store.endpoints.get, seconds=MEMORY_S, size=MEMORY_SIZE
        )
        self.group_owners: Memory[str, str] = Memory(
            self.store.tasks.group_owner, seconds=MEMORY_S, size=MEMORY_SIZE
        )
        self.provider: Provider
        self.hub: Hub

    async def __aenter__(self) -> Self:
        await self.store.__aenter__()
        self.provider = await provider_of(self.store)
        self.hub = Hub(self.store, self.master, self.provider)
        await self.hub.recover()
        log.info("%d unfinished tasks taken up", self.hub.delivery.unfinished())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.hub.close()
        await self.acknowledgements.close()
        await self.store.__aexit__()

    async def endpoint(self, endpoint_id: str) -> EndpointRecord:
        """A registered endpoint.

        Raises:
            Refusal: 404.
        """
        record = await self.endpoints.get(endpoint_id)
        if record is None:
            message = f"There is no endpoint {endpoint_id} at this relay. Check the id."
            raise Refusal(404, codes.ENDPOINT_NOT_FOUND, message)
        return record

    async def function(self, function_id: str) -> FunctionRecord:
        """A registered function.

        Raises:
            Refusal: 404.
        """
        record = await self.functions.get(function_id)
        if record is None:
            message = f"There is no function {function_id} at this relay. Register it first."
            raise Refusal(404, codes.FUNCTION_NOT_FOUND, message)
        return record


async def provider_of(store: Store) -> Provider:
    """The identity provider that a relay was set up to be.

    Raises:
        HomeError: its set-up was not finished.
    """
    settings = await store.users.settings()
    try:
        return Provider(settings["provider_id"], settings["domain"])
    except KeyError:
        raise HomeError(
            "The relay's set-up was interrupted. Remove the data directory and run "
            "`mep-relay init` again."
        ) from None
