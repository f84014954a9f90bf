"""What a provider vouches for, and the ids that come of it: pure."""

import hashlib
import json
import unicodedata
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mep_cloud.errors import NotAccepted

MOST_RECORDS: Final = 64
"""Identities of one person: as many as a grant has room for."""
MOST_GROUPS: Final = 500
_FIELD: Final = 1024
"""Bytes of a field of a record, which is the warden's bound."""
_USERNAME: Final = 256


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whom a provider vouches for.

    Args:
        provider: id of the provider.
        records: the identity set as it goes into grants; the first is the one that speaks.
        groups: their names at the provider.
        signed_in: epoch seconds at which the person proved who they are; None: not told.
        proofs: the same for each identity of the set, by id, where a provider tells.
    """

    provider: str
    records: tuple[Mapping[str, str], ...]
    groups: frozenset[str] = frozenset()
    signed_in: float | None = None
    proofs: Mapping[str, float] | None = None

    @property
    def id(self) -> str:
        """Of the identity that speaks; the user's id at this relay."""
        return self.records[0]["id"]

    @property
    def username(self) -> str:
        """Of the identity that speaks."""
        return self.records[0]["username"]

    def check_age(self, session_s: float, now: float) -> None:
        """Refuse a sign-in that a provider remembers from so long ago that it is over here.

        Raises:
            NotAccepted: with the remedy.
        """
        if self.signed_in is not None and now - self.signed_in >= session_s:
            raise NotAccepted(
                "You signed in there too long ago. Sign out at your identity provider, and sign "
                "in again."
            )

    def identity_set(self) -> str:
        """The records as JSON, the same for the same records."""
        return json.dumps([dict(each) for each in self.records], sort_keys=True)


def provider_id(url: str) -> str:
    """The id of a provider that was given none."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, url))


def derived_id(provider: str, subject: str) -> str:
    """The id of the person whom `provider` calls `subject`: no other provider can reach it."""
    return _derived(provider, "person", subject)


def group_id(provider: str, name: str) -> str:
    """The id of the group that `provider` calls `name`: never that of a relay's own group."""
    return _derived(provider, "group", name)


def _derived(provider: str, kind: str, name: str) -> str:
    """As a UUID of version 8; ids made at random have version 4, so the two never meet."""
    text = f"mep-{kind}-1\0{provider}\0{name}".encode("utf-8", "surrogatepass")
    raw = bytearray(hashlib.sha256(text).digest()[:16])
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(raw)))


def name_key(username: str) -> str:
    """The same for user names that a site's directory may take for one another.

    LDAP compares without regard to letter case and Unicode forms (:rfc:`4518`), as mappings may.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", username).casefold())


def record(fields: Mapping[str, Any]) -> dict[str, str]:
    """An identity record of what a provider told: texts alone, none empty.

    Raises:
        NotAccepted: a field cannot be part of a grant.
    """
    made = {name: value for name, value in fields.items() if isinstance(value, str) and value}
    for name, value in made.items():
        if len(value.encode("utf-8", "replace")) > _FIELD or not value.isprintable():
            raise NotAccepted(f"{name} is no printable text of at most {_FIELD} bytes.")
    return made | {"status": "used"}


def username(value: Any, domains: tuple[str, ...]) -> str:
    """The user name NAME@DOMAIN in a domain that the provider may vouch for.

    Raises:
        NotAccepted: it is none, or in somebody else's domain.
    """
    if not isinstance(value, str) or not value.isprintable() or len(value) > _USERNAME:
        raise NotAccepted("The identity provider tells no user name that can be used here.")
    name, at, domain = value.rpartition("@")
    if not at:
        name, domain = value, domains[0]
    if not name or "@" in name or any(each.isspace() for each in name):
        raise NotAccepted(f"{value!r} is no user name NAME@DOMAIN.")
    if domain.lower() not in domains:
        raise NotAccepted(
            f"The identity provider may vouch for user names of {', '.join(domains)}, not for "
            f"{value!r}. The relay's operator declares domains."
        )
    return f"{name}@{domain.lower()}"
