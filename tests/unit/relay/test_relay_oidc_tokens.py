"""Tokens of an OIDC issuer: what is believed, and every way in which one is not."""

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from mep_cloud.errors import NoAnswer, NotAccepted
from mep_cloud.identity import keys, oidc
from mep_cloud.identity.person import derived_id
from mep_cloud.identity.settings import Identity, Oidc
from testbed.issuer import (
    EndlessIssuer,
    Issuer,
    Key,
    KeysDownIssuer,
    OtherNameIssuer,
    RedirectingIssuer,
    SlowIssuer,
)

T = TypeVar("T")
BOUND_S = 60


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def university() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.close()


def asked(issuer: Issuer, work: Callable[[oidc.Issuer], Awaitable[T]], **fields: Any) -> T:
    """Do `work` with the relay's side of an issuer."""
    declared = {
        "issuer": issuer.url,
        "audience": issuer.AUDIENCE,
        "domains": ("example.org",),
        "groups_claim": "groups",
        **fields,
    }
    clock = fields.pop("clock", time.monotonic)
    declared.pop("clock", None)

    async def main() -> T:
        bounds = Identity(timeout_s=declared.pop("timeout_s", 20.0))
        relay_side = oidc.Issuer(Oidc(**declared), None, bounds, clock)
        try:
            async with asyncio.timeout(BOUND_S):
                return await work(relay_side)
        finally:
            await relay_side.close()

    return asyncio.run(main())


def refusal(issuer: Issuer, token: str, **fields: Any) -> str:
    with pytest.raises(NotAccepted) as refused:
        asked(issuer, lambda side: side.bearer(token), **fields)
    return str(refused.value)


def test_a_good_token(university: Issuer) -> None:
    token = university.token(groups=["hpc", "staff"], auth_time=1234)
    person, expires = asked(university, lambda side: side.bearer(token))
    (record,) = person.records
    assert record["id"] == derived_id(person.provider, "subject-1")
    assert record == {
        "id": record["id"],
        "sub": "subject-1",
        "username": "carol@example.org",
        "identity_provider": person.provider,
        "identity_provider_display_name": "127.0.0.1",
        "name": "Carol",
        "email": "carol@elsewhere.example",
        "status": "used",
    }
    assert person.groups == {"hpc", "staff"}
    assert person.signed_in == 1234.0
    assert 0 < expires - time.time() <= 600


def test_elliptic_curves() -> None:
    issuer = Issuer("ES256")
    person, _ = asked(issuer, lambda side: side.bearer(issuer.token()))
    assert person.username == "carol@example.org"
    refusal(issuer, issuer.token(), algorithms=("RS256",))
    issuer.close()


NOW = int(time.time())


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"aud": "another-service"}, "Audience"),
        ({"aud": None}, "aud"),
        ({"aud": Issuer.CLIENT}, "Audience"),
        ({"iss": "https://accounts.example.org"}, "ssuer"),
        ({"exp": NOW - 3600, "iat": NOW - 7200}, "expired"),
        ({"exp": None}, "exp"),
        ({"nbf": NOW + 3600}, "not yet valid"),
        ({"iat": None}, "iat"),
        ({"sub": None}, "sub"),
        ({"scope": "openid"}, "scope mep"),
        ({"scope": None}, "scope mep"),
        ({"preferred_username": None}, "user name"),
        ({"preferred_username": "carol@other.example"}, "example.org, not for"),
        ({"preferred_username": "carol@evil@example.org"}, "no user name"),
        ({"preferred_username": "@example.org"}, "no user name"),
        ({"preferred_username": "carol smith@example.org"}, "no user name"),
        ({"preferred_username": "carol\n@example.org"}, "user name"),
        ({"preferred_username": "x" * 300}, "user name"),
        ({"preferred_username": ["carol"]}, "user name"),
        ({"name": "a\nb"}, "name is no printable"),
        ({"name": "x" * 1025}, "name is no printable"),
        ({"groups": {"hpc": 1}}, "no list of groups"),
        ({"groups": [1]}, "no list of groups"),
        ({"groups": ["x" * 257]}, "too long"),
        ({"groups": [str(each) for each in range(501)]}, "too many"),
    ],
)
def test_what_is_wrong_in_a_token(university: Issuer, claims: dict[str, Any], why: str) -> None:
    assert why in refusal(university, university.token(**claims), scope="mep")


def test_a_name_without_a_domain_is_of_the_first_domain(university: Issuer) -> None:
    token = university.token(preferred_username="carol")
    domains = ("hpc.example", "example.org")
    person, _ = asked(university, lambda side: side.bearer(token), domains=domains)
    assert person.username == "carol@hpc.example"


def test_an_email_address_decides_nothing_unless_it_is_the_name_and_verified(
    university: Issuer,
) -> None:
    token = university.token(email="root@example.org", email_verified=False)
    person, _ = asked(university, lambda side: side.bearer(token))
    assert "email" not in person.records[0]
    assert person.username == "carol@example.org"
    assert "not verified" in refusal(university, token, username_claim="email")
    good = university.token(email="carol@example.org")
    person, _ = asked(university, lambda side: side.bearer(good), username_claim="email")
    assert person.username == "carol@example.org"


