"""Whom tokens speak for that this relay did not make: remembered for a minute, no longer."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mep_cloud.auth import MEMORY_S, Gatekeeper, digest
from mep_cloud.errors import IdentityTaken, NoAnswer, NotAccepted, Refusal
from mep_cloud.identity.person import Person, derived_id, group_id
from mep_cloud.store import Store
from mep_cloud.store.records import GroupRecord, Login, NewTokens, TokenOwner, User
from sqlalchemy import URL

Where = Path | URL
EVE = User("e", "eve@example.org", "", "", "", False, 1.0, provider="university")


class Provider:
    """Says what it is told to say, and counts how often it is asked."""

    def __init__(self) -> None:
        self.says: TokenOwner | Exception | None = TokenOwner(EVE, None, 10_000.0)
        self.asked = 0
        self.known = {"university"}

    def knows(self, user: User) -> bool:
        return user.provider is None or user.provider in self.known

    async def owner(self, token: str) -> TokenOwner | None:
        self.asked += 1
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


class Gate:
    def __init__(self, store: Store) -> None:
        self.provider = Provider()
        self.now = 1000.0
        self.keeper = Gatekeeper(store, self.provider, lambda: self.now, lambda: self.now)

    async def status(self, token: str = "x") -> int:
        try:
            await self.keeper.user(f"Bearer {token}")
        except Refusal as refusal:
            return refusal.status
        return 200


def run(where: Where, work: Callable[[Store], Awaitable[None]]) -> None:
    async def main() -> None:
        store = Store(where)
        store.create()
        async with store:
            await work(store)

    asyncio.run(main())


def test_a_token_is_believed_for_a_minute(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        gate = Gate(store)
        assert [await gate.status() for _ in range(3)] == [200] * 3
        assert gate.provider.asked == 1
        gate.provider.says = NotAccepted("It was revoked.")
        gate.now += MEMORY_S - 0.1
        assert await gate.status() == 200
        gate.now += 0.2
        assert await gate.status() == 401
        gate.provider.says = TokenOwner(EVE, None, 10_000.0)
        assert await gate.status() == 200, "a refusal is not remembered"

    run(tmp_path / "relay.sqlite3", work)


def test_a_revocation_drops_what_is_remembered(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        gate = Gate(store)
        assert await gate.status() == 200
        gate.provider.says = NotAccepted("It was revoked.")
        gate.keeper.forget_all()
        assert await gate.status() == 401

    run(tmp_path / "relay.sqlite3", work)


def test_a_token_expires_while_it_is_remembered(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        gate = Gate(store)
        gate.provider.says = TokenOwner(EVE, None, 1010.0)
        assert await gate.status() == 200
        gate.now = 1010.0
        assert await gate.status() == 401

    run(tmp_path / "relay.sqlite3", work)


def test_a_provider_that_does_not_answer_is_no_refusal(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        gate = Gate(store)
        gate.provider.says = NoAnswer("It is down.")
        with pytest.raises(Refusal) as refused:
            await gate.keeper.user("Bearer x")
        assert (refused.value.status, refused.value.code) == (503, "IDENTITY_PROVIDER_UNAVAILABLE")
        assert refused.value.retry_after_s
        gate.provider.says = IdentityTaken("Somebody else has that name.")
        assert await gate.status() == 401

    run(tmp_path / "relay.sqlite3", work)


def person(provider: str, name: str = "eve@example.org", **fields: Any) -> Person:
    identity = derived_id(provider, name)
    record = {"id": identity, "sub": name, "username": name, "identity_provider": provider}
    return Person(provider, (record | {"status": "used"},), **fields)


def test_a_provider_that_is_configured_no_more_vouches_for_nobody(where: Where) -> None:
    async def work(store: Store) -> None:
        gate = Gate(store)
        user = await store.users.know(person("university"))
        await store.users.add_token(
            digest("mep_t"), user_id=user.id, label="", created=0.0, expires=None
        )
        assert await gate.status("mep_t") == 200
        gate.provider.known.clear()
        assert await gate.status("mep_t") == 401

    run(where, work)


def test_people_are_as_their_provider_last_told(where: Where) -> None:
    async def work(store: Store) -> None:
        first = await store.users.know(person("university", groups=frozenset({"hpc", "staff"})))
        assert first.groups == {group_id("university", name) for name in ("hpc", "staff")}
        assert await store.users.know(person("university", groups=frozenset({"hpc", "staff"}))) == (
            first
        )
        later = await store.users.know(person("university", groups=frozenset({"hpc"})))
        assert later.groups == {group_id("university", "hpc")}
        assert later == replace(first, groups=later.groups, claimed=frozenset({"hpc"}))
        # A token of a login that was before has no more than that.
        await store.users.add_token(
            digest("mep_t"), user_id=first.id, label="", created=0.0, expires=None
        )
        owner = await store.users.token_owner(digest("mep_t"))
        assert owner is not None
        assert owner.user == later

    run(where, work)


def test_nobody_is_known_by_somebody_else_s_name_or_id(where: Where) -> None:
    async def work(store: Store) -> None:
        own = User("own", "root@relay.local", "", "", "", True, 1.0)
        await store.users.add(own)
        await store.groups.add(GroupRecord("wheel", "wheel", "", 1.0), own.id)
        university = await store.users.know(person("university"))

        def linked(identity: str, name: str = "new@example.org") -> Person:
            honest = person("globus", name)
            return replace(honest, records=(*honest.records, honest.records[0] | {"id": identity}))

        taken: Sequence[Person] = (
            person("globus"),  # the name of the university's
            person("globus", own.username),
            person("globus", own.username.upper()),
            person("university", "Eve@example.org"),  # whom the same provider tells apart
            linked(own.id),
            linked(university.id),
            linked("wheel"),
        )
        for each in taken:
            with pytest.raises(IdentityTaken):
                await store.users.know(each)
        assert await store.users.by_username("new@example.org") is None
        assert (await store.users.know(linked("free"))).username == "new@example.org"
        await store.users.rename(university.id, "eve.old@example.org")
        assert (await store.users.know(person("globus"))).username == "eve@example.org"

    run(where, work)


def test_two_processes_come_to_know_the_same_people(where: Where) -> None:
    async def work(store: Store) -> None:
        people = [person("university", f"p{each}@example.org") for each in range(20)]
        async with Store(where) as other:
            both = [(one.users.know(each)) for each in people for one in (store, other)]
            known = await asyncio.gather(*both)
        assert [each.username for each in known[::2]] == [each.username for each in people]
        assert known[::2] == known[1::2]

    run(where, work)


def test_ids_of_providers_never_meet() -> None:
    ids = {
        make(provider, name)
        for make in (derived_id, group_id)
        for provider in ("a", "ab")
        for name in ("b", "bb", "a\0b")
    }
    assert len(ids) == 12


def tokens(name: str, at: float) -> NewTokens:
    return NewTokens(digest(f"a{name}"), digest(f"r{name}"), "", at, at + 100.0, at + 1000.0)


def test_a_login_ends_with_the_provider_s_session_however_often_it_is_renewed(
    where: Where,
) -> None:
    async def work(store: Store) -> None:
        user = await store.users.know(person("university"))
        bounds = {"university": 500.0}
        await store.sessions.open(Login(user.id, 0.0), tokens("0", 10.0), bounds)
        assert await store.sessions.refresh(digest("r0"), tokens("1", 450.0), bounds) == user.id
        owner = await store.users.token_owner(digest("a1"))
        assert owner is not None
        assert owner.expires == 500.0
        assert await store.sessions.refresh(digest("r1"), tokens("2", 499.0), bounds) == user.id
        expired = await store.sessions.refresh(digest("r2"), tokens("3", 500.0), bounds)
        assert expired == frozenset()
        # Without a bound, since the provider is gone, it is over too.
        await store.sessions.open(Login(user.id, 0.0), tokens("4", 10.0), bounds)
        ended = await store.sessions.refresh(digest("r4"), tokens("5", 20.0), {})
        assert isinstance(ended, frozenset)
        assert len(ended) == 1

    run(where, work)


def test_tokens_of_others_are_ended_here(where: Where) -> None:
    async def work(store: Store) -> None:
        await store.sessions.end(digest("x"), 100.0, 10.0)
        await store.sessions.end(digest("x"), 100.0, 10.0)
        assert await store.sessions.is_ended(digest("x"))
        assert not await store.sessions.is_ended(digest("y"))
        await store.sessions.end(digest("y"), 1000.0, 200.0)
        assert not await store.sessions.is_ended(digest("x")), "it has expired by itself"

    run(where, work)
