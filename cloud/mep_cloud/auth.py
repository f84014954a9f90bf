"""Bearer tokens: made here, stored as SHA-256 only, and looked up with a short memory."""

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mep.wire import codes
from mep_cloud.errors import Refusal
from mep_cloud.memory import Memory
from mep_cloud.store import Store
from mep_cloud.store.records import TokenOwner, User

USER_PREFIX: Final = "mep_user_"
LINK_PREFIX: Final = "mep_link_"
SECRET_PREFIX: Final = "mep_secret_"  # noqa: S105 - a prefix
"""Prefixes let secret scanners and people recognise what they found."""

MEMORY_S: Final = 60.0
"""A token that another process revoked may work this much longer."""
_MEMORY_SIZE: Final = 10_000


@dataclass(frozen=True, slots=True)
class Provider:
    """The identity provider that this relay is for its own users."""

    id: str
    domain: str

    def identity(self, user: User) -> dict[str, str]:
        """The identity record of a user, as grants and mappings see it."""
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


def new_token(prefix: str) -> str:
    """A new secret of 256 random bits."""
    return prefix + secrets.token_urlsafe(32)


def digest(token: str) -> bytes:
    """What is stored in a token's place. Tokens are random, so no salt is needed."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


class Gatekeeper:
    """Tells whom a bearer token speaks for."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._owners: Memory[bytes, TokenOwner] = Memory(
            store.users.token_owner, seconds=MEMORY_S, size=_MEMORY_SIZE
        )

    async def user(self, authorization: str | None) -> User:
        """The user of a request.

        Raises:
            Refusal: 401, no token, or not a valid one of a person or a service client.
        """
        owner = await self._owner(bearer(authorization))
        if owner.user is None:
            raise Refusal(
                401,
                codes.USER_UNAUTHENTICATED,
                "This is an endpoint's link credential; it cannot be used for requests. "
                "Use a user's token.",
            )
        return owner.user

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
        self._owners.forget_all()

    async def _owner(self, token: str) -> TokenOwner:
        owner = await self._owners.get(digest(token))
        if owner is None or (owner.expires is not None and owner.expires <= self._clock()):
            raise not_valid()
        return owner


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