def unsigned(token: str, header: dict[str, Any], signature: str = "") -> str:
    """The claims of a token with another header."""
    text = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return f"{text}.{token.split('.')[1]}.{signature}"


def test_algorithms_are_pinned(university: Issuer) -> None:
    good = university.token()
    for name in ("none", "None", "NONE", "nOnE"):
        refusal(university, unsigned(good, {"alg": name, "kid": "1"}))
        refusal(university, unsigned(good, {"alg": name, "kid": "1"}, good.split(".")[2]))
    # A public key is no secret: HS256 with it as one is anybody's signature.
    public = university.key.private.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    claims = jwt.decode(good, options={"verify_signature": False})
    header = unsigned(good, {"alg": "HS256", "kid": "1"}).rstrip(".")
    mac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        header.encode(), pem
    )
    forged = f"{header}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    assert "not accepted" in refusal(university, forged)
    # Another algorithm of the same key is not that of the key either.
    other = jwt.encode(claims, university.key.private, "PS256", {"kid": "1"})
    refusal(university, other)
    refusal(university, other, algorithms=("RS256", "PS256"))
    critical = jwt.encode(claims, university.key.private, "RS256", {"kid": "1", "crit": ["b64"]})
    refusal(university, critical)


def test_signatures_of_others(university: Issuer) -> None:
    stranger = Key("1", private=rsa.generate_private_key(65537, 2048))
    assert "Signature" in refusal(university, university.token(stranger))
    good = university.token()
    changed = good[:-2] + ("AA" if good[-2:] != "AA" else "BB")
    refusal(university, changed)
    for junk in ("", "x", "a.b.c", good.rsplit(".", 1)[0], f"{good}.x", "..", "\udcff.x.y"):
        refusal(university, junk)


def test_weak_or_symmetric_keys_are_none() -> None:
    issuer = Issuer()
    weak = Key("weak", private=rsa.generate_private_key(65537, 1024))
    with pytest.warns(jwt.warnings.InsecureKeyLengthWarning):
        token = issuer.token(weak)
    issuer.published = [weak]
    assert "does not have" in refusal(issuer, token)
    issuer.close()


def test_a_rotated_key_is_found_and_the_old_one_is_forgotten() -> None:
    issuer, clock = Issuer(), Clock()
    old, new = issuer.key, Key("2", private=rsa.generate_private_key(65537, 2048))

    async def work(side: oidc.Issuer) -> None:
        await side.bearer(issuer.token(old))
        issuer.published = [new]
        clock.now += keys.RETRY_S
        await side.bearer(issuer.token(new))
        assert issuer.asked["/jwks"] == 2
        with pytest.raises(NotAccepted, match="does not have"):
            await side.bearer(issuer.token(old))

    asked(issuer, work, clock=clock)
    issuer.close()


def test_made_up_key_ids_ask_the_issuer_at_a_bounded_rate() -> None:
    issuer, clock = Issuer(), Clock()

    async def guess(side: oidc.Issuer, kid: str) -> None:
        with pytest.raises(NotAccepted):
            await side.bearer(issuer.token(Key(kid)))

    async def work(side: oidc.Issuer) -> None:
        for each in range(20):
            await guess(side, f"guess-{each}")
        assert issuer.asked["/jwks"] == 1
        clock.now += keys.RETRY_S
        await asyncio.gather(*(guess(side, f"later-{each}") for each in range(20)))
        assert issuer.asked["/jwks"] == 2
        await side.bearer(issuer.token())
        assert issuer.asked["/jwks"] == 2

    asked(issuer, work, clock=clock)
    issuer.close()


def test_keys_outlive_an_issuer_that_is_down_for_an_hour() -> None:
    issuer, clock = KeysDownIssuer(), Clock()

    async def work(side: oidc.Issuer) -> None:
        with pytest.raises(NoAnswer):
            await side.bearer(issuer.token())
        issuer.down = False
        with pytest.raises(NoAnswer):
            await side.bearer(issuer.token())
        assert issuer.asked["/jwks"] == 1
        clock.now += keys.AGAIN_S
        await side.bearer(issuer.token())
        issuer.down = True
        clock.now += keys.STALE_S - 1
        await side.bearer(issuer.token())
        clock.now += 1
        with pytest.raises(NoAnswer):
            await side.bearer(issuer.token())

    asked(issuer, work, clock=clock)
    issuer.close()


@pytest.mark.parametrize("kind", [OtherNameIssuer, RedirectingIssuer, EndlessIssuer])
def test_issuers_that_lead_astray(kind: type[Issuer]) -> None:
    issuer = kind()
    with pytest.raises(NoAnswer):
        asked(issuer, lambda side: side.bearer(issuer.token()))
    issuer.close()


def test_an_issuer_that_is_slow_is_given_up() -> None:
    issuer = SlowIssuer()
    with pytest.raises(NoAnswer):
        asked(issuer, lambda side: side.bearer(issuer.token()), timeout_s=0.1)
    issuer.close()


def test_an_issuer_whose_tokens_are_for_the_page_alone(university: Issuer) -> None:
    why = refusal(university, university.token(), audience="", client_id="x")
    assert "mep login" in why
