"""People, service clients, tokens, and the relay's few settings."""

import json
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, insert, or_, select, union, update
from sqlalchemy.exc import IntegrityError

from mep_cloud.errors import IdentityTaken, StoreError
from mep_cloud.identity.person import Person, group_id, name_key
from mep_cloud.store.database import Database
from mep_cloud.store.records import TokenOwner, User
from mep_cloud.store.schema import group_members, groups, settings, tokens, users

_COLUMNS: Final = tuple(field for field in User.__dataclass_fields__ if field in users.columns)
_TOLD: Final = ("username", "name", "email", "organization", "identity_set", "claimed_groups")
"""Columns that follow the word of somebody's provider."""


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
            _check_free(connection, user.id, user.username)
            row = {field: getattr(user, field) for field in _COLUMNS}
            row |= {"name_key": name_key(user.username), "client_secret_hash": client_secret_hash}
            connection.execute(insert(users).values(**row))

        await self._database.write(operation)

    async def know(self, person: Person) -> User:
        """The user that somebody of another provider is here, as that now tells of them.

        Raises:
            IdentityTaken: their user name or an id of theirs is somebody else's at this relay.
        """
        told = _told(person)
        query = select(users).where(users.c.id == person.id)

        def unchanged(connection: Connection) -> User | None:
            row: Any = connection.execute(query).first()
            if row is None or row.provider != person.provider:
                return None
            if any(getattr(row, column) != told[column] for column in _TOLD):
                return None
            return replace(as_user(row), groups=_groups_of(connection, row))

        def operation(connection: Connection) -> User:
            _check_own(connection, person)
            named = {**told, "name_key": name_key(person.username)}
            change = update(users).where(users.c.id == person.id).values(**named)
            if connection.execute(change).rowcount == 0:
                new = {"id": person.id, "provider": person.provider, "created": time.time()}
                connection.execute(insert(users).values(**new, **named, is_admin=False))
            row = connection.execute(query).one()
            return replace(as_user(row), groups=_groups_of(connection, row))

        known = await self._database.read(unchanged)
        if known is not None:
            return known
        try:
            return await self._database.write(operation)
        except IntegrityError:
            # Another process came to know the same person in between.
            return await self._database.write(operation)

    async def among(self, ids: Collection[str], names: Collection[str]) -> list[User]:
        """The users of these ids, or of these names."""
        query = select(users).where(or_(users.c.id.in_(ids), users.c.username.in_(names)))
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [as_user(row) for row in rows]

    async def every(self) -> list[User]:
        """Everybody, by name."""
        query = select(users).order_by(users.c.username)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [as_user(row) for row in rows]

    async def make_admin(self, user_id: str, *, admin: bool) -> None:
        """Let somebody administer the relay, or no more."""
        change = update(users).where(users.c.id == user_id).values(is_admin=admin)
        await self._database.write(lambda connection: connection.execute(change))

    async def rename(self, user_id: str, username: str) -> None:
        """Free a user name for somebody else.

        Raises:
            StoreError: the new one is taken.
        """

        def operation(connection: Connection) -> None:
            _check_free(connection, user_id, username)
            named = {"username": username, "name_key": name_key(username)}
            connection.execute(update(users).where(users.c.id == user_id).values(**named))

        await self._database.write(operation)

    async def by_username(self, username: str) -> User | None:
        """The user of that name."""
        query = select(users).where(users.c.username == username)
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else as_user(row)

    async def find(self, name: str) -> User | None:
        """The user of that id or name."""
        query = select(users).where(or_(users.c.id == name, users.c.username == name))
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
        signed_in: float | None = None,
    ) -> None:
        """Store the hash of a person's token."""
        row = {
            "hash": digest,
            "user_id": user_id,
            "label": label,
            "created": created,
            "expires": expires,
            "kind": "access",
            "signed_in": signed_in,
        }
        await self._database.write(lambda c: c.execute(insert(tokens).values(**row)))

    async def token_owner(self, digest: bytes) -> TokenOwner | None:
        """Whom a token speaks for; None when it was never given out or is revoked."""
        query = (
            select(
                tokens.c.user_id,
                tokens.c.endpoint_id,
                tokens.c.expires,
                tokens.c.family,
                tokens.c.signed_in,
                tokens.c.proved,
                users,
            )
            .select_from(tokens.outerjoin(users))
            .where(tokens.c.hash == digest, tokens.c.kind == "access")
        )

        def look_up(connection: Connection) -> TokenOwner | None:
            row = connection.execute(query).first()
            if row is None:
                return None
            if row.user_id is None:
                return TokenOwner(None, row.endpoint_id, row.expires)
            user = replace(
                as_user(row),
                groups=_groups_of(connection, row),
                signed_in=row.signed_in,
                proofs=None if row.proved is None else {row.proved: row.signed_in},
            )
            return TokenOwner(user, None, row.expires, row.family)

        return await self._database.read(look_up)


