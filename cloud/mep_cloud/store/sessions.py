"""Access and refresh tokens: what one login led to is a family, and ends together."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from mep_cloud.ids import new_id
from mep_cloud.store.database import Database
from mep_cloud.store.records import Login, NewTokens
from mep_cloud.store.schema import (
    device_codes,
    ended_tokens,
    passwords,
    tokens,
    users,
    web_sessions,
)

GRACE_S: Final = 60.0
"""A refresh token that was exchanged may be so again for so long: the answer may have been lost,
or two processes of one person came at once. Later, somebody has stolen it."""


class Sessions:
    """Repository of token families."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, login: Login, new: NewTokens, bounds: Mapping[str, float]) -> None:
        """Store the first tokens of a login.

        `bounds` are seconds after signing in at which logins of a provider end, by its id.
        """

        def operation(connection: Connection) -> None:
            end = _end(connection, login, bounds)
            _insert(connection, _until(new, end), login, new_id())

        await self._database.write(operation)

    async def forget(self, expired_before: float) -> None:
        """Drop tokens, codes and sign-ins that are good for nothing any more."""

        def operation(connection: Connection) -> None:
            connection.execute(delete(tokens).where(tokens.c.expires < expired_before))
            # A terminal that waits for a code hears that it has expired.
            long_ago = expired_before - GRACE_S
            for table in (device_codes, web_sessions, ended_tokens):
                connection.execute(delete(table).where(table.c.expires < long_ago))

        await self._database.write(operation)

    async def refresh(
        self, old: bytes, new: NewTokens, bounds: Mapping[str, float]
    ) -> str | frozenset[str]:
        """Exchange a refresh token for new tokens; `bounds` as above.

        Returns:
            The user's id. Else the families that are revoked by it: none where it is no valid one,
            its own where it was exchanged long ago, or the login is over.
        """

        def operation(connection: Connection) -> str | frozenset[str]:
            query = select(tokens).where(tokens.c.hash == old, tokens.c.kind == "refresh")
            row: Any = connection.execute(query).first()
            if row is None or row.expires <= new.at:
                return frozenset()
            login = Login(row.user_id, row.signed_in, row.proved)
            end = _end(connection, login, bounds)
            stolen = row.used is not None and new.at - row.used > GRACE_S
            if stolen or (end is not None and end <= new.at):
                connection.execute(delete(tokens).where(tokens.c.family == row.family))
                return frozenset([row.family])
            used = update(tokens).where(tokens.c.hash == old, tokens.c.used.is_(None))
            connection.execute(used.values(used=new.at))
            _insert(connection, _until(new, end), login, row.family)
            return str(row.user_id)

        return await self._database.write(operation)

    async def revoke(self, token: bytes, *, links: bool = False) -> set[bytes | str] | None:
        """Forget a person's token, and all others of its login; with `links`, a manager's too.

        Returns:
            What identified the sessions that ended: the token's hash and the family's name. None
            where there is no such token.
        """

        def operation(connection: Connection) -> set[bytes | str] | None:
            query = select(tokens.c.family, tokens.c.user_id).where(tokens.c.hash == token)
            row = connection.execute(query).first()
            if row is None or (row.user_id is None and not links):
                return None
            connection.execute(delete(tokens).where(tokens.c.hash == token))
            if row.family is None:
                return {token}
            connection.execute(delete(tokens).where(tokens.c.family == row.family))
            return {token, row.family}

        return await self._database.write(operation)

    async def over(self, sessions: Collection[bytes | str]) -> set[bytes | str]:
        """Which of these logins (by family) and lone tokens (by hash) are not there any more."""
        families = [each for each in sessions if isinstance(each, str)]
        hashes = [each for each in sessions if isinstance(each, bytes)]
        logins = select(tokens.c.family).where(tokens.c.family.in_(families)).distinct()
        lone = select(tokens.c.hash).where(tokens.c.hash.in_(hashes))

        def gone(connection: Connection) -> set[bytes | str]:
            there = {bytes(each) for each in connection.scalars(lone)}
            return {*sessions} - there - {*connection.scalars(logins)}

        return await self._database.read(gone)

    async def revoke_all(self, user_id: str, secret: bytes) -> None:
        """Forget whatever speaks for a person or a service client.

        `secret` is the hash of a client's secret from now on.
        """
        change = update(users).where(users.c.id == user_id, users.c.client_secret_hash.is_not(None))

        def operation(connection: Connection) -> None:
            for table in (tokens, web_sessions, device_codes, passwords):
                connection.execute(delete(table).where(table.c.user_id == user_id))
            connection.execute(change.values(client_secret_hash=secret))

        await self._database.write(operation)

    async def end(self, token: bytes, expires: float, at: float) -> None:
        """Take a token of another issuer no more; it expires by itself at `expires`."""

        def operation(connection: Connection) -> None:
            connection.execute(delete(ended_tokens).where(ended_tokens.c.expires < at - GRACE_S))
            connection.execute(delete(ended_tokens).where(ended_tokens.c.hash == token))
            connection.execute(insert(ended_tokens).values(hash=token, expires=expires))

        await self._database.write(operation)

    async def is_ended(self, token: bytes) -> bool:
        """Whether :meth:`end` was told of it."""
        query = select(ended_tokens.c.hash).where(ended_tokens.c.hash == token)
        return await self._database.read(lambda c: c.execute(query).first() is not None)


def _end(connection: Connection, login: Login, bounds: Mapping[str, float]) -> float | None:
    """When a login is over for good; None: it goes on while it is used."""
    provider = connection.scalar(select(users.c.provider).where(users.c.id == login.user_id))
    # A provider that is configured no more has no say, so what it vouched for is over.
    return None if provider is None else login.signed_in + bounds.get(provider, 0.0)


def _until(new: NewTokens, end: float | None) -> NewTokens:
    if end is None:
        return new
    return replace(
        new, expires=min(new.expires, end), refresh_expires=min(new.refresh_expires, end)
    )


def _insert(connection: Connection, new: NewTokens, login: Login, family: str) -> None:
    common = {
        **asdict(login),
        "label": new.label,
        "created": new.at,
        "family": family,
    }
    access = {"hash": new.access, "kind": "access", "expires": new.expires}
    refresh = {"hash": new.refresh, "kind": "refresh", "expires": new.refresh_expires}
    connection.execute(insert(tokens), [common | access, common | refresh])
