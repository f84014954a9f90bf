"""User endpoints, and the tokens of the grants that may start them."""

from typing import Final

from sqlalchemy import Connection, delete, func, insert, select

from mep_cloud.store.database import Database
from mep_cloud.store.parents import renew
from mep_cloud.store.records import UserEndpointRecord
from mep_cloud.store.schema import endpoints, start_tokens, user_endpoints, users
from mep_cloud.store.users import as_user

UNUSED: Final = 20
"""Tokens of one user endpoint: somebody whom a site refuses may ask for starts again and again."""


class Starts:
    """Repository of starts. Only the SHA-256 of a token is kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def user_endpoint(self, user_endpoint_id: str) -> UserEndpointRecord:
        """What a grant for this user endpoint must say."""
        query = (
            select(
                user_endpoints.c.endpoint_id,
                user_endpoints.c.options,
                user_endpoints.c.runtime,
                endpoints.c.key_version,
                users,
            )
            .select_from(user_endpoints)
            .join(endpoints, user_endpoints.c.endpoint_id == endpoints.c.id)
            .join(users, user_endpoints.c.user_id == users.c.id)
            .where(user_endpoints.c.id == user_endpoint_id)
        )
        row = await self._database.read(lambda connection: connection.execute(query).one())
        return UserEndpointRecord(
            user_endpoint_id,
            row.endpoint_id,
            row.key_version,
            as_user(row),
            row.options,
            row.runtime,
        )

    async def expect(self, user_endpoint_id: str, digest: bytes, nonce: str, at: float) -> None:
        """Let the token of a new grant connect. Older ones stay good until it does.

        The oldest may be that of a process which lives; of those after it, whose starts came to
        nothing, the newest :data:`UNUSED` are kept.
        """
        row = {
            "hash": digest,
            "user_endpoint_id": user_endpoint_id,
            "nonce": nonce,
            "issued": at,
        }
        mine = start_tokens.c.user_endpoint_id == user_endpoint_id
        oldest = select(func.min(start_tokens.c.seq)).where(mine).scalar_subquery()
        newest = select(start_tokens.c.seq).where(mine).order_by(start_tokens.c.seq.desc())
        excess = delete(start_tokens).where(
            mine, start_tokens.c.seq > oldest, start_tokens.c.seq.not_in(newest.limit(UNUSED))
        )

        def operation(connection: Connection) -> None:
            connection.execute(insert(start_tokens).values(**row))
            connection.execute(excess)

        await self._database.write(operation)

    async def bearer(self, digest: bytes) -> str | None:
        """The user endpoint that a token may speak for; None: unknown or revoked."""
        speaker = await self.speaker(digest)
        return None if speaker is None else speaker[1]

    async def speaker(self, digest: bytes) -> tuple[str, str] | None:
        """Endpoint and user endpoint that a token may speak for; None: unknown or revoked."""
        query = (
            select(user_endpoints.c.endpoint_id, user_endpoints.c.id)
            .select_from(start_tokens)
            .join(user_endpoints, start_tokens.c.user_endpoint_id == user_endpoints.c.id)
            .join(endpoints, user_endpoints.c.endpoint_id == endpoints.c.id)
            .where(start_tokens.c.hash == digest, endpoints.c.deleted.is_(None))
        )
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else (row.endpoint_id, row.id)

    async def activate(self, digest: bytes, at: float) -> tuple[str, str] | None:
        """Let a token connect: endpoint id, and the nonce of its grant.

        Tokens of older grants for the same user endpoint are revoked. None: revoked meanwhile.
        """

        def operation(connection: Connection) -> tuple[str, str] | None:
            query = (
                select(start_tokens, user_endpoints.c.endpoint_id)
                .join(user_endpoints, start_tokens.c.user_endpoint_id == user_endpoints.c.id)
                .where(start_tokens.c.hash == digest)
                .with_for_update(read=True, key_share=True, of=user_endpoints)
            )
            row = connection.execute(query).first()
            if row is None:
                return None
            connection.execute(
                delete(start_tokens).where(
                    start_tokens.c.user_endpoint_id == row.user_endpoint_id,
                    start_tokens.c.seq < row.seq,
                )
            )
            renew(connection, (), (row.user_endpoint_id,), at)
            return row.endpoint_id, row.nonce

        return await self._database.write(operation)