def as_user(row: Any) -> User:
    """The user in a row that holds the columns of ``users``."""
    return User(
        row.id,
        row.username,
        row.name,
        row.email,
        row.organization,
        row.is_admin,
        row.created,
        provider=row.provider,
        identity_set=row.identity_set,
        claimed=frozenset(json.loads(row.claimed_groups or "[]")),
    )


def _groups_of(connection: Connection, row: Any) -> frozenset[str]:
    """Ids of the relay's groups that somebody is in, and of those that their provider told."""
    mine = select(group_members.c.group_id).where(group_members.c.user_id == row.id)
    claimed = json.loads(row.claimed_groups or "[]")
    return frozenset(connection.scalars(mine)) | {group_id(row.provider, name) for name in claimed}


def _told(person: Person) -> dict[str, str]:
    first = person.records[0]
    return {
        "username": person.username,
        "name": first.get("name", ""),
        "email": first.get("email", ""),
        "organization": first.get("organization", ""),
        "identity_set": person.identity_set(),
        "claimed_groups": json.dumps(sorted(person.groups)),
    }


def _namesake(connection: Connection, user_id: str, username: str) -> str | None:
    """The user name of somebody else that a site may take for this one."""
    same = users.c.name_key == name_key(username), users.c.id != user_id
    return connection.scalar(select(users.c.username).where(*same).order_by(users.c.username))


def _check_free(connection: Connection, user_id: str, username: str) -> None:
    """Raises:
    StoreError: the user name is somebody else's, or like theirs.
    """
    taken = _namesake(connection, user_id, username)
    if taken == username:
        raise StoreError(f"There is a user {username} already.")
    if taken is not None:
        raise StoreError(
            f"There is a user {taken} already, and sites may take {username} for the same: names "
            "must differ in more than letter case and forms of letters."
        )


def _check_own(connection: Connection, person: Person) -> None:
    """No provider speaks for the people or the groups of another, or of the relay itself."""
    taken = _namesake(connection, person.id, person.username)
    if taken is None:
        # A linked identity may come by itself, too: then it is a user of the same provider.
        linked = [name_key(each["username"]) for each in person.records[1:]]
        foreign = users.c.provider.is_distinct_from(person.provider)
        named = select(users.c.username).where(users.c.name_key.in_(linked), foreign)
        taken = connection.scalar(named.order_by(users.c.username))
    if taken is not None:
        raise IdentityTaken(
            f"The user name {taken} is another identity's at this relay, and {person.username} "
            "would have it too. The relay's operator frees it with `mep-relay user rename`."
        )
    ids = [each["id"] for each in person.records]
    others = select(users.c.id).where(
        users.c.id.in_(ids), users.c.provider.is_distinct_from(person.provider)
    )
    ids_taken = union(others, select(groups.c.id).where(groups.c.id.in_(ids)))
    if connection.execute(ids_taken).first() is not None:
        raise IdentityTaken(
            f"An identity of {person.username} has the id of somebody else at this relay."
        )
