"""An OIDC issuer: its access tokens, and signing in with authorization code and PKCE."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import jwt

from mep_cloud.errors import NoAnswer, NotAccepted
from mep_cloud.identity import pkce
from mep_cloud.identity.claims import as_person, check_scope
from mep_cloud.identity.fetch import Answered, Fetcher
from mep_cloud.identity.keys import Keys
from mep_cloud.identity.person import Person, provider_id
from mep_cloud.identity.settings import Identity, Oidc, check_url

MALFORMED: Final = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)
"""What decoding a token raises, whatever was put into one."""
LEEWAY_S: Final = 30
"""By which the issuer's clock may differ."""
METADATA_S: Final = 3600.0
_METADATA: Final = "/.well-known/openid-configuration"


class Issuer:
    """One table ``[oidc.NAME]``."""

    def __init__(
        self,
        declared: Oidc,
        secret: str | None,
        bounds: Identity,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.declared = declared
        self.id = declared.id or provider_id(declared.issuer)
        self.url = declared.issuer
        self.title = declared.title or str(urlsplit(declared.issuer).hostname)
        self.session_s = declared.session_s
        self._secret = secret
        self._fetcher = Fetcher(self.title, bounds)
        self._keys = Keys(self._load_keys, clock)
        self._clock = clock
        self._metadata: tuple[float, dict[str, Any]] | None = None

    async def close(self) -> None:
        """Close its connections."""
        await self._keys.close()
        await self._fetcher.close()

    async def bearer(self, token: str) -> tuple[Person, float]:
        """Whom an access token speaks for, and until when (epoch seconds).

        Raises:
            NotAccepted: it does not hold.
            NoAnswer: that cannot be known just now.
        """
        if not self.declared.audience:
            raise NotAccepted(f"Tokens of {self.title} are not taken; sign in with `mep login`.")
        claims = await self._verified(token, self.declared.audience)
        check_scope(self.declared.scope, claims)
        return self._person(claims), float(claims["exp"])

    async def address(self, redirect: str, state: str, nonce: str, verifier: str) -> str:
        """Where a browser goes to sign in.

        Raises:
            NoAnswer: the issuer does not say.
        """
        endpoint = self._endpoint(await self._told(), "authorization_endpoint")
        return pkce.address(
            endpoint,
            verifier,
            client_id=self.declared.client_id,
            redirect_uri=redirect,
            scope=self.declared.request_scopes,
            state=state,
            nonce=nonce,
            max_age=str(int(self.declared.session_s)),
        )

    async def signed_in(self, code: str, redirect: str, nonce: str, verifier: str) -> Person:
        """Who came back with `code`. Where the issuer tells no ``auth_time``, it was just now.

        Raises:
            NotAccepted: the code, or the ID token for it, does not hold.
            NoAnswer: the issuer cannot be asked.
        """
        if not code:
            raise NotAccepted(f"{self.title} did not sign you in.")
        told = await self._exchanged(code, redirect, verifier)
        claims = dict(await self._verified(str(told.get("id_token", "")), self.declared.client_id))
        if claims.get("nonce") != nonce:
            raise NotAccepted("The ID token belongs to another sign-in.")
        if claims.get("azp", self.declared.client_id) != self.declared.client_id:
            raise NotAccepted("The ID token was made for another program.")
        claims = await self._completed(claims, told.get("access_token"))
        claims.setdefault("auth_time", time.time())
        return self._person(claims)

    def _person(self, claims: Mapping[str, Any]) -> Person:
        return as_person(self.declared, self.id, self.title, claims)

    async def _verified(self, token: str, audience: str) -> dict[str, Any]:
        """The claims of a token whose signature, issuer, audience and times hold."""
        try:
            header = jwt.get_unverified_header(token)
        except MALFORMED as error:
            raise NotAccepted("The token is no signed JSON Web Token.") from error
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self.declared.algorithms or "crit" in header:
            raise NotAccepted("The token is signed in a way that is not accepted here.")
        key = await self._keys.get(kid if isinstance(kid, str) else None, algorithm)
        try:
            return jwt.decode(
                token,
                key,
                algorithms=list(self.declared.algorithms),
                audience=audience,
                issuer=self.declared.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except MALFORMED as error:
            raise NotAccepted(f"The token of {self.title} is not valid: {error}.") from error

    async def _exchanged(self, code: str, redirect: str, verifier: str) -> dict[str, Any]:
        form = pkce.form(code, verifier, self.declared.client_id, redirect)
        client = (self.declared.client_id, self._secret) if self._secret else None
        address = self._endpoint(await self._told(), "token_endpoint")
        try:
            return await self._fetcher.json(address, form=form, credentials=client)
        except Answered as error:
            raise NotAccepted(f"{self.title} refused the sign-in ({error}).") from error

    async def _completed(self, claims: dict[str, Any], access: Any) -> dict[str, Any]:
        """With what only the issuer's userinfo tells; what is signed goes before."""
        wanted = {self.declared.username_claim, self.declared.groups_claim} - {""}
        metadata = await self._told()
        if wanted <= claims.keys() or not isinstance(access, str):
            return claims
        if "userinfo_endpoint" not in metadata:
            return claims
        address = self._endpoint(metadata, "userinfo_endpoint")
        try:
            told = await self._fetcher.json(address, bearer=access)
        except Answered as error:
            raise NotAccepted(f"{self.title} does not tell who you are ({error}).") from error
        if told.get("sub") != claims["sub"]:
            raise NotAccepted(f"{self.title} told of somebody else.")
        return told | claims

    async def _told(self) -> dict[str, Any]:
        """What the issuer says of itself.

        Raises:
            NoAnswer: nothing, or that it is another one.
        """
        if self._metadata is not None and self._clock() - self._metadata[0] < METADATA_S:
            return self._metadata[1]
        try:
            address = self.declared.issuer.rstrip("/") + _METADATA
            metadata = await self._fetcher.json(address)
        except Answered as error:
            raise NoAnswer(f"{self.title} has no {_METADATA} ({error}).") from error
        if metadata.get("issuer") != self.declared.issuer:
            raise NoAnswer(f"{self.title} says that it is another issuer.")
        self._metadata = (self._clock(), metadata)
        return metadata

    async def _load_keys(self) -> Sequence[Any]:
        try:
            told = await self._fetcher.json(self._endpoint(await self._told(), "jwks_uri"))
        except Answered as error:
            raise NoAnswer(f"{self.title} does not tell its keys ({error}).") from error
        keys = told.get("keys")
        if not isinstance(keys, list):
            raise NoAnswer(f"{self.title} does not tell its keys.")
        return keys

    def _endpoint(self, metadata: dict[str, Any], name: str) -> str:
        address = str(metadata.get(name, ""))
        try:
            check_url(address, name)
        except ValueError as error:
            raise NoAnswer(f"{self.title}: {error}.") from error
        return address
