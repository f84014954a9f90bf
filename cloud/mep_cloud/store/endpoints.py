"""Registered endpoints and their managers' link credentials."""

from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, or_, select, update

from mep.wire.rest import RegisterEndpoint
from mep_cloud.store.database import Database
from mep_cloud.store.records import EndpointRecord
from mep_cloud.store.schema import endpoints, tokens

_COLUMNS = (
    endpoints.c.id,
    endpoints.c.owner,
    endpoints.c.registration,
    endpoints.c.key_version,
    endpoints.c.created,
)
_registration = msgspec.json.Decoder(RegisterEndpoint)


class Endpoints:
    """Repository of endpoints. A deleted one is not found any more."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, record: EndpointRecord, link_token: bytes) -> None:
        """Store a new endpoint with the hash of its manager's link credential."""

        def operation(connection: Connection) -> None:
            connection.execute(
                insert(endpoints).values(
                    id=record.id,
                    owner=record.owner,
                    key_version=record.key_version,
                    created=record.created,
                    **_derived(record.registration),
                )
            )
            _replace_link_token(connection, record.id, link_token, record.created)

        await self._database.write(operation)

    async def update(
        self, endpoint_id: str, registration: RegisterEndpoint, link_token: bytes, at: float
    ) -> None:
        """Replace the registration; the older link credential stops working."""

        def operation(connection: Connection) -> None:
            change = update(endpoints).where(endpoints.c.id == endpoint_id)
            connection.execute(change.values(**_derived(registration)))
            _replace_link_token(connection, endpoint_id, link_token, at)

        await self._database.write(operation)

    async def get(self, endpoint_id: str) -> EndpointRecord | None:
        """One endpoint."""
        query = select(*_COLUMNS).where(
            endpoints.c.id == endpoint_id, endpoints.c.deleted.is_(None)
        )
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else _as_endpoint(row)

    async def list(self, owner: str, *, public_too: bool) -> list[EndpointRecord]:
        """Endpoints of `owner`, and public ones if asked for, oldest first."""
        mine = endpoints.c.owner == owner
        which = or_(mine, endpoints.c.public.is_(True)) if public_too else mine
        query = select(*_COLUMNS).where(endpoints.c.deleted.is_(None), which)
        query = query.order_by(endpoints.c.created)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [_as_endpoint(row) for row in rows]

    async def remove(self, endpoint_id: str, at: float) -> None:
        """Delete an endpoint and its manager's credential."""

        def operation(connection: Connection) -> None:
            change = update(endpoints).where(endpoints.c.id == endpoint_id).values(deleted=at)
            connection.execute(change)
            connection.execute(delete(tokens).where(tokens.c.endpoint_id == endpoint_id))

        await self._database.write(operation)


def _derived(registration: RegisterEndpoint) -> dict[str, object]:
    return {
        "multi_user": registration.multi_user,
        "public": registration.public,
        "registration": msgspec.json.encode(registration).decode(),
    }


def _replace_link_token(connection: Connection, endpoint_id: str, digest: bytes, at: float) -> None:
    connection.execute(delete(tokens).where(tokens.c.endpoint_id == endpoint_id))
    connection.execute(
        insert(tokens).values(hash=digest, endpoint_id=endpoint_id, label="link", created=at)
    )


def _as_endpoint(row: Any) -> EndpointRecord:
    return EndpointRecord(
        row.id, row.owner, _registration.decode(row.registration), row.key_version, row.created
    )
