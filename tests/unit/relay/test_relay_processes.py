"""Several stores on one PostgreSQL database: whose endpoint, whose place, and who is fenced off."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from furnished import ALICE, add_endpoint, furnish
from mep_cloud.cluster.census import Census, Findings
from mep_cloud.cluster.notes import AnyNote
from mep_cloud.cluster.teller import Teller
from mep_cloud.cluster.watch import Watch
from mep_cloud.delivery.state import Call
from mep_cloud.errors import StoreError, StoreFails
from mep_cloud.hooks.sender import Sender
from mep_cloud.settings import Hooks
from mep_cloud.store import Store
from mep_cloud.store.blobs import attach
from mep_cloud.store.engines import SERVING, postgresql_engine
from mep_cloud.store.processes import shared_places
from mep_cloud.store.records import (
    Ending,
    GroupRecord,
    News,
    NewTask,
    Submission,
    Webhook,
)
from mep_cloud.store.webhooks import Batch
from sqlalchemy import URL, Connection, text

from mep.wire.tasks import Blob, Result

BOUND_S = 60


def submission(endpoint: str, *task_ids: str) -> Submission:
    tasks = tuple(NewTask(task_id, "f", b"x") for task_id in task_ids)
    return Submission(ALICE.id, "g", endpoint, f"uep-{endpoint}", b"{}", b"{}", b"", (), tasks, 2.0)


def ending(task_id: str) -> Ending:
    return Ending(Result(task_id, "success", b"r", None, 1.0, 2.0), 1.0, 3.0)


@pytest.fixture
def url(new_postgresql: Callable[[], URL]) -> URL:
    where = new_postgresql()
    Store(where).create()
    return where


class Process:
    """A store that is shared, and its number."""

    def __init__(self, url: URL) -> None:
        self.store = Store(url)
        self.lost = self.store.serve(shared=True)
        self.number = 0

    async def watch(self, found: list[Findings], lease_s: float = 10) -> Watch:
        def hear(_: AnyNote) -> None:
            return None

        listening = await self.store.notifications()
        return Watch(listening, Census(self.number, lease_s), hear, found.append)


@asynccontextmanager
async def processes(url: URL, count: int = 2) -> AsyncIterator[list[Process]]:
    made = [Process(url) for _ in range(count)]
    for each in made:
        each.number = await each.store.processes.join("http://one", b"seal")
    try:
        store = made[0].store
        await furnish(store)
        await add_endpoint(store, "d", ALICE, "other")
        yield made
    finally:
        for each in made:
            await each.store.close()


def run(url: URL, work: Callable[[Process, Process], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(BOUND_S), processes(url) as (one, two):
            await work(one, two)

    asyncio.run(within())


async def fence(one: Process, two: Process) -> None:
    """As one does with two when that shows no life."""
    found: list[Findings] = []
    watch = await one.watch(found, lease_s=-1)
    await watch.turn()
    assert found[0].to_fence == ()
    await watch.turn()
    assert found[1].to_fence == (two.number,)
    while two.number not in found[-1].dead:
        await watch.turn()
    await watch.close()


def test_an_endpoint_is_one_processs_until_that_is_gone(url: URL) -> None:
    async def work(one: Process, two: Process) -> None:
        mine = await one.store.processes.claim(["d", "e"], one.number)
        assert {each: owner.number for each, owner in mine.items()} == {
            "d": one.number,
            "e": one.number,
        }
        theirs = await two.store.processes.claim(["e"], two.number)
        assert theirs["e"].number == one.number
        assert not await two.store.processes.bury(one.number, ())
        await one.store.processes.leave(one.number, ())
        theirs = await two.store.processes.claim(["e"], two.number)
        assert theirs["e"].number == two.number

    run(url, work)


def test_work_that_is_nobodys_is_adopted_once(url: URL) -> None:
    async def work(one: Process, two: Process) -> None:
        await one.store.tasks.submit(submission("d", "a", "b"))
        await one.store.tasks.submit(submission("e", "c"))
        await one.store.processes.claim(["d"], one.number)
        assert await two.store.processes.adopt(two.number) == ["e"]
        assert await one.store.processes.adopt(one.number) == []
        await one.store.tasks.end([ending("a"), ending("b")])
        await one.store.processes.leave(one.number, ())
        assert await two.store.processes.adopt(two.number) == []

    run(url, work)


def test_both_adopt_at_once(url: URL) -> None:
    async def work(one: Process, two: Process) -> None:
        await one.store.tasks.submit(submission("d", "a"))
        await one.store.tasks.submit(submission("e", "b"))
        adopted = await asyncio.gather(
            one.store.processes.adopt(one.number), two.store.processes.adopt(two.number)
        )
        assert sorted(each for part in adopted for each in part) == ["d", "e"]

    run(url, work)


def test_a_process_without_a_sign_of_life_can_write_nothing_more(url: URL) -> None:
    async def work(one: Process, two: Process) -> None:
        await two.store.processes.claim(["e"], two.number)
        await two.store.tasks.submit(submission("e", "a"))
        await fence(one, two)
        assert await one.store.processes.bury(two.number, ())
        assert await one.store.processes.adopt(one.number) == ["e"]
        with pytest.raises(StoreFails, match="was lost"):
            await two.store.tasks.end([ending("a")])
        assert "was lost" in await two.lost
        with pytest.raises(StoreError):
            await two.store.tasks.end([ending("a")])
        assert await one.store.tasks.unended(["a"]) == {"a"}
        found: list[Findings] = []
        watch = await two.watch(found)
        with pytest.raises(StoreError, match="took this one for dead"):
            await watch.turn()
        await watch.close()

    run(url, work)


def test_what_a_stopped_process_has_locked_is_free_once_it_is_fenced(url: URL) -> None:
    """It was stopped in the middle of a transaction that takes places in the order of commits."""

    async def work(one: Process, two: Process) -> None:
        await one.store.tasks.submit(submission("e", "a"))
        engine = two.store._database._engines[0]
        pid = text("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = :number")
        with engine.connect() as connection:
            assert connection.scalar(pid, {"number": two.number})
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()

        def stop(connection: Any) -> None:
            shared_places(connection, 1)
            loop.call_soon_threadsafe(stopped.set)
            connection.execute(text("SELECT pg_sleep(60)"))

        stuck = two.store._database.write(stop)
        await stopped.wait()
        waiting = asyncio.create_task(one.store.tasks.end([ending("a")]))
        await fence(one, two)
        assert len(await waiting) == 1
        with pytest.raises(StoreFails, match="was lost"):
            await stuck

    run(url, work)


def test_places_are_visible_in_their_order(url: URL) -> None:
    """A reader that sees a place sees all before it, whoever commits them."""
    count = 150

    async def work(one: Process, two: Process) -> None:
        names = {"d": one, "e": two}
        ids = {name: [f"{name}{number}" for number in range(count)] for name in names}
        for name, process in names.items():
            await process.store.tasks.submit(submission(name, *ids[name]))
        seen: list[int] = []
        done = asyncio.Event()

        async def read() -> None:
            while len(seen) < 2 * count:
                batch, _ = await one.store.tasks.unacknowledged("g", seen[-1] if seen else 0)
                seen.extend(each.seq for each in batch)
            done.set()

        async def end(name: str, process: Process) -> None:
            for task_id in ids[name]:
                await process.store.tasks.end([ending(task_id)])

        await asyncio.gather(read(), *(end(*each) for each in names.items()))
        assert seen == sorted(seen)
        assert len(set(seen)) == 2 * count

    run(url, work)


def test_the_same_submit_by_two_processes_is_taken_once(url: URL) -> None:
    async def work(one: Process, two: Process) -> None:
        made = [
            replace(submission("e", name), request_id="r", answer=name.encode())
            for name in ("a", "b")
        ]
        answers = await asyncio.gather(
            one.store.tasks.submit(made[0]), two.store.tasks.submit(made[1])
        )
        assert sorted(map(bool, answers)) == [False, True]
        assert len(await one.store.tasks.of_group("g", ALICE.id)) == 1

    run(url, work)


def test_one_that_serves_alone_keeps_the_others_out_and_is_kept_out(url: URL) -> None:
    """Both wait for 20 seconds before they are refused; here nobody waits."""
    engine = postgresql_engine(url, writable=True, pool_size=1)

    def free(lock: str) -> bool:
        with engine.connect() as connection:
            got = bool(connection.scalar(text(f"SELECT {lock}(:key)"), {"key": SERVING}))
            connection.execute(text("SELECT pg_advisory_unlock_all()"))
        return got

    async def only() -> None:
        store = Store(url)
        store.serve()
        assert not free("pg_try_advisory_lock_shared")
        await store.close()

    async def several(_one: Process, _two: Process) -> None:
        assert not free("pg_try_advisory_lock")
        assert free("pg_try_advisory_lock_shared")

    try:
        asyncio.run(only())
        run(url, several)
        # The server ends a connection a little after its client has.
        deadline = time.monotonic() + BOUND_S
        while not free("pg_try_advisory_lock"):
            assert time.monotonic() < deadline
    finally:
        engine.dispose()


def test_places_go_on_where_a_single_process_ended(url: URL) -> None:
    async def work() -> None:
        store = Store(url)
        store.serve()
        await furnish(store)
        await store.tasks.submit(submission("e", "a", "b", "c"))
        assert await store.tasks.end([ending("a"), ending("b")]) == [1, 2]
        await store.close()
        process = Process(url)
        process.number = await process.store.processes.join("http://one", b"seal")
        assert await process.store.tasks.end([ending("c")]) == [3]
        await process.store.close()

    asyncio.run(work())


def test_the_only_process_tells_nobody() -> None:
    teller = Teller()
    assert teller.submitted("e", ["a"]) == []
    assert teller.ended(["g"]) == []
    teller.forget("tokens", None)
    asyncio.run(teller.close())


def test_a_webhook_of_another_process_counts_once_it_is_told_of(url: URL) -> None:
    async def work(one: Process, two: Process) -> None:
        told: list[str] = []
        senders = [
            Sender(
                each.store.webhooks, Hooks(), b"m" * 32, lambda: 1.0, told=lambda: told.append("")
            )
            for each in (one, two)
        ]
        for sender in senders:
            await sender.start()
        hook = Webhook("hook", ALICE.id, "https://receiver.example/", None, 1.0)
        assert await one.store.webhooks.add(hook, 1)
        senders[0].added(hook)
        assert told
        call = Call("a", "f", 4, "g", b"", 0, owner=ALICE.id)
        endings = [(call, Result("a", "success", b"r"))]
        assert senders[1].news(endings, 1.0) == []
        senders[1].changed()
        while not senders[1].news(endings, 1.0):
            await asyncio.sleep(0.01)
        for sender in senders:
            await sender.close()

    run(url, work)


def test_a_webhook_is_one_processs_at_a_time(url: URL) -> None:
    """Whichever asks first sends; the other asks again when that should be done."""
    count = 20

    async def work(one: Process, two: Process) -> None:
        hooks = [
            Webhook(f"hook{n}", ALICE.id, "https://r.example/", None, 1.0) for n in range(count)
        ]
        await one.store.tasks.submit(submission("e", "a"))
        for hook in hooks:
            await one.store.webhooks.add(hook, count)
        news = [News(hook.id, "a", "g", "success", 2.0, 2.0) for hook in hooks]
        await one.store.tasks.end([ending("a")], news)
        for hook in hooks:
            claims = await asyncio.gather(
                *(each.store.webhooks.claim(hook.id, 10.0, 60.0) for each in (one, two))
            )
            assert sorted(isinstance(claim, Batch) for claim in claims) == [False, True]

    run(url, work)


def test_an_upload_that_is_submitted_at_the_last_moment_is_not_removed(url: URL) -> None:
    """One process sweeps while the other takes the submit."""
    blob = Blob("blob", 1, "ab" * 32)

    async def work(one: Process, two: Process) -> None:
        await one.store.blobs.begin("blob", ALICE.id, "arguments", 1, None, 1.0, 10.0, 0)
        assert await one.store.blobs.complete(blob, None, 10.0)
        loop = asyncio.get_running_loop()
        attached, swept = asyncio.Event(), threading.Event()

        def submit(connection: Connection) -> None:
            attach(connection, ALICE.id, {"task": blob})
            loop.call_soon_threadsafe(attached.set)
            assert swept.wait(BOUND_S)

        submitting = two.store._database.write(submit)
        await attached.wait()
        sweeping = asyncio.create_task(one.store.blobs.claim_free(20.0))
        waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        while not sweeping.done():
            if await one.store._database.read(lambda c: c.scalar(waits)):
                break
        swept.set()
        await submitting
        assert await sweeping == []
        assert await one.store.blobs.claim_free(20.0) == []

    run(url, work)


def test_a_group_keeps_a_manager_though_both_leave_at_once(url: URL) -> None:
    bob = replace(ALICE, id="bob-id", username="bob@relay.local")
    begun = [threading.Event(), threading.Event()]

    async def work(one: Process, two: Process) -> None:
        await one.store.users.add(bob)
        await one.store.groups.add(GroupRecord("g", "g", "", 1.0), ALICE.id)
        await one.store.groups.put("g", bob.id, "manager")

        def meet(_: Connection) -> None:
            for each in begun:
                each.wait(BOUND_S)

        leaving = []
        for process, who, mine in zip((one, two), (ALICE.id, bob.id), begun, strict=True):
            process.store._database.write(lambda _, mine=mine: mine.set())
            process.store._database.write(meet)
            leaving.append(process.store.groups.drop("g", who))
        answers = await asyncio.gather(*leaving, return_exceptions=True)
        assert sorted(type(each).__name__ for each in answers) == ["LastManager", "bool"]
        assert len(await one.store.groups.members("g")) == 1

    run(url, work)


@pytest.mark.parametrize("first", ["put", "remove"])
def test_a_member_is_added_while_another_process_removes_the_group(url: URL, first: str) -> None:
    bob = replace(ALICE, id="bob-id", username="bob@relay.local")
    waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")

    async def work(one: Process, two: Process) -> None:
        await one.store.users.add(bob)
        await one.store.groups.add(GroupRecord("g", "g", "", 1.0), ALICE.id)
        loop = asyncio.get_running_loop()
        done, queued, over = asyncio.Event(), threading.Event(), threading.Event()

        def put(process: Process) -> Awaitable[object]:
            return process.store.groups.put("g", bob.id, "member")

        def remove(process: Process) -> Awaitable[object]:
            return process.store.groups.remove("g")

        def hold(_: Connection) -> None:
            loop.call_soon_threadsafe(done.set)
            assert over.wait(BOUND_S)

        # What comes while the writer is busy is one transaction, which is held open.
        one.store._database.write(lambda _: queued.wait(BOUND_S))
        acts = (put, remove) if first == "put" else (remove, put)
        earlier = asyncio.ensure_future(acts[0](one))
        await asyncio.sleep(0)
        held = one.store._database.write(hold)
        queued.set()
        await done.wait()
        later = asyncio.ensure_future(acts[1](two))
        while not await one.store._database.read(lambda c: c.scalar(waits)):
            await asyncio.sleep(0.01)
        over.set()
        await held
        answers = [await earlier, await later]
        assert answers == ([True, None] if first == "put" else [None, False])
        assert await one.store.groups.get("g", bob.id) is None

    run(url, work)


def test_who_adopts_and_who_claims_do_not_wait_for_each_other(url: URL) -> None:
    """After a process has died, its endpoints' managers are back at once, at any of the others."""
    names = [f"e{number:02}" for number in range(50)]
    new = text("INSERT INTO homes VALUES (:name, :process, false, false) ON CONFLICT DO NOTHING")
    waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")

    async def work(one: Process, two: Process) -> None:
        for name in reversed(names):
            await add_endpoint(one.store, name, ALICE, name)
            await one.store.tasks.submit(submission(name, f"t-{name}"))
        # As the planner does where there is much.
        hashes = text("SET enable_sort = off")
        await one.store._database.write(lambda c: c.execute(hashes))
        loop = asyncio.get_running_loop()
        begun, adopts = asyncio.Event(), threading.Event()

        def claim(connection: Connection) -> None:
            for name in names:
                connection.execute(new, {"name": name, "process": two.number})
                loop.call_soon_threadsafe(begun.set)
                assert adopts.wait(BOUND_S)

        claiming = two.store._database.write(claim)
        await begun.wait()
        adopting = asyncio.create_task(one.store.processes.adopt(one.number))
        while not await one.store._database.read(lambda c: c.scalar(waits)):
            await asyncio.sleep(0.01)
        adopts.set()
        await claiming
        assert await adopting == []

    run(url, work)
