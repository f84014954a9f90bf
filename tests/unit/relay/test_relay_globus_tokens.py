"""Tokens of Globus Auth: the identity set, and every way in which one is not believed."""

import asyncio
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from mep_cloud.errors import NoAnswer, NotAccepted
from mep_cloud.identity import globus
from mep_cloud.identity.person import Person
from mep_cloud.identity.settings import Globus, Identity
from testbed.globus_auth import GLOBUS_ID, UNIVERSITY, GlobusAuth, identity


@pytest.fixture(scope="module")
def auth() -> Iterator[GlobusAuth]:
    made = GlobusAuth()
    yield made
    made.close()


ANN, ANN_ID = identity("ann"), identity("ann", GLOBUS_ID)


def person(
    auth: GlobusAuth,
    token: str,
    secret: str = GlobusAuth.SECRET,
    domains: frozenset[str] = frozenset(),
    **fields: Any,
) -> Person:
    async def main() -> Person:
        declared = Globus(client_id=auth.CLIENT, url=auth.url, **fields)
        side = globus.GlobusAuth(declared, secret, Identity(timeout_s=20.0), domains)
        try:
            return (await side.bearer(token))[0]
        finally:
            await side.close()

    return asyncio.run(main())


def test_the_whole_identity_set(auth: GlobusAuth) -> None:
    ann = person(auth, auth.token(ANN_ID, ANN))
    assert ann.id == ANN_ID["sub"]
    assert ann.username == "ann@globusid.org"
    assert ann.records == tuple(
        {
            "id": each["sub"],
            "sub": each["sub"],
            "username": each["username"],
            "name": "Ann",
            "email": "ann@mail.example",
            "identity_provider": each["identity_provider"],
            "identity_provider_display_name": each["identity_provider_display_name"],
            "identity_type": "login",
            "status": "used",
        }
        for each in (ANN_ID, ANN)
    )


def test_each_identity_was_proved_when_the_session_says(auth: GlobusAuth) -> None:
    session = {"authentications": {ANN["sub"]: {"auth_time": 1234}, "x": {"auth_time": None}}}
    ann = person(auth, auth.token(ANN_ID, ANN, session_info=session))
    assert ann.proofs == {ANN["sub"]: 1234.0}
    assert ann.signed_in == 1234.0
    assert person(auth, auth.token(ANN, session_info={})).signed_in is None


def test_the_first_is_who_the_token_is_of_wherever_it_stands(auth: GlobusAuth) -> None:
    ann = person(auth, auth.token(ANN_ID, ANN, sub=ANN["sub"]))
    assert [each["id"] for each in ann.records] == [ANN["sub"], ANN_ID["sub"]]


NOW = int(time.time())


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"active": False}, "not valid"),
        ({"active": "true"}, "not valid"),
        ({"active": None}, "not valid"),
        ({"aud": ["another"]}, "not its audience"),
        ({"aud": "another"}, "not its audience"),
        ({"aud": None}, "not its audience"),
        ({"scope": "openid email"}, "lacks the scope"),
        ({"scope": f"{GlobusAuth.SCOPE}x"}, "lacks the scope"),
        ({"scope": None}, "lacks the scope"),
        ({"iss": "https://auth.globus.org"}, "another issuer"),
        ({"iss": None}, "another issuer"),
        ({"exp": NOW - 1}, "expired"),
        ({"exp": None}, "no times"),
        ({"nbf": NOW + 3600}, "expired"),
        ({"sub": str(uuid.UUID(int=9))}, "not in its identity set"),
        ({"sub": None}, "not in its identity set"),
        ({"identity_set_detail": None}, "identities"),
        ({"identity_set_detail": []}, "identities"),
        ({"identity_set_detail": [ANN, ANN]}, "not once"),
        ({"identity_set_detail": ["x", ANN_ID]}, "not in its identity set"),
        ({"identity_set_detail": [ANN | {"status": "unused"}]}, "not in its identity set"),
        ({"identity_set_detail": [ANN | {"sub": "x"}]}, "no ids"),
        ({"identity_set_detail": [ANN | {"identity_provider": None}]}, "no ids"),
        ({"identity_set_detail": [ANN | {"username": "ann"}]}, "no user name"),
        ({"identity_set_detail": [ANN | {"username": "a\n@x"}]}, "username is no printable"),
        ({"identity_set_detail": [ANN | {"name": "x" * 1025}]}, "name is no printable"),
        (
            {"identity_set_detail": [identity(f"n{each}") for each in range(65)]},
            "not 1 to 64 identities",
        ),
    ],
)
def test_what_is_not_believed(auth: GlobusAuth, claims: dict[str, Any], why: str) -> None:
    with pytest.raises(NotAccepted) as refused:
        person(auth, auth.token(ANN, **claims))
    assert why in str(refused.value)


def test_only_people_of_some_providers(auth: GlobusAuth) -> None:
    both, one = auth.token(ANN_ID, ANN), auth.token(ANN_ID)
    assert person(auth, both, identity_providers=(UNIVERSITY,)).id == ANN_ID["sub"]
    with pytest.raises(NotAccepted, match="Link one"):
        person(auth, one, identity_providers=(UNIVERSITY,))


def test_names_in_domains_of_others_are_left_out(auth: GlobusAuth) -> None:
    theirs = frozenset({"example.edu"})
    shouted = ANN | {"username": "ann@EXAMPLE.edu"}
    for linked in (ANN, shouted):
        ann = person(auth, auth.token(ANN_ID, linked), domains=theirs)
        assert [each["username"] for each in ann.records] == ["ann@globusid.org"]
        with pytest.raises(NotAccepted, match="Another identity provider"):
            person(auth, auth.token(linked, ANN_ID), domains=theirs)


def test_what_is_no_answer_is_no_refusal(auth: GlobusAuth) -> None:
    token = auth.token(ANN)
    with pytest.raises(NoAnswer, match="operator"):
        person(auth, token, secret="wrong")
    auth.down = True
    with pytest.raises(NoAnswer):
        person(auth, token)
    auth.down = False
