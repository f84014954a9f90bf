"""All identity providers beside the relay itself, and whom a token of theirs speaks for."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import jwt

from mep_cloud.auth import Provider, fingerprint
from mep_cloud.errors import HomeError
from mep_cloud.home import Home
from mep_cloud.identity.fetch import check_ca_file
from mep_cloud.identity.globus import GlobusAuth
from mep_cloud.identity.oidc import MALFORMED, Issuer
from mep_cloud.identity.pam import PamAccounts
from mep_cloud.identity.person import Person
from mep_cloud.settings import GLOBUS, Settings
from mep_cloud.store import Store
from mep_cloud.store.records import TokenOwner, User

_LONGEST: Final = 16 * 1024
"""Bytes of a token."""


class Providers:
    """What ``relay.toml`` declares.

    Raises:
        HomeError: something that it names is missing, or contradicts the relay itself.
    """

    def __init__(self, own: Provider, settings: Settings, home: Home, store: Store) -> None:
        bounds = settings.identity
        check_ca_file(bounds)
        self.url = bounds.url.rstrip("/")
        self._store = store
        domains = _domains(own, settings)
        self.issuers = {
            name: Issuer(declared, home.secret(f"oidc.{name}"), bounds)
            for name, declared in settings.oidc.items()
        }
        self.globus: GlobusAuth | None = None
        if settings.globus.client_id:
            self.globus = GlobusAuth(settings.globus, _needed(home, "globus"), bounds, domains)
        self.pam: PamAccounts | None = None
        if settings.pam.service:
            self.pam = PamAccounts(settings.pam, own.id)
            self.pam.check()
        self._pages: dict[str, Issuer | GlobusAuth] = {
            name: one for name, one in self.issuers.items() if one.declared.client_id
        }
        if self.globus is not None and settings.globus.sign_in:
            self._pages[GLOBUS] = self.globus
        every = [
            each for each in (*self.issuers.values(), self.globus, self.pam) if each is not None
        ]
        self.sessions: Mapping[str, float] = {each.id: each.session_s for each in every}
        """Seconds after which people of each provider have to sign in again, by its id."""
        if own.id in self.sessions or len(self.sessions) < len(every):
            raise HomeError("Two identity providers have the same id.")

    def elsewhere(self) -> list[tuple[str, str]]:
        """Name and title of each provider that people can sign in with on the page."""
        return [(name, one.title) for name, one in self._pages.items()]

    def page(self, name: str) -> Issuer | GlobusAuth | None:
        """The provider of that name, if people can sign in with it."""
        return self._pages.get(name)

    def knows(self, user: User) -> bool:
        """Whether who vouched for `user` still may."""
        return user.provider is None or user.provider in self.sessions

    async def close(self) -> None:
        """Close their connections."""
        for each in (*self.issuers.values(), self.globus):
            if each is not None:
                await each.close()

    async def owner(self, token: str) -> TokenOwner | None:
        """Whom a token that this relay did not make speaks for; None: no provider's.

        Raises:
            NotAccepted: it does not hold; the message says why.
            NoAnswer: that cannot be known just now.
            IdentityTaken: its person has somebody else's name or id.
        """
        if len(token) > _LONGEST or not token.isascii() or not token.isprintable():
            return None
        provider = self._of(token)
        if provider is None or await self._store.sessions.is_ended(fingerprint(token)):
            return None
        person, expires = await provider.bearer(token)
        return TokenOwner(await self.user(person), None, expires)

    async def user(self, person: Person) -> User:
        """Somebody whom a provider vouches for, as a user of this relay from now on.

        Raises:
            IdentityTaken: as above.
        """
        user = await self._store.users.know(person)
        return replace(user, signed_in=person.signed_in, proofs=person.proofs)

    def _of(self, token: str) -> Issuer | GlobusAuth | None:
        """The issuer that a token names, not believed yet; what is no JWT is Globus Auth's."""
        if token.count(".") != 2:
            return self.globus
        try:
            claims = jwt.decode(token, options={"verify_signature": False})
        except MALFORMED:
            return None
        issuer = claims.get("iss")
        return next((one for one in self.issuers.values() if one.declared.issuer == issuer), None)


def _domains(own: Provider, settings: Settings) -> frozenset[str]:
    """Those that belong to one provider."""
    named = {domain for one in settings.oidc.values() for domain in one.domains}
    if settings.pam.service:
        named.add(settings.pam.domain)
    if own.domain.lower() in named:
        raise HomeError(
            f"{own.domain} is the domain of this relay's own users, so no other identity "
            "provider may vouch for names in it. Give [oidc.NAME] or [pam] another domain."
        )
    return frozenset(named | {own.domain.lower()})


def _needed(home: Home, name: str) -> str:
    secret = home.secret(name)
    if secret is None:
        raise HomeError(
            f"[{name}] needs the client's secret in {home.directory / name}.secret, mode 0600."
        )
    return secret
