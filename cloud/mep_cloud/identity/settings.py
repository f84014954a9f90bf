"""What can be set of other identity providers: each Struct is a table of ``relay.toml``."""

import re
import uuid
from ipaddress import ip_address, ip_network
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

SESSION_S: Final = 30 * 24 * 3600.0
_DOMAIN: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")
_SERVICE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
"""Signatures with a key pair: a secret that issuer and relay share (HS*) is none."""

_SESSION: Final = (
    "Seconds after signing in at which a login ends, however often it was renewed: rights and "
    "groups of a person are never older at this relay."
)


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Base of these tables."""


class Identity(Table, frozen=True):
    """Who people are: what all providers have in common."""

    url: Annotated[
        str,
        Meta(
            description="The relay's address as browsers know it, as https://relay.example.org. "
            "Providers send people back to it after signing in."
        ),
    ] = ""
    timeout_s: Annotated[
        float, Meta(gt=0, le=60, description="Seconds that a provider has to answer.")
    ] = 10.0
    ca_file: Annotated[
        str,
        Meta(
            description="PEM file of CAs that providers' certificates may be from, besides the "
            "system's."
        ),
    ] = ""
    proxies: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses or networks of proxies before this relay: what they say in "
            "X-Forwarded-For tells who signs in, since tries are counted for each address."
        ),
    ] = ()

    def __post_init__(self) -> None:
        """An address that people can be sent to, and addresses of proxies."""
        if self.url:
            check_url(self.url, "url")
        for proxy in self.proxies:
            ip_network(proxy)


class Oidc(Table, frozen=True):
    """An OpenID Connect issuer, whose people may use this relay."""

    issuer: Annotated[
        str,
        Meta(
            description="URL of the issuer, exactly as in its tokens; its keys are found from "
            "ISSUER/.well-known/openid-configuration. Required."
        ),
    ] = ""
    id: Annotated[
        str,
        Meta(
            description="UUID of this provider in identity records and policies. Empty: derived "
            "from the issuer. Changing it makes everybody of this provider somebody else."
        ),
    ] = ""
    title: Annotated[
        str, Meta(description="What people call it, as on its button. Empty: the issuer's host.")
    ] = ""
    domains: Annotated[
        tuple[str, ...],
        Meta(
            description="Domains of user names that this issuer may vouch for, and no other "
            "provider does. A name without a domain gets the first. Required."
        ),
    ] = ()
    audience: Annotated[
        str,
        Meta(
            description="What access tokens for this relay have as aud. Empty: access tokens of "
            "the issuer are not taken, people sign in on the page."
        ),
    ] = ""
    scope: Annotated[
        str, Meta(description="A scope that access tokens must have. Empty: none is demanded.")
    ] = ""
    client_id: Annotated[
        str,
        Meta(
            description="The relay's id at the issuer, for signing in on the page; its secret, if "
            "it has one, is in the file oidc.NAME.secret beside. Empty: no button."
        ),
    ] = ""
    request_scopes: Annotated[
        str, Meta(description="Scopes asked for when somebody signs in on the page.")
    ] = "openid profile email"
    algorithms: Annotated[
        tuple[Algorithm, ...],
        Meta(min_length=1, description="Signatures that are believed."),
    ] = ("RS256", "ES256")
    id_claim: Annotated[
        str, Meta(min_length=1, description="Claim that never changes and is never given anew.")
    ] = "sub"
    username_claim: Annotated[
        str,
        Meta(
            min_length=1,
            description="Claim with the user name, which sites map to accounts. email counts only "
            "where email_verified is true.",
        ),
    ] = "preferred_username"
    name_claim: Annotated[str, Meta(description="Claim with the person's name.")] = "name"
    email_claim: Annotated[
        str,
        Meta(
            description="Claim with the e-mail address; it is left out unless email_verified is "
            "true, and decides nothing here."
        ),
    ] = "email"
    groups_claim: Annotated[
        str,
        Meta(
            description="Claim with a list of groups, for sharing functions and for visible_to. "
            "Empty: none."
        ),
    ] = ""
    session_s: Annotated[float, Meta(ge=60, description=_SESSION)] = SESSION_S

    def __post_init__(self) -> None:
        """What must be there, and what must not be the same."""
        check_url(self.issuer, "issuer")
        if self.id:
            uuid.UUID(self.id)
        if not self.domains:
            raise ValueError("domains must name a domain of user names")
        for domain in self.domains:
            check_domain(domain)
        if self.audience and self.audience == self.client_id:
            raise ValueError(
                "audience must not be client_id: ID tokens would be taken for access tokens"
            )
        if not (self.audience or self.client_id):
            raise ValueError("audience or client_id must be set, or nobody can come by this issuer")


class Globus(Table, frozen=True):
    """Globus Auth: its access tokens, by introspection, with all linked identities."""

    client_id: Annotated[
        str,
        Meta(
            description="The relay's client at Globus Auth; its secret is in the file "
            "globus.secret beside. Empty: no tokens of Globus Auth are taken."
        ),
    ] = ""
    url: Annotated[str, Meta(description="Globus Auth itself.")] = "https://auth.globus.org"
    scope: Annotated[
        str,
        Meta(
            description="Scope that tokens must have. Empty: the client's own, "
            "https://auth.globus.org/scopes/CLIENT_ID/all."
        ),
    ] = ""
    audience: Annotated[
        str, Meta(description="What tokens must have in aud. Empty: the client's id.")
    ] = ""
    sign_in: Annotated[
        bool,
        Meta(
            description="People sign in with Globus Auth on the login page too. The client there "
            "has the redirect URL/login/globus/callback, with [identity] url."
        ),
    ] = False
    identity_providers: Annotated[
        tuple[str, ...],
        Meta(
            description="Ids of identity providers; only people with a linked identity of one of "
            "them are let in. Empty: everybody whom Globus Auth knows."
        ),
    ] = ()
    session_s: Annotated[float, Meta(ge=60, description=_SESSION)] = SESSION_S

    def __post_init__(self) -> None:
        """Addresses and ids are such."""
        check_url(self.url, "url")
        for each in self.identity_providers:
            uuid.UUID(each)


class Pam(Table, frozen=True):
    """The site's own accounts, by name and password on the login page."""

    service: Annotated[
        str,
        Meta(
            description="PAM service whose stack is asked, a file in /etc/pam.d. It must work for "
            "the relay's unprivileged account: pam_sss and LDAP do, pam_unix does not. Empty: off."
        ),
    ] = ""
    domain: Annotated[
        str,
        Meta(
            description="Domain of these accounts' user names (NAME@DOMAIN), which no other "
            "provider has, the relay's own users included. Required with a service."
        ),
    ] = ""
    title: Annotated[str, Meta(description="What people call these accounts.")] = "Site accounts"
    min_uid: Annotated[
        int,
        Meta(ge=1, description="Accounts that this machine knows with a lower uid are refused."),
    ] = 1000
    timeout_s: Annotated[
        float, Meta(gt=0, le=120, description="Seconds that the stack has to answer.")
    ] = 20.0
    session_s: Annotated[float, Meta(ge=60, description=_SESSION)] = SESSION_S

    def __post_init__(self) -> None:
        """A service and a domain go together."""
        if self.service and not _SERVICE.fullmatch(self.service):
            raise ValueError("service is the name of a file in /etc/pam.d")
        if self.service or self.domain:
            check_domain(self.domain)


def check_url(text: str, what: str) -> None:
    """Refuse what is no HTTPS address; plain HTTP stays on this machine.

    Raises:
        ValueError: for whoever wrote the file.
    """
    parts = urlsplit(text)
    here = parts.hostname is not None and _is_loopback(parts.hostname)
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and here)):
        raise ValueError(f"{what} must be an https:// address, not {text!r}")


def check_domain(text: str) -> None:
    """Refuse what is no domain in lower case.

    Raises:
        ValueError: for whoever wrote the file.
    """
    if not _DOMAIN.fullmatch(text):
        raise ValueError(f"{text!r} is no domain in lower case, as example.org")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
