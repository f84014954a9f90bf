"""People, service clients, tokens, and the relay's few settings."""

from typing import Any

from sqlalchemy import Connection, delete, insert, select

from mep_cloud.errors import StoreError
from mep_cloud.store.database import Database
from mep_cloud.store.records import TokenOwner, User
from mep_cloud.store.schema import settings, tokens, users


class Users:
    """Repository of identities and of the tokens that speak for them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put_setting(self, key: str, value: str) -> None:
        """Store a setting of a new relay."""
        await self._database.write(
            lambda connection: connection.execute(insert(settings).values(key=key, value=value))
        )

    async def settings(self) -> dict[str, str]:
        """All settings."""
        rows = await self._database.read(lambda c: c.execute(select(settings)).all())
        return {row.key: row.value for row in rows}

    async def add(self, user: User, client_secret_hash: bytes | None = None) -> None:
        """Store a new user.

        Raises:
            StoreError: the username is taken.
        """

        def operation(connection: Connection) -> None:
            taken = select(users.c.id).where(users.c.username == user.username)
            if connection.execute(taken).first() is not None:
                raise StoreError(f"There is a user {user.username} already.")
            row = {field: getattr(user, field) for field in User.__dataclass_fields__}
            connection.execute(insert(users).values(**row, client_secret_hash=client_secret_hash))

        await self._database.write(operation)

    async def by_username(self, username: str) -> User | None:
        """The user of that name."""
        query = select(users).where(users.c.username == username)
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else as_user(row)

    async def client(self, client_id: str) -> tuple[User, bytes] | None:
        """A service client and the hash of its secret."""
        query = select(users).where(
            users.c.id == client_id, users.c.client_secret_hash.is_not(None)
        )
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else (as_user(row), row.client_secret_hash)

    async def add_token(
        self,
        digest: bytes,
        *,
        user_id: str,
        label: str,
        created: float,
        expires: float | None,
    ) -> None:
        """Store the hash of a person's token."""
        row = {
            "hash": digest,
            "user_id": user_id,
            "label": label,
            "created": created,
            "expires": expires,
        }
        await self._database.write(lambda c: c.execute(insert(tokens).values(**row)))

    async def token_owner(self, digest: bytes) -> TokenOwner | None:
        """Whom a token speaks for; None when it was never given out or is revoked."""
        query = (
            select(tokens.c.user_id, tokens.c.endpoint_id, tokens.c.expires, users)
            .select_from(tokens.outerjoin(users))
            .where(tokens.c.hash == digest)
        )
        row = await self._database.read(lambda connection: connection.execute(query).first())
        if row is None:
            return None
        user = None if row.user_id is None else as_user(row)
        return TokenOwner(user, row.endpoint_id, row.expires)

    async def revoke(self, digest: bytes) -> bool:
        """Forget a token; False when there is none."""
        operation = delete(tokens).where(tokens.c.hash == digest)
        return await self._database.write(lambda c: c.execute(operation).rowcount > 0)


def as_user(row: Any) -> User:
    """The user in a row that holds the columns of ``users``."""
    return User(
        row.id, row.username, row.name, row.email, row.organization, row.is_admin, row.created
    )
