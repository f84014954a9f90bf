"""Images that people gave an id."""

from sqlalchemy import insert, select

from mep.wire.rest import Container
from mep_cloud.store.database import Database
from mep_cloud.store.schema import containers


class Containers:
    """Repository of containers. One is never changed: tasks name it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, container: Container, owner: str) -> None:
        """Store a new one."""
        row = {
            "id": container.container_uuid,
            "owner": owner,
            "container_type": container.container_type,
            "location": container.location,
            "name": container.name,
            "description": container.description,
            "created": container.created,
        }
        await self._database.write(lambda c: c.execute(insert(containers).values(**row)))

    async def get(self, container_id: str) -> Container | None:
        """One container."""
        query = select(
            containers.c.id,
            containers.c.container_type,
            containers.c.location,
            containers.c.name,
            containers.c.description,
            containers.c.created,
        ).where(containers.c.id == container_id)
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else Container(*row)
