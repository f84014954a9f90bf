"""Registered endpoints and their managers' link credentials."""

from dataclasses import asdict
from typing import Any, Final

import msgspec
from sqlalchemy import (
    Connection,
    bindparam,
    delete,
    exists,
    insert,
    select,
    union,
    update,
)
from sqlalchemy.exc import IntegrityError

from mep.wire.rest import RegisterEndpoint
from mep_cloud.errors import EndpointTaken
from mep_cloud.store.database import Database
from mep_cloud.store.records import EndpointRecord, Presence
from mep_cloud.store.schema import endpoint_presence, endpoint_viewers, endpoints, settings, tokens

_COLUMNS = (
    endpoints.c.id,
    endpoints.c.owner,
    endpoints.c.registration,
    endpoints.c.key_version,
    endpoints.c.created,
    endpoints.c.public,
)
_APPROVED: Final = "approved endpoint id "
"""Prefix of the settings that name a user for an id."""
_registration = msgspec.json.Decoder(RegisterEndpoint)

# Built once: for a short list, building these took most of the time.
_MINE: Final = endpoints.c.owner == bindparam("whose")
_THERE: Final = select(*_COLUMNS).where(endpoints.c.deleted.is_(None)).order_by(endpoints.c.created)
_OWN: Final = _THERE.where(_MINE)
# Each part has its index; of an OR of them, PostgreSQL would make a look at every row.
_SHOWN: Final = _THERE.where(
    endpoints.c.id.in_(
        union(
            select(endpoints.c.id).where(_MINE),
            select(endpoints.c.id).where(endpoints.c.public.is_(True)),
            select(endpoint_viewers.c.endpoint_id).where(
                endpoint_viewers.c.principal.in_(bindparam("principals", expanding=True))
            ),
        )
    )
)


