"""Logins on their way: passwords, device codes, and who is signed in on the page."""

from dataclasses import asdict
from enum import Enum
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update

from mep_cloud.errors import TooManyLogins
from mep_cloud.store.database import Database
from mep_cloud.store.records import DeviceCode, Login, User
from mep_cloud.store.schema import device_codes, passwords, users, web_sessions
from mep_cloud.store.users import as_user

SLOWER_S: Final = 5.0
"""What is added to the interval of a terminal that asks too often (RFC 8628, 3.5)."""
MOST_CODES: Final = 10_000
"""Logins on their way at once: anybody can begin one."""


class Poll(Enum):
    """Why a terminal gets no token (yet); the names are RFC 8628's."""

    PENDING = "authorization_pending"
    SLOW_DOWN = "slow_down"
    DENIED = "access_denied"
    EXPIRED = "expired_token"
    UNKNOWN = "invalid_grant"


class Logins:
    """Repository of passwords, device codes and web sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set_password(self, user_id: str, text: str, at: float) -> None:
        """Replace a person's password; who is signed in on the page is so no more."""

        def operation(connection: Connection) -> None:
            connection.execute(delete(passwords).where(passwords.c.user_id == user_id))
            row = {"user_id": user_id, "hash": text, "changed": at}
            connection.execute(insert(passwords).values(**row))
            connection.execute(delete(web_sessions).where(web_sessions.c.user_id == user_id))

        await self._database.write(operation)

    async def password(self, username: str) -> tuple[User, str] | None:
        """One of the relay's own people with a password, and its hash."""
        query = (
            select(users, passwords.c.hash)
            .join(passwords)
            .where(users.c.username == username, users.c.provider.is_(None))
        )
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else (as_user(row), row.hash)

    async def begin(self, code: DeviceCode) -> None:
        """A terminal waits.

        Raises:
            TooManyLogins: too many do.
        """

        def operation(connection: Connection) -> None:
            connection.execute(delete(device_codes).where(device_codes.c.expires < code.created))
            count = select(func.count()).select_from(device_codes)
            if connection.execute(count).scalar_one() >= MOST_CODES:
                raise TooManyLogins("too many logins are on their way")
            row = {field: getattr(code, field) for field in DeviceCode.__dataclass_fields__}
            connection.execute(insert(device_codes).values(**row, denied=False))

        await self._database.write(operation)

    async def decide(self, user_code: str, login: Login, at: float, *, approve: bool) -> bool:
        """Whoever is signed in answers for a code; False: there is none that waits."""
        waits = (
            (device_codes.c.user_code == user_code)
            & device_codes.c.user_id.is_(None)
            & device_codes.c.denied.is_(False)
            & (device_codes.c.expires > at)
        )
        decision = asdict(login) if approve else {"denied": True}
        change = update(device_codes).where(waits).values(**decision)
        return await self._database.write(lambda c: c.execute(change).rowcount > 0)

    async def poll(self, code: bytes, client_id: str, at: float) -> Login | Poll:
        """A terminal asks. It gets an approved login once."""

        def operation(connection: Connection) -> Login | Poll:
            this = device_codes.c.hash == code, device_codes.c.client_id == client_id
            row: Any = connection.execute(select(device_codes).where(*this)).first()
            if row is None:
                return Poll.UNKNOWN
            answer = _answer(row, at)
            if answer in (Poll.PENDING, Poll.SLOW_DOWN):
                wait = row.interval + (SLOWER_S if answer is Poll.SLOW_DOWN else 0.0)
                change = update(device_codes).where(*this).values(polled=at, interval=wait)
                connection.execute(change)
            else:
                connection.execute(delete(device_codes).where(*this))
            return answer

        return await self._database.write(operation)

    async def sign_in(self, cookie: bytes, login: Login, expires: float, at: float) -> None:
        """Somebody signed in on the page; `cookie` is the SHA-256 of what the browser keeps."""

        def operation(connection: Connection) -> None:
            connection.execute(delete(web_sessions).where(web_sessions.c.expires < at))
            row = {"hash": cookie, "expires": expires, **asdict(login)}
            connection.execute(insert(web_sessions).values(**row))

        await self._database.write(operation)

    async def signed_in(self, cookie: bytes, at: float) -> tuple[User, Login] | None:
        """Who is signed in with that cookie."""
        query = (
            select(users, web_sessions.c.signed_in, web_sessions.c.proved)
            .join(web_sessions, web_sessions.c.user_id == users.c.id)
            .where(web_sessions.c.hash == cookie, web_sessions.c.expires > at)
        )
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else (as_user(row), Login(row.id, row.signed_in, row.proved))

    async def sign_out(self, cookie: bytes) -> None:
        """Forget a session of the page."""
        gone = delete(web_sessions).where(web_sessions.c.hash == cookie)
        await self._database.write(lambda connection: connection.execute(gone))


def _answer(row: Any, at: float) -> Login | Poll:
    if row.expires <= at:
        return Poll.EXPIRED
    if row.denied:
        return Poll.DENIED
    if row.user_id is not None:
        return Login(row.user_id, row.signed_in, row.proved)
    too_soon = row.polled is not None and at - row.polled < row.interval
    return Poll.SLOW_DOWN if too_soon else Poll.PENDING
