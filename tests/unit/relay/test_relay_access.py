"""The access rules, as a table."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from mep_cloud import access
from mep_cloud.errors import Refusal
from mep_cloud.store.records import EndpointRecord, FunctionRecord, GroupRecord, Policy, Role, User

from mep.wire.rest import RegisterEndpoint


def person(name: str, *groups: str, admin: bool = False) -> User:
    return User(name, f"{name}@x", "", "", "", admin, 1.0, frozenset(groups))


OWNER, STRANGER, OPERATOR = person("owner"), person("stranger"), person("operator", admin=True)
MEMBER, NAMED = person("member", "physics"), person("named")
PEOPLE = (OWNER, NAMED, MEMBER, STRANGER, OPERATOR)


def endpoint(published: bool = False, **fields: Any) -> EndpointRecord:
    return EndpointRecord("e", "owner", RegisterEndpoint("site", **fields), 1, 1.0, published)


SINGLE = endpoint()
OPEN = endpoint(multi_user=True)
LISTED = endpoint(multi_user=True, visible_to=["physics"], admins=["named"])
EMPTY = endpoint(multi_user=True, visible_to=[])
PUBLIC = endpoint(True, multi_user=True, visible_to=[])
WISHES = endpoint(multi_user=True, public=True, visible_to=[])
FOR_GROUP = endpoint(admins=["physics"])

# For owner, named, member, stranger and operator.
RULES: list[tuple[Callable[[EndpointRecord, User], bool], EndpointRecord, str]] = [
    (access.sees, SINGLE, "y n n n y"),
    (access.sees, OPEN, "y y y y y"),
    (access.sees, LISTED, "y y y n y"),
    (access.sees, EMPTY, "y n n n y"),
    (access.sees, PUBLIC, "y y y y y"),
    (access.sees, WISHES, "y n n n y"),
    (access.sees, FOR_GROUP, "y n y n y"),
    (access.submits, SINGLE, "y n n n n"),
    (access.submits, FOR_GROUP, "y n n n n"),
    (access.submits, OPEN, "y y y y y"),
    (access.submits, EMPTY, "y y y y y"),
    (access.manages, SINGLE, "y n n n y"),
    (access.manages, LISTED, "y y n n y"),
    (access.manages, FOR_GROUP, "y n y n y"),
    (access.manages, PUBLIC, "y n n n y"),
]


@pytest.mark.parametrize(("rule", "which", "expected"), RULES, ids=range(len(RULES)))
def test_endpoints(rule: Any, which: EndpointRecord, expected: str) -> None:
    assert [rule(which, user) for user in PEOPLE] == [each == "y" for each in expected.split()]
    check = getattr(access, f"check_{rule.__name__}")
    for user in PEOPLE:
        if rule(which, user):
            check(which, user)
        else:
            with pytest.raises(Refusal) as refused:
                check(which, user)
            assert refused.value.status == 403


def function(**fields: Any) -> FunctionRecord:
    record = {"public": False, "group_id": None, "ha_endpoint_id": None, **fields}
    return FunctionRecord("f", "owner", "f", 1, None, meta="{}", created=1.0, **record)


@pytest.mark.parametrize(
    ("shared", "expected"),
    [({}, "y n n n n"), ({"public": True}, "y y y y y"), ({"group_id": "physics"}, "y n y n n")],
)
def test_functions(shared: dict[str, Any], expected: str) -> None:
    wanted = [each == "y" for each in expected.split()]
    assert [access.calls(function(**shared), user) for user in PEOPLE] == wanted


def test_where_functions_run() -> None:
    access.check_runs(function(), OPEN)
    access.check_runs(function(ha_endpoint_id="e"), OPEN)
    access.check_runs(function(), endpoint(allowed_functions=["f"]))
    access.check_runs(function(ha_endpoint_id="e"), endpoint(high_assurance=True))
    for which, where in (
        (function(ha_endpoint_id="other"), OPEN),
        (function(), endpoint(allowed_functions=[])),
        (function(), endpoint(allowed_functions=["g"])),
        (function(), endpoint(high_assurance=True)),
        (function(ha_endpoint_id="other"), endpoint(high_assurance=True)),
    ):
        with pytest.raises(Refusal) as refused:
            access.check_runs(which, where)
        assert refused.value.code == "FUNCTION_NOT_PERMITTED"


def test_tasks_are_their_submitters() -> None:
    assert [access.reads_task("owner", user) for user in PEOPLE] == [True, *[False] * 4]


@pytest.mark.parametrize(
    ("role", "user", "sees", "manages"),
    [
        ("manager", STRANGER, None, None),
        ("member", STRANGER, None, 403),
        (None, STRANGER, 404, 404),
        (None, OPERATOR, None, None),
    ],
)
def test_groups(role: Role | None, user: User, sees: int | None, manages: int | None) -> None:
    group = GroupRecord("physics", "Physics", "", 1.0)
    for check, status in (
        (access.check_sees_group, sees),
        (access.check_manages_group, manages),
    ):
        if status is None:
            check(group, role, user)
            continue
        with pytest.raises(Refusal) as refused:
            check(group, role, user)
        assert refused.value.status == status


def test_sharing_with_a_group_needs_being_in_it() -> None:
    access.check_shares("physics", MEMBER)
    for user in (STRANGER, OPERATOR, OWNER):
        with pytest.raises(Refusal) as refused:
            access.check_shares("physics", user)
        assert refused.value.status == 404


def at(domain: str, signed_in: float | None = None) -> User:
    return User("u", f"u@{domain}", "", "", "", False, 1.0, signed_in=signed_in)


ANY = Policy("p", "p")
HERE = Policy("p", "p", allowed_domains=("example.org", "*.hpc.example"))
NOT_THERE = Policy("p", "p", ("*.example",), ("evil.example",))
PINNED = Policy("p", "p", provider="other")
RECENT = Policy("p", "p", session_s=60.0)


@pytest.mark.parametrize(
    ("policy", "user", "good"),
    [
        (None, at("example.org"), False),
        (ANY, at("x"), True),
        (HERE, at("example.org"), True),
        (HERE, at("EXAMPLE.org"), True),
        (HERE, at("sub.example.org"), False),
        (HERE, at("notexample.org"), False),
        (HERE, at("a.hpc.example"), True),
        (HERE, at("hpc.example"), False),
        (HERE, at("evilhpc.example"), False),
        (NOT_THERE, at("good.example"), True),
        (NOT_THERE, at("evil.example"), False),
        (PINNED, at("x"), False),
        (RECENT, at("x", 40.0), True),
        (RECENT, at("x", 39.0), False),
        (RECENT, at("x", None), False),
    ],
)
def test_authentication_policies(policy: Policy | None, user: User, good: bool) -> None:
    check(policy, user, [identity("u", user.username, "ours")], good)


def identity(name: str, username: str, provider: str) -> dict[str, str]:
    return {"id": name, "username": username, "identity_provider": provider}


def check(policy: Policy | None, user: User, identities: list[Any], good: bool) -> None:
    if good:
        access.check_policy(policy, user, identities, 100.0)
        return
    with pytest.raises(Refusal) as refused:
        access.check_policy(policy, user, identities, 100.0)
    assert refused.value.code == "AUTHENTICATION_POLICY_NOT_MET"


HOME = identity("h", "u@example.org", "university")
MAIL = identity("m", "u@mail.example", "mail")
FORGED = identity("f", "u@example.org", "mail")


@pytest.mark.parametrize(
    ("identities", "proofs", "good"),
    [
        ([HOME], {"h": 90.0}, True),
        ([MAIL, HOME], {"h": 90.0, "m": 10.0}, True),
        # The domain of one, the provider of another, the proof of a third: none has all.
        ([MAIL, HOME], {"m": 90.0, "h": 10.0}, False),
        ([MAIL, HOME], {"m": 90.0}, False),
        ([FORGED, MAIL], {"f": 90.0, "m": 90.0}, False),
        ([HOME], {}, False),
    ],
)
def test_one_identity_of_a_set_has_to_meet_a_policy(
    identities: list[Any], proofs: dict[str, float], good: bool
) -> None:
    policy = Policy("p", "p", ("example.org",), (), "university", 60.0)
    check(policy, at("mail.example", 90.0), identities, False)  # a login that proved "u" alone
    user = replace(at("mail.example", 90.0), proofs=proofs)
    check(policy, user, identities, good)
