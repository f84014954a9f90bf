"""Globus Auth: whom its access tokens speak for, and signing in with it."""

import logging
import time
from dataclasses import replace
from typing import Any, Final

from mep_cloud.errors import NoAnswer, NotAccepted
from mep_cloud.identity import introspection, pkce
from mep_cloud.identity.fetch import Answered, Fetcher
from mep_cloud.identity.person import Person, provider_id
from mep_cloud.identity.settings import Globus, Identity

log = logging.getLogger(__name__)

_AUTHORIZE: Final = "/v2/oauth2/authorize"
_TOKEN: Final = "/v2/oauth2/token"  # noqa: S105 - a path
_INTROSPECT: Final = "/v2/oauth2/token/introspect"
_INCLUDE: Final = "identity_set_detail,session_info"


class GlobusAuth:
    """The table ``[globus]``; `domains` are those that other providers vouch for."""

    title: Final = "Globus Auth"

    def __init__(
        self,
        declared: Globus,
        secret: str,
        bounds: Identity,
        domains: frozenset[str] = frozenset(),
    ) -> None:
        self.id = provider_id(declared.url)
        self.url = declared.url
        self.session_s = declared.session_s
        self._client_id = declared.client_id
        self._secret = secret
        self._wanted = introspection.Wanted(
            self.id,
            declared.url,
            declared.audience or declared.client_id,
            declared.scope or f"https://auth.globus.org/scopes/{declared.client_id}/all",
            frozenset(declared.identity_providers),
            domains,
        )
        self._fetcher = Fetcher(self.title, bounds)

    async def close(self) -> None:
        """Close its connections."""
        await self._fetcher.close()

    async def bearer(self, token: str) -> tuple[Person, float]:
        """Whom an access token speaks for, and until when (epoch seconds).

        Raises:
            NotAccepted: it does not hold, or is not for this relay.
            NoAnswer: Globus Auth does not answer, or refuses the relay's own credentials.
        """
        try:
            told = await self._asked(_INTROSPECT, {"token": token, "include": _INCLUDE})
        except Answered as error:
            log.warning("Globus Auth refuses this relay's client: %s", error)
            message = f"{self.title} refuses the relay; its operator finds why in the log."
            raise NoAnswer(message) from error
        return introspection.as_person(told, self._wanted, time.time())

    async def address(self, redirect: str, state: str, _nonce: str, verifier: str) -> str:
        """Where a browser goes to sign in: for a token of this relay's scope, no ID token."""
        return pkce.address(
            self._at(_AUTHORIZE),
            verifier,
            client_id=self._client_id,
            redirect_uri=redirect,
            scope=self._wanted.scope,
            state=state,
        )

    async def signed_in(self, code: str, redirect: str, _nonce: str, verifier: str) -> Person:
        """Who came back with `code`, by introspection of the token for it.

        Raises:
            NotAccepted: the code, or the token for it, does not hold.
            NoAnswer: Globus Auth cannot be asked.
        """
        if not code:
            raise NotAccepted(f"{self.title} did not sign you in.")
        try:
            told = await self._asked(_TOKEN, pkce.form(code, verifier, self._client_id, redirect))
        except Answered as error:
            raise NotAccepted(f"{self.title} refused the sign-in ({error}).") from error
        person, _ = await self.bearer(str(told.get("access_token", "")))
        return person if person.signed_in else replace(person, signed_in=time.time())

    async def _asked(self, path: str, form: dict[str, str]) -> dict[str, Any]:
        client = (self._client_id, self._secret)
        return await self._fetcher.json(self._at(path), form=form, credentials=client)

    def _at(self, path: str) -> str:
        return self.url.rstrip("/") + path
