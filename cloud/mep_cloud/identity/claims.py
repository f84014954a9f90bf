"""An issuer's claims as a person, by what is declared in ``[oidc.NAME]``: pure."""

from collections.abc import Mapping
from typing import Any

from mep_cloud.errors import NotAccepted
from mep_cloud.identity import person
from mep_cloud.identity.person import Person
from mep_cloud.identity.settings import Oidc

Claims = Mapping[str, Any]


def as_person(declared: Oidc, provider: str, title: str, claims: Claims) -> Person:
    """Whom these claims are about. Their signature, issuer, audience and times hold already.

    Raises:
        NotAccepted: a claim is missing, or says what this provider may not vouch for.
    """
    subject = claims.get(declared.id_claim)
    if not isinstance(subject, str) or not subject:
        raise NotAccepted(f"The identity provider does not tell {declared.id_claim!r}.")
    verified = claims.get("email_verified") is True
    if declared.username_claim == "email" and not verified:
        raise NotAccepted("The identity provider has not verified the e-mail address.")
    record = person.record(
        {
            "id": person.derived_id(provider, subject),
            "sub": subject,
            "username": person.username(claims.get(declared.username_claim), declared.domains),
            "identity_provider": provider,
            "identity_provider_display_name": title,
            "name": claims.get(declared.name_claim),
            "email": claims.get(declared.email_claim) if verified else None,
        }
    )
    return Person(provider, (record,), _groups(declared, claims), as_time(claims.get("auth_time")))


def check_scope(wanted: str, claims: Claims) -> None:
    """Refuse a token without a scope.

    Raises:
        NotAccepted: with the scope that is missing.
    """
    told = claims.get("scope", claims.get("scp", ""))
    scopes = told.split() if isinstance(told, str) else told
    if wanted and (not isinstance(scopes, list) or wanted not in scopes):
        raise NotAccepted(f"The token lacks the scope {wanted}.")


def _groups(declared: Oidc, claims: Claims) -> frozenset[str]:
    told = claims.get(declared.groups_claim, []) if declared.groups_claim else []
    if isinstance(told, str):
        told = [told]
    if not isinstance(told, list) or not all(isinstance(each, str) for each in told):
        raise NotAccepted(f"The claim {declared.groups_claim!r} is no list of groups.")
    if len(told) > person.MOST_GROUPS or any(not _storable(each) for each in told):
        raise NotAccepted(f"The claim {declared.groups_claim!r} has too many or too long names.")
    return frozenset(told)


def _storable(name: str) -> bool:
    return 0 < len(name) <= 256 and name.isprintable()


def as_time(value: Any) -> float | None:
    """Epoch seconds, if it is some."""
    return float(value) if isinstance(value, int | float) and 0 < value < 1e11 else None
