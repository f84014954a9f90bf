"""Task groups and user endpoints: held by whoever needs them, forgotten when nothing does."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from furnished import ALICE, furnish
from mep_cloud.auth import digest
from mep_cloud.errors import GroupTaken
from mep_cloud.store import Store, parents
from mep_cloud.store.database import Database
from mep_cloud.store.prepared import Prepared
from mep_cloud.store.records import Ending, NewTask, Submission, User
from mep_cloud.store.schema import task_groups
from sqlalchemy import URL, Connection, Engine, event, insert, text

from mep.wire.tasks import Result

Where = Path | URL

BOB = User("bob-id", "bob@relay.local", "", "", "", False, 1.0)
T0 = 1_000_000.0
DAY_S = 24 * 3600.0
BOUND_S = 60


def submission(
    *task_ids: str, owner: str = ALICE.id, group: str = "g", uep: str = "uep", at: float = T0
) -> Submission:
    tasks = tuple(NewTask(task_id, "f", task_id.encode()) for task_id in task_ids)
    return Submission(owner, group, "e", uep, b"{}", b"{}", b"", (), tasks, at)


def ending(task_id: str, at: float = T0) -> Ending:
    return Ending(Result(task_id, "success", b"r", None, at, at), at, at)


def run(where: Where, work: Callable[[Store], Awaitable[None]]) -> None:
    async def main() -> None:
        store = Store(where)
        store.create()
        async with asyncio.timeout(BOUND_S), store:
            await furnish(store)
            await store.users.add(BOB)
            await work(store)

    asyncio.run(main())


async def there(store: Store, table: str) -> set[str]:
    query = text(f"SELECT id FROM {table}")
    return set(await store._database.read(lambda connection: connection.scalars(query).all()))


async def used(store: Store, table: str, key: str) -> float:
    query = text(f"SELECT used FROM {table} WHERE id = :key")
    return float(await store._database.read(lambda c: c.execute(query, {"key": key}).scalar_one()))


async def forget(store: Store, used_before: float, now: float) -> None:
    while await store.expiry.forget_groups(used_before, now):
        pass
    while await store.expiry.forget_user_endpoints(used_before, now):
        pass


async def over(store: Store, *task_ids: str) -> None:
    """These tasks have ended, and nothing is known of them any more."""
    await store.tasks.end([ending(each) for each in task_ids])
    await store.expiry.drop_results(T0 + DAY_S, 0)
    await store.expiry.forget(T0 + DAY_S)


def test_what_nothing_refers_to_is_forgotten(where: Where) -> None:
    async def work(store: Store) -> None:
        await store.tasks.submit(submission("over", group="over", uep="over"))
        await store.tasks.submit(submission("dropped", group="dropped", uep="dropped"))
        await store.starts.expect("over", digest("token"), "nonce", T0)
        await store.tasks.end([ending("over"), ending("dropped")])
        await store.expiry.drop_results(T0 + 1, 0)
        await store.tasks.submit(submission("live", group="live", uep="live"))
        await store.tasks.submit(submission("young", group="young", uep="young", at=T0 + 10))
        await store._database.write(
            lambda c: c.execute(text("DELETE FROM expired_tasks WHERE task_id = 'over'"))
        )
        await forget(store, T0, T0 + 20)
        assert await there(store, "task_groups") == {"over", "dropped", "live", "young"}
        assert await store.starts.bearer(digest("token")) == "over"
        await forget(store, T0 + 5, T0 + 20)
        # A user endpoint is not needed once the record of its tasks is short; a group is.
        assert await there(store, "task_groups") == {"dropped", "live", "young"}
        assert await there(store, "user_endpoints") == {"live", "young"}
        assert await store.starts.bearer(digest("token")) is None
        # What is needed is looked at again when it may be old again, not at each sweep.
        assert await used(store, "task_groups", "live") == T0 + 20
        assert await used(store, "task_groups", "young") == T0 + 10
        assert await store.tasks.get(["live"], ALICE.id) != {}

    run(where, work)


def test_what_is_from_before_its_use_was_known_is_taken_for_new(where: Where) -> None:
    async def work(store: Store) -> None:
        await store.tasks.claim_groups(["old"], ALICE.id, T0)
        await store._database.write(lambda c: c.execute(text("UPDATE task_groups SET used = 0")))
        await forget(store, T0, T0 + 7)
        assert await used(store, "task_groups", "old") == T0 + 7
        await forget(store, T0 + 8, T0 + 9)
        assert await there(store, "task_groups") == set()

    run(where, work)


def test_many_are_forgotten_in_steps(where: Where) -> None:
    async def work(store: Store) -> None:
        count = 2 * parents.STEP + 3
        names = [f"group-{number}" for number in range(count)]
        await store.tasks.claim_groups(names, ALICE.id, T0)
        await store.tasks.submit(submission("t", group=names[0]))
        steps = [await store.expiry.forget_groups(T0 + 1, T0 + 2) for _ in range(3)]
        assert steps == [True, True, False]
        assert await there(store, "task_groups") == {names[0]}

    run(where, work)


def test_what_is_held_stays_fresh_and_is_written_once_an_hour(where: Where) -> None:
    async def work(store: Store) -> None:
        await store.tasks.submit(submission("a"))
        for later, fresh in ((1800, 0), (3600, 0), (7300, 7300), (7400, 7300)):
            await store.tasks.submit(submission(f"t{later}", at=T0 + later))
            for table, key in (("task_groups", "g"), ("user_endpoints", "uep")):
                assert await used(store, table, key) == T0 + fresh
        # A clock that was set back shortens nothing.
        await store.tasks.submit(submission("back", at=T0 - DAY_S))
        assert await used(store, "task_groups", "g") == T0 + 7300
        await store.tasks.claim_groups(["g"], ALICE.id, T0 + DAY_S)
        assert await used(store, "task_groups", "g") == T0 + DAY_S
        await store.expiry.keep(["g", "x"], ["uep"], T0 + DAY_S + 1800)
        assert await used(store, "task_groups", "g") == T0 + DAY_S
        assert await used(store, "user_endpoints", "uep") == T0 + DAY_S + 1800
        assert await there(store, "task_groups") == {"g"}

    run(where, work)


def test_a_link_that_opens_keeps_its_user_endpoint(where: Where) -> None:
    async def work(store: Store) -> None:
        await store.tasks.submit(submission("t"))
        await store.starts.expect("uep", digest("token"), "nonce", T0)
        await over(store, "t")
        assert await store.starts.activate(digest("token"), T0 + DAY_S) == ("e", "nonce")
        await forget(store, T0 + DAY_S, T0 + DAY_S)
        assert await store.starts.bearer(digest("token")) == "uep"
        await forget(store, T0 + DAY_S + 1, T0 + DAY_S)
        assert await store.starts.activate(digest("token"), T0 + DAY_S) is None

    run(where, work)


def test_a_forgotten_group_is_whoevers_comes_first_and_shows_nothing_of_before(
    where: Where,
) -> None:
    async def work(store: Store) -> None:
        await store.tasks.submit(submission("hers"))
        await store.tasks.end([ending("hers")])
        await store.expiry.drop_results(T0 + 1, 0)
        await forget(store, T0 + 1, T0 + 1)
        # Streams of the group tell of her result still, so it is hers.
        with pytest.raises(GroupTaken):
            await store.tasks.submit(submission("his", owner=BOB.id, at=T0 + DAY_S))
        await store.expiry.forget(T0 + 1)
        await forget(store, T0 + 2, T0 + 2)
        late = T0 + 2 * DAY_S
        await store.tasks.submit(submission("his", owner=BOB.id, uep="bob's", at=late))
        await store.tasks.end([ending("his", late)])
        assert await store.tasks.of_group("g", BOB.id) == ["his"]
        assert await store.tasks.of_group("g", ALICE.id) == []
        assert await store.tasks.newest(ALICE.id, "g", 10) == []
        batch, _ = await store.tasks.unacknowledged("g", 0)
        assert [each.result.task_id for each in batch] == ["his"]
        assert await store.tasks.claim_groups(["g"], ALICE.id, late) == {"g": BOB.id}
        with pytest.raises(GroupTaken):
            await store.tasks.submit(submission("again", at=late))

    run(where, work)


class AtStatement:
    """Does something before the `number`th statement of a transaction over these tables."""

    def __init__(self, engine: Engine, number: int, act: Callable[[], object]) -> None:
        self.left = number
        self._act = act
        event.listen(engine, "before_cursor_execute", self._before)

    def _before(self, _c: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if not any(name in statement for name in ("task_groups", "user_endpoints", "tasks")):
            return
        self.left -= 1
        if self.left == 0:
            self._act()


def sweep_elsewhere(
    engine: Engine, step: Callable[[Connection, float, float], bool], now: float
) -> None:
    """As another process does; it must not wait for a transaction that waits for it here."""
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL lock_timeout = '2s'"))
        step(connection, now - DAY_S, now)


STATEMENTS = 5
"""Of a submit to an old task group and an old user endpoint: two for each, and the tasks."""


@pytest.mark.parametrize("number", range(1, STATEMENTS + 1))
def test_the_sweep_at_any_moment_of_a_submit(
    new_postgresql: Callable[[], URL], number: int
) -> None:
    """Another process sweeps what an executor of long ago submits to."""
    url = new_postgresql()
    late = T0 + 200 * DAY_S

    async def work(store: Store) -> None:
        await store.tasks.submit(submission("old"))
        await over(store, "old")
        other = Database(url)._engine(writable=True)

        def sweep() -> None:
            for step in (parents.forget_groups, parents.forget_user_endpoints):
                sweep_elsewhere(other, step, late)

        at = AtStatement(store._database._engines[0], number, sweep)
        assert await store.tasks.submit(submission("new", at=late)) is None
        assert at.left <= 0, "the sweep has run"
        assert [each.task_id for each in await store.tasks.unfinished(100)] == ["new"]
        assert await used(store, "task_groups", "g") == late
        assert await used(store, "user_endpoints", "uep") == late
        await store.starts.user_endpoint("uep")
        sweep()
        other.dispose()
        assert await store.tasks.of_group("g", ALICE.id) == ["new"]

    run(url, work)


@pytest.mark.parametrize("owner", [ALICE.id, BOB.id])
def test_another_process_makes_the_group_at_the_same_time(
    new_postgresql: Callable[[], URL], owner: str
) -> None:
    url = new_postgresql()

    async def work(store: Store) -> None:
        other = Database(url)._engine(writable=True)

        def make() -> None:
            with other.begin() as connection:
                parents.hold_group(connection, "g", owner, T0)

        AtStatement(store._database._engines[0], 2, make)
        submitting = store.tasks.submit(submission("t"))
        if owner == ALICE.id:
            assert await submitting is None
        else:
            with pytest.raises(GroupTaken):
                await submitting
        other.dispose()
        assert await store.tasks.group_owner("g") == owner

    run(url, work)


def test_a_submit_that_the_database_gives_up_in_a_deadlock_is_taken_all_the_same(
    new_postgresql: Callable[[], URL],
) -> None:
    """Two processes make the same rows in another order."""
    url = new_postgresql()

    async def work(store: Store) -> None:
        other = Database(url)._engine(writable=True)
        both = threading.Barrier(2, timeout=BOUND_S)

        def elsewhere() -> None:
            with other.begin() as connection:
                # So the store's own transaction is given up, after the usual second.
                connection.execute(text(f"SET LOCAL deadlock_timeout = '{BOUND_S}s'"))
                parents.hold_user_endpoint(connection, submission("x"))
                both.wait()
                parents.hold_group(connection, "g", ALICE.id, T0)

        # After the group is made, before the user endpoint is looked for.
        at = AtStatement(store._database._engines[0], 3, both.wait)
        submitting = store.tasks.submit(submission("new"))
        await asyncio.gather(asyncio.to_thread(elsewhere), submitting)
        other.dispose()
        assert at.left < -1, "it was run again"
        assert [each.task_id for each in await store.tasks.unfinished(100)] == ["new"]

    run(url, work)


def test_a_submit_waits_for_the_sweep_that_removes_its_group(
    new_postgresql: Callable[[], URL],
) -> None:
    url = new_postgresql()
    late = T0 + 200 * DAY_S

    async def work(store: Store) -> None:
        await store.tasks.submit(submission("old"))
        await over(store, "old")
        other = Database(url)._engine(writable=True)
        waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        with other.begin() as connection:
            parents.forget_groups(connection, late - DAY_S, late)
            parents.forget_user_endpoints(connection, late - DAY_S, late)
            submitting = asyncio.ensure_future(store.tasks.submit(submission("new", at=late)))
            while not await store._database.read(lambda c: c.scalar(waits)):
                assert not submitting.done()
        assert await submitting is None
        other.dispose()
        assert [each.task_id for each in await store.tasks.unfinished(100)] == ["new"]

    run(url, work)


def test_a_sweep_passes_over_what_a_link_is_opening(new_postgresql: Callable[[], URL]) -> None:
    url = new_postgresql()
    late = T0 + 200 * DAY_S

    async def work(store: Store) -> None:
        await store.tasks.submit(submission("old"))
        await store.starts.expect("uep", digest("token"), "nonce", T0)
        await over(store, "old")
        other = Database(url)._engine(writable=True)

        def sweep() -> None:
            sweep_elsewhere(other, parents.forget_user_endpoints, late)

        AtStatement(store._database._engines[0], 2, sweep)
        assert await store.starts.activate(digest("token"), late) == ("e", "nonce")
        other.dispose()
        assert await used(store, "user_endpoints", "uep") == late
        assert await store.starts.bearer(digest("token")) == "uep"

    run(url, work)


def test_rows_by_place_are_in_the_tables_order(where: Where) -> None:
    async def work(store: Store) -> None:
        wrong = Prepared(insert(task_groups), ("owner", "id", "created", "used"))
        with pytest.raises(ValueError, match="in the order of"):
            await store._database.write(lambda c: wrong.run(c, [("o", "i", 1.0, 1.0)]))

    run(where, work)
