"""Bearer tokens: made here, stored as SHA-256 only, and looked up with a short memory."""

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from mep.wire import codes
from mep_cloud.errors import HomeError, IdentityTaken, NoAnswer, NotAccepted, Refusal
from mep_cloud.memory import Memory
from mep_cloud.store import Store
from mep_cloud.store.records import TokenOwner, User

USER_PREFIX: Final = "mep_user_"
LINK_PREFIX: Final = "mep_link_"
REFRESH_PREFIX: Final = "mep_refresh_"
DEVICE_PREFIX: Final = "mep_device_"
SECRET_PREFIX: Final = "mep_secret_"  # noqa: S105 - a prefix
"""Prefixes let secret scanners and people recognise what they found."""

_OWN: Final = "mep_"
"""Every token that is made here begins so."""
RETRY_S: Final = 5.0
"""When to ask again what a provider could not answer."""
_UNAVAILABLE: Final = 503
_JWT_DOTS: Final = 2

MEMORY_S: Final = 60.0
"""A token that another process revoked may work this much longer."""
_MEMORY_SIZE: Final = 10_000


@dataclass(frozen=True, slots=True)
class Provider:
    """The identity provider that this relay is for its own users."""

    id: str
    domain: str

    def identity(self, user: User) -> dict[str, str]:
        """The identity record of one of its own users, as grants and mappings see it."""
        record = {
            "id": user.id,
            "sub": user.id,
            "username": user.username,
            "identity_provider": self.id,
            "identity_provider_display_name": f"MEP relay {self.domain}",
            "name": user.name,
            "email": user.email,
            "organization": user.organization,
            "status": "used",
        }
        return {key: value for key, value in record.items() if value}

    def identity_set(self, user: User) -> list[dict[str, str]]:
        """All identities of a user, by the word of whoever vouches for them."""
        if user.identity_set is None:
            return [self.identity(user)]
        return msgspec.json.decode(user.identity_set, type=list[dict[str, str]])


def new_token(prefix: str) -> str:
    """A new secret of 256 random bits."""
    return prefix + secrets.token_urlsafe(32)


def is_own(token: str) -> bool:
    """Whether a token was made here, and is none of another issuer."""
    return token.startswith(_OWN)


def digest(token: str) -> bytes:
    """What is stored in a token's place. Tokens are random, so no salt is needed."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def fingerprint(token: str) -> bytes:
    """What stands for a token in sessions and revocations, its own or another issuer's.

    Of a JSON Web Token it is what was signed: of an elliptic curve's signature anybody can make
    another one that holds, which shall not be another token.
    """
    return digest(token.rpartition(".")[0] if token.count(".") == _JWT_DOTS else token)


class Others(Protocol):
    """The other identity providers: see :class:`mep_cloud.identity.providers.Providers`."""

    def knows(self, user: User) -> bool:
        """Whether who vouched for `user` still may."""

    async def owner(self, token: str) -> TokenOwner | None:
        """Whom a token of theirs speaks for."""


class Gatekeeper:
    """Tells whom a bearer token speaks for."""

    def __init__(
        self,
        store: Store,
        others: Others,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        told: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._told = told
        self._others = others
        self._strangers: Memory[str, TokenOwner] = Memory(
            self._vouched, seconds=MEMORY_S, size=_MEMORY_SIZE, clock=monotonic
        )
        self._owners: Memory[bytes, TokenOwner] = Memory(
            store.users.token_owner, seconds=MEMORY_S, size=_MEMORY_SIZE, clock=monotonic
        )

    async def user(self, authorization: str | None) -> User:
        """The user of a request.

        Raises:
            Refusal: 401, no token, or not a valid one of a person or a service client.
        """
        return (await self.session(authorization))[0]

    async def session(self, authorization: str | None) -> tuple[User, bytes | str]:
        """The user of a request, and the login (or the lone token) that speaks for them.

        Raises:
            Refusal: as :meth:`user`.
        """
        token = bearer(authorization)
        owner = await self._owner(token)
        if owner.user is None:
            raise Refusal(
                401,
                codes.USER_UNAUTHENTICATED,
                "This is an endpoint's link credential; it cannot be used for requests. "
                "Use a user's token.",
            )
        return owner.user, owner.family or fingerprint(token)

    async def link_endpoint(self, authorization: str | None) -> str:
        """The endpoint whose manager opens a link.

        Raises:
            Refusal: 401, no token, or no valid link credential.
        """
        owner = await self._owner(bearer(authorization))
        if owner.endpoint_id is None:
            raise Refusal(
                401,
                codes.USER_UNAUTHENTICATED,
                "This is a user's token; a manager's link needs the credential that "
                "`mep register` stored.",
            )
        return owner.endpoint_id

    def forget_all(self) -> None:
        """Look every token up again: one was revoked or replaced."""
        self.drop_all()
        self._told()

    async def expiry(self, token: str) -> float | None:
        """When a token of another issuer expires; None: it is none that speaks for anybody.

        Raises:
            Refusal: 503, its provider does not answer.
        """
        if is_own(token):
            return None
        try:
            return (await self._owner(token)).expires
        except Refusal as refusal:
            if refusal.status == _UNAVAILABLE:
                raise
            return None

    def drop_all(self) -> None:
        """As :meth:`forget_all`, because another process told so."""
        self._owners.forget_all()
        self._strangers.forget_all()

    async def _owner(self, token: str) -> TokenOwner:
        if is_own(token):
            owner = await self._owners.get(digest(token))
        else:
            owner = await self._strangers.get(token)
        if owner is None or (owner.expires is not None and owner.expires <= self._clock()):
            raise not_valid()
        if owner.user is not None and not self._others.knows(owner.user):
            raise not_valid()
        return owner

    async def _vouched(self, token: str) -> TokenOwner | None:
        """As the providers say it, with refusals fit for whoever holds the token."""
        try:
            return await self._others.owner(token)
        except (NotAccepted, IdentityTaken) as error:
            message = f"{error} Log in again with `mep login`, or get another token."
            raise Refusal(401, codes.USER_UNAUTHENTICATED, message) from error
        except NoAnswer as error:
            code = codes.IDENTITY_PROVIDER_UNAVAILABLE
            raise Refusal(_UNAVAILABLE, code, str(error), retry_after_s=RETRY_S) from error


def bearer(authorization: str | None) -> str:
    """The token in an Authorization header.

    Raises:
        Refusal: 401, there is none.
    """
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Refusal(
            401,
            codes.USER_UNAUTHENTICATED,
            "This request needs a token (`Authorization: Bearer ...`). Log in with `mep login`, "
            "or set MEP_TOKEN.",
        )
    return token


def not_valid() -> Refusal:
    """The refusal of a token that speaks for nobody."""
    return Refusal(
        401,
        codes.USER_UNAUTHENTICATED,
        "The token is not valid: unknown, expired or revoked. Log in again with `mep login`, or "
        "ask the relay's administrator for a new token.",
    )


async def provider_of(store: Store) -> Provider:
    """The identity provider that a relay was set up to be.

    Raises:
        HomeError: its set-up was not finished, or this is another database.
    """
    stored = await store.users.settings()
    try:
        return Provider(stored["provider_id"], stored["domain"])
    except KeyError:
        raise HomeError(
            "The database holds no relay: its set-up was interrupted, or it is not the one that it "
            "was. Restore a backup. If nobody has used this relay yet, remove the data directory "
            "and run `mep-relay init` again."
        ) from None