class Endpoints:
    """Repository of endpoints. A deleted one is not found any more."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, record: EndpointRecord, link_token: bytes) -> None:
        """Store a new endpoint with the hash of its manager's link credential.

        Raises:
            EndpointTaken: there is one of that id.
        """

        def operation(connection: Connection) -> None:
            connection.execute(
                insert(endpoints).values(
                    id=record.id,
                    owner=record.owner,
                    key_version=record.key_version,
                    created=record.created,
                    public=False,
                    **_derived(record.registration),
                )
            )
            _replace_viewers(connection, record.id, record.registration)
            _replace_link_token(connection, record.id, link_token, record.created)

        try:
            await self._database.write(operation)
        except IntegrityError as error:
            raise EndpointTaken(record.id) from error

    async def approve(self, endpoint_id: str, user_id: str) -> None:
        """The relay operator's word that this user may register an endpoint of this id."""
        key = _APPROVED + endpoint_id

        def operation(connection: Connection) -> None:
            connection.execute(delete(settings).where(settings.c.key == key))
            connection.execute(insert(settings).values(key=key, value=user_id))

        await self._database.write(operation)

    async def approved_for(self, endpoint_id: str) -> str | None:
        """The user who may register an endpoint of this id, which no endpoint has had yet."""
        unused = ~exists().where(endpoints.c.id == endpoint_id)
        query = select(settings.c.value).where(settings.c.key == _APPROVED + endpoint_id, unused)
        return await self._database.read(lambda connection: connection.execute(query).scalar())

    async def update(
        self, endpoint_id: str, registration: RegisterEndpoint, link_token: bytes, at: float
    ) -> None:
        """Replace the registration; the older link credential stops working."""

        def operation(connection: Connection) -> None:
            change = update(endpoints).where(endpoints.c.id == endpoint_id)
            connection.execute(change.values(**_derived(registration)))
            if not (registration.public and registration.multi_user):
                connection.execute(change.values(public=False))
            _replace_viewers(connection, endpoint_id, registration)
            _replace_link_token(connection, endpoint_id, link_token, at)

        await self._database.write(operation)

    async def get(self, endpoint_id: str) -> EndpointRecord | None:
        """One endpoint."""
        query = select(*_COLUMNS).where(
            endpoints.c.id == endpoint_id, endpoints.c.deleted.is_(None)
        )
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else _as_endpoint(row)

    async def list(
        self, owner: str, *, shown_to: frozenset[str] | None = None
    ) -> list[EndpointRecord]:
        """Endpoints of `owner`; public ones and those that list one of `shown_to` too, if given.

        Oldest first.
        """
        query = _OWN if shown_to is None else _SHOWN
        asked = {"whose": owner, "principals": tuple(shown_to or ())}
        rows = await self._database.read(lambda connection: connection.execute(query, asked).all())
        return [_as_endpoint(row) for row in rows]

    async def heard(self, endpoint_id: str, presence: Presence) -> None:
        """Keep what the endpoint's manager said of itself, unless the endpoint was deleted."""
        row = asdict(presence)
        change = update(endpoint_presence).where(endpoint_presence.c.endpoint_id == endpoint_id)
        # Its link ends after it was deleted. Another process that deletes it now waits.
        there = select(endpoints.c.id).where(
            endpoints.c.id == endpoint_id, endpoints.c.deleted.is_(None)
        )

        def operation(connection: Connection) -> None:
            new = connection.execute(change, row).rowcount == 0
            if new and connection.scalar(there.with_for_update(read=True)):
                connection.execute(insert(endpoint_presence).values(endpoint_id=endpoint_id, **row))

        await self._database.write(operation)

    async def presence(self, endpoint_id: str) -> Presence | None:
        """What the endpoint's manager last said of itself, if it ever connected."""
        query = select(endpoint_presence).where(endpoint_presence.c.endpoint_id == endpoint_id)
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else Presence(*row[1:])

    async def publish(self, endpoint_id: str, *, public: bool) -> None:
        """The relay operator's word on whether everybody finds this endpoint."""
        change = update(endpoints).where(endpoints.c.id == endpoint_id).values(public=public)
        await self._database.write(lambda connection: connection.execute(change))

    async def set_key_version(self, endpoint_id: str, version: int) -> None:
        """The version of the grant key that signs from now on."""
        change = update(endpoints).where(endpoints.c.id == endpoint_id)
        values = change.values(key_version=version)
        await self._database.write(lambda connection: connection.execute(values))

    async def lock(self, endpoint_id: str, until: float) -> None:
        """Let nobody register an endpoint anew for a while."""
        change = update(endpoints).where(endpoints.c.id == endpoint_id).values(locked_until=until)
        await self._database.write(lambda connection: connection.execute(change))

    async def locked_until(self, endpoint_id: str) -> float | None:
        """When it may be registered anew, if it was ever locked."""
        query = select(endpoints.c.locked_until).where(endpoints.c.id == endpoint_id)
        return await self._database.read(lambda connection: connection.scalar(query))

    async def remove(self, endpoint_id: str, at: float) -> None:
        """Delete an endpoint, its manager's credential and what that said. Its id is never free."""

        def operation(connection: Connection) -> None:
            change = update(endpoints).where(endpoints.c.id == endpoint_id).values(deleted=at)
            connection.execute(change)
            for table in (tokens, endpoint_viewers, endpoint_presence):
                connection.execute(delete(table).where(table.c.endpoint_id == endpoint_id))

        await self._database.write(operation)


def _derived(registration: RegisterEndpoint) -> dict[str, object]:
    return {
        "multi_user": registration.multi_user,
        "registration": msgspec.json.encode(registration).decode(),
    }


def _replace_viewers(
    connection: Connection, endpoint_id: str, registration: RegisterEndpoint
) -> None:
    connection.execute(
        delete(endpoint_viewers).where(endpoint_viewers.c.endpoint_id == endpoint_id)
    )
    named = {*(registration.admins or ())}
    if registration.multi_user:
        named.update(registration.visible_to or ())
    if named:
        rows = [{"endpoint_id": endpoint_id, "principal": each} for each in sorted(named)]
        connection.execute(insert(endpoint_viewers), rows)


def _replace_link_token(connection: Connection, endpoint_id: str, digest: bytes, at: float) -> None:
    connection.execute(delete(tokens).where(tokens.c.endpoint_id == endpoint_id))
    connection.execute(
        insert(tokens).values(hash=digest, endpoint_id=endpoint_id, label="link", created=at)
    )


def _as_endpoint(row: Any) -> EndpointRecord:
    return EndpointRecord(
        row.id,
        row.owner,
        _registration.decode(row.registration),
        row.key_version,
        row.created,
        row.public,
    )
