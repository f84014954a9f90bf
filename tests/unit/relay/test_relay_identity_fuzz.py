"""Whatever a provider tells: a person whom a grant can hold, or a refusal; nothing else."""

import uuid
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from mep_cloud.errors import NotAccepted
from mep_cloud.grants import canonical
from mep_cloud.identity import introspection
from mep_cloud.identity.claims import as_person
from mep_cloud.identity.person import Person
from mep_cloud.identity.settings import Oidc

DECLARED = Oidc(
    issuer="https://sso.example.org",
    domains=("example.org",),
    audience="x",
    groups_claim="groups",
)
WANTED = introspection.Wanted("globus", "https://auth.example", "relay", "scope")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
CLAIMS = ("sub", "preferred_username", "name", "email", "email_verified", "groups", "auth_time")
NAMES = st.sampled_from(["carol", "carol@example.org", "a@b@example.org", "@", "x@other.example"])
IDS = st.uuids().map(str)
IDENTITY = st.fixed_dictionaries(
    {"sub": IDS | JSON, "identity_provider": IDS | JSON, "username": NAMES | JSON},
    optional={"name": JSON, "email": JSON, "organization": JSON, "status": JSON},
)


def check(person: Person) -> None:
    """It fits the relay's tables and the warden's bounds."""
    canonical([dict(each) for each in person.records])
    assert 1 <= len(person.records) <= 64
    for record in person.records:
        assert uuid.UUID(record["id"])
        assert {"id", "status", "username", "identity_provider"} <= record.keys()
        for value in record.values():
            assert isinstance(value, str)
            assert value.isprintable()
            assert len(value.encode()) <= 1024
    assert all(isinstance(each, str) and each.isprintable() for each in person.groups)
    assert person.signed_in is None or isinstance(person.signed_in, float)


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(CLAIMS, JSON | NAMES))
    | st.fixed_dictionaries(
        {"sub": st.text(min_size=1), "preferred_username": NAMES},
        optional=dict.fromkeys(CLAIMS[2:], JSON),
    )
)
def test_claims(claims: dict[str, Any]) -> None:
    try:
        person = as_person(DECLARED, "university", "University", claims)
    except NotAccepted:
        return
    check(person)
    assert person.username.endswith("@example.org")
    assert person.username.count("@") == 1


GOOD = {"sub": str(uuid.UUID(int=1)), "identity_provider": str(uuid.UUID(int=2)), "username": "a@b"}


@example([GOOD], {})
@example([GOOD], {"sub": []})
@example([GOOD], {"sub": {}})
@example([GOOD], {"session_info": {"authentications": {"x": 1, "y": {"auth_time": "z"}}}})
@given(
    st.lists(IDENTITY | st.just(GOOD) | JSON, max_size=3),
    st.fixed_dictionaries({}, optional={"nbf": JSON, "session_info": JSON, "sub": JSON}),
)
def test_introspection(details: list[Any], odd: dict[str, Any]) -> None:
    first = details[0] if details and isinstance(details[0], dict) else {}
    told = {
        "active": True,
        "iss": "https://auth.example",
        "aud": ["relay"],
        "scope": "scope",
        "exp": 2000,
        "sub": first.get("sub"),
        "identity_set_detail": details,
        **odd,
    }
    try:
        person, expires = introspection.as_person(told, WANTED, 1000.0)
    except NotAccepted:
        return
    check(person)
    assert expires == 2000.0
    assert person.id == told["sub"]


@given(st.dictionaries(st.text() | st.sampled_from(["active", "exp", "aud", "iss"]), JSON))
def test_nonsense(told: dict[str, Any]) -> None:
    try:
        introspection.as_person(told, WANTED, 1000.0)
    except NotAccepted:
        return
    raise AssertionError("nobody can be told by this")
