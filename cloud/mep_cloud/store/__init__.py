"""The relay's memory on disk, in SQLite or PostgreSQL: SQLAlchemy Core, no ORM.

:class:`Store` opens the database and holds one repository for each resource. All writes pass
through one thread that commits many callers' operations at once (:mod:`.writer`); reads run in
threads of their own on snapshots. Nothing outside this package sees a connection.
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Self

from sqlalchemy import URL

from mep_cloud.store.actions import Actions
from mep_cloud.store.blobs import Blobs
from mep_cloud.store.containers import Containers
from mep_cloud.store.database import Database
from mep_cloud.store.endpoints import Endpoints
from mep_cloud.store.expiry import Expiry
from mep_cloud.store.functions import Functions
from mep_cloud.store.groups import Groups
from mep_cloud.store.logins import Logins
from mep_cloud.store.policies import Policies
from mep_cloud.store.processes import CHANNEL, Processes
from mep_cloud.store.sessions import Sessions
from mep_cloud.store.starts import Starts
from mep_cloud.store.tasks import Tasks
from mep_cloud.store.users import Users
from mep_cloud.store.webhooks import Webhooks

if TYPE_CHECKING:
    from psycopg import AsyncConnection


class Store:
    """The repositories over one open database. Use it as an asynchronous context manager."""

    def __init__(self, where: Path | URL) -> None:
        self._database = Database(where)
        self.users = Users(self._database)
        self.functions = Functions(self._database)
        self.containers = Containers(self._database)
        self.endpoints = Endpoints(self._database)
        self.groups = Groups(self._database)
        self.logins = Logins(self._database)
        self.policies = Policies(self._database)
        self.processes = Processes(self._database)
        self.sessions = Sessions(self._database)
        self.starts = Starts(self._database)
        self.tasks = Tasks(self._database)
        self.webhooks = Webhooks(self._database)
        self.actions = Actions(self._database)
        self.expiry = Expiry(self._database)
        self.blobs = Blobs(self._database)

    def create(self) -> None:
        """Create the tables of a new database."""
        self._database.create()

    def migrate(self) -> list[str]:
        """Bring the tables of a closed store up to date; the changes that were made."""
        return self._database.migrate()

    def missing(self) -> list[str]:
        """The changes that :meth:`migrate` would make."""
        return self._database.missing()

    async def reachable(self) -> None:
        """Wait a bounded time for a database server that does not answer yet."""
        await self._database.reachable()

    def serve(self, *, shared: bool = False) -> asyncio.Future[str]:
        """Open it as the one process that serves it, or as one of several.

        Returns:
            A future that is done, with the reason, when the database is lost.
        """
        self._database.open(serve="shared" if shared else "alone")
        assert self._database.lost is not None
        return self._database.lost

    async def notifications(self) -> "AsyncConnection":
        """A connection that hears what other relay processes tell."""
        return await self._database.notifications(CHANNEL)

    async def close(self) -> None:
        """Commit what is queued and close the database."""
        await self._database.close()

    async def writable(self) -> None:
        """Return once something was written to the disk.

        Raises:
            StoreError: it was not, or the database failed a moment ago, or is closed.
        """
        await self._database.takes_work()

    async def __aenter__(self) -> Self:
        self._database.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
