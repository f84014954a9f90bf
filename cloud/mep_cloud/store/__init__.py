"""The relay's memory on disk: SQLAlchemy Core, no ORM.

:class:`Store` opens the database and holds one repository for each resource. All writes pass
through one thread that commits many callers' operations at once (:mod:`.writer`); reads run in
threads of their own on SQLite's snapshots. Nothing outside this package sees a connection.
"""

from pathlib import Path
from typing import Self

from mep_cloud.store.database import Database
from mep_cloud.store.endpoints import Endpoints
from mep_cloud.store.functions import Functions
from mep_cloud.store.starts import Starts
from mep_cloud.store.tasks import Tasks
from mep_cloud.store.users import Users


class Store:
    """The repositories over one open database. Use it as an asynchronous context manager."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path)
        self.users = Users(self._database)
        self.functions = Functions(self._database)
        self.endpoints = Endpoints(self._database)
        self.starts = Starts(self._database)
        self.tasks = Tasks(self._database)

    def create(self) -> None:
        """Create the tables of a new database."""
        self._database.create()

    async def __aenter__(self) -> Self:
        self._database.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._database.close()
