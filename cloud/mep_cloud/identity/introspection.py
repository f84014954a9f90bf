"""What Globus Auth tells of a token, as a person: pure.

An answer is RFC 7662's with ``include=identity_set_detail,session_info``: the identities of the
person (``sub``, ``username``, ``identity_provider`` ...), and when each was last proved
(``session_info.authentications``, by identity id).
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mep_cloud.errors import NotAccepted
from mep_cloud.identity import person
from mep_cloud.identity.claims import as_time, check_scope
from mep_cloud.identity.person import Person

Told = Mapping[str, Any]
Record = dict[str, str]

_LEEWAY_S: Final = 60
_FIELDS: Final = (
    "username",
    "identity_provider",
    "identity_provider_display_name",
    "name",
    "email",
    "organization",
    "identity_type",
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a token must be, to speak for somebody at this relay."""

    provider: str
    """Id of Globus Auth as a provider."""
    issuer: str
    audience: str
    scope: str
    identity_providers: frozenset[str] = frozenset()
    """One of which an identity must be of; empty: any."""
    domains: frozenset[str] = frozenset()
    """Which other providers of this relay vouch for: identities in them are left out, since sites
    map by user name, and each is to have one source."""


def as_person(told: Told, wanted: Wanted, now: float) -> tuple[Person, float]:
    """Whom the token speaks for, and until when (epoch seconds, as `now`).

    Raises:
        NotAccepted: it does not hold, or is not for this relay.
    """
    if told.get("active") is not True:
        raise NotAccepted("The token is not valid: unknown to Globus Auth, expired or revoked.")
    expires = _check_times(told, now)
    if told.get("iss") != wanted.issuer:
        raise NotAccepted("The token is of another issuer than this relay's Globus Auth.")
    audience = told.get("aud")
    if wanted.audience not in (audience if isinstance(audience, list) else [audience]):
        raise NotAccepted("The token is for another service: this relay is not its audience.")
    check_scope(wanted.scope, told)
    records = _records(told, wanted.domains)
    _check_providers(records, wanted.identity_providers)
    proofs = _proofs(told)
    latest = max(proofs.values(), default=None)
    return Person(wanted.provider, records, frozenset(), latest, proofs), expires


def _check_times(told: Told, now: float) -> float:
    expires, begins = as_time(told.get("exp")), as_time(told.get("nbf", 1))
    if expires is None or begins is None:
        raise NotAccepted("The token of Globus Auth has no times.")
    if not begins - _LEEWAY_S <= now < expires:
        raise NotAccepted("The token of Globus Auth has expired.")
    return expires


def _records(told: Told, domains: frozenset[str]) -> tuple[Record, ...]:
    """The identity set, first the identity that the token is of."""
    details = told.get("identity_set_detail")
    if not isinstance(details, list) or not 0 < len(details) <= person.MOST_RECORDS:
        raise NotAccepted(f"The identity set has not 1 to {person.MOST_RECORDS} identities.")
    every = [_record(each) for each in details if _is_used(each)]
    records = [each for each in every if _domain(each) not in domains]
    subject = str(told.get("sub"))
    if subject in {each["id"] for each in every if each not in records}:
        raise NotAccepted(
            f"Another identity provider of this relay vouches for names like "
            f"{told.get('username')}. Sign in with that one, by `mep login`."
        )
    mine = [each for each in records if each["id"] == subject]
    if len(mine) != 1 or len({each["id"] for each in records}) != len(records):
        raise NotAccepted("The token's identity is not in its identity set, or not once.")
    return (*mine, *(each for each in records if each is not mine[0]))


def _check_providers(records: tuple[Record, ...], wanted: frozenset[str]) -> None:
    if wanted and not wanted & {each["identity_provider"] for each in records}:
        raise NotAccepted(
            "None of your linked identities is of an identity provider that this relay takes: "
            f"{', '.join(sorted(wanted))}. Link one at https://app.globus.org/settings."
        )


def _domain(record: Record) -> str:
    return record["username"].rpartition("@")[2].lower()


def _is_used(detail: Any) -> bool:
    return isinstance(detail, dict) and detail.get("status", "used") in ("used", "private")


def _record(detail: Told) -> Record:
    try:
        identity, provider = (str(uuid.UUID(detail[name])) for name in ("sub", "identity_provider"))
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise NotAccepted("An identity of the set has no ids.") from error
    name = detail.get("username")
    if not isinstance(name, str) or "@" not in name:
        raise NotAccepted("An identity of the set has no user name.")
    told = person.record({field: detail.get(field) for field in _FIELDS})
    return told | {"id": identity, "sub": identity, "identity_provider": provider}


def _proofs(told: Told) -> dict[str, float]:
    """When each identity was proved in this session, by id; epoch seconds."""
    session = told.get("session_info")
    proofs = session.get("authentications") if isinstance(session, dict) else None
    if not isinstance(proofs, dict):
        return {}
    times = {
        identity: as_time(proof.get("auth_time"))
        for identity, proof in proofs.items()
        if isinstance(proof, dict)
    }
    return {identity: moment for identity, moment in times.items() if moment is not None}
