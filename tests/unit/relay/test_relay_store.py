"""The store: group commit, isolation of failures, and what each repository promises."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from furnished import ALICE, furnish
from mep_cloud.auth import Gatekeeper, digest
from mep_cloud.errors import GroupTaken, Refusal, StoreError, StoreFails, TooManyLogins
from mep_cloud.memory import Memory
from mep_cloud.store import Store
from mep_cloud.store.database import Database
from mep_cloud.store.failures import Failures
from mep_cloud.store.records import (
    DeviceCode,
    Ending,
    NewTask,
    Presence,
    Submission,
    TokenOwner,
    User,
)
from mep_cloud.store.starts import UNUSED
from sqlalchemy import URL, Connection, text
from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    SQLAlchemyError,
)

from mep.wire import limits
from mep.wire.rest import RegisterEndpoint
from mep.wire.tasks import Failure, Result

BOB = User("bob-id", "bob@relay.local", "", "", "", False, 1.0)


Where = Path | URL


@asynccontextmanager
async def opened(where: Where) -> AsyncIterator[Store]:
    """A store with two users, an endpoint and a function."""
    store = Store(where)
    fresh = not where.exists() if isinstance(where, Path) else bool(store.missing())
    if fresh:
        store.create()
    async with store:
        if fresh:
            await furnish(store, link="mep_link")
            await store.users.add(BOB)
        yield store


def run(where: Where, work: Callable[[Store], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opened(where) as store:
            await work(store)

    asyncio.run(main())


def submission(*task_ids: str, owner: str = ALICE.id, group: str = "g") -> Submission:
    tasks = tuple(NewTask(task_id, "f", task_id.encode()) for task_id in task_ids)
    return Submission(owner, group, "e", "uep", b"{}", b"{}", b"", ("11", "00"), tasks, 5.0)


def test_a_submit_that_names_itself_is_taken_once(where: Where) -> None:
    async def work(store: Store) -> None:
        first = replace(submission("t1"), request_id="r", answer=b"first")
        assert await store.tasks.submit(first) is None
        again = replace(submission("t2"), request_id="r", answer=b"second")
        assert await store.tasks.submit(again) == b"first"
        assert [each.task_id for each in await store.tasks.unfinished(100)] == ["t1"]
        # Another person's request of the same name is another request.
        other = submission("t3", owner=BOB.id, group="bob's")
        assert await store.tasks.submit(replace(other, request_id="r", answer=b"x")) is None
        # A day later the name is free again.
        late = replace(submission("t4"), request_id="r", answer=b"late", at=5.0 + 86_401)
        assert await store.tasks.submit(late) is None

    run(where, work)


def ending(task_id: str, payload: bytes = b"r") -> Ending:
    return Ending(Result(task_id, "success", payload, None, 6.0, 7.0), 5.5, 8.0)


def test_results_are_read_as_far_as_there_is_room(where: Where) -> None:
    async def work(store: Store) -> None:
        await store.tasks.submit(submission("a", "b", "c", "d", "e"))
        await store.tasks.submit(submission("x", owner=BOB.id, group="bob's"))
        large = [ending("a", b"l" * 100), ending("c", b"l" * 100), ending("x", b"l" * 100)]
        await store.tasks.end([*large, ending("d", b"s" * 10), ending("e", b"s" * 10)])

        async def left_out(most: int | None, *task_ids: str) -> set[str]:
            found = await store.tasks.get(task_ids, ALICE.id, most=most)
            assert found.keys() == {*task_ids} - {"x"}
            for task_id, task in found.items():
                assert task.outcome == (None if task_id == "b" else "success")
                assert bool(task.result) == (task_id != "b" and not task.left_out)
            return {task_id for task_id, task in found.items() if task.left_out}

        assert await left_out(None, "a", "b", "c", "d", "e") == set()
        assert await left_out(220, "a", "b", "c", "d", "e") == set()
        assert await left_out(119, "a", "b", "c", "d", "e") == {"c", "e"}
        assert await left_out(1, "x", "b", "a", "c", "d") == {"c", "d"}, "one is read at least"

    run(where, work)


def test_one_failing_operation_does_not_touch_its_neighbours(where: Where) -> None:
    async def main() -> None:
        database = Database(where)
        database.create()
        database.open()

        def insert(key: str) -> Callable[[Connection], int]:
            row = text("INSERT INTO settings VALUES (:key, '1')")
            return lambda connection: connection.execute(row, {"key": key}).rowcount

        keys = ["a", "b", "a", "c"]
        results = await asyncio.gather(
            *(database.write(insert(key)) for key in keys), return_exceptions=True
        )
        assert [each == 1 for each in results] == [True, True, False, True]
        assert isinstance(results[2], IntegrityError)
        query = text("SELECT key FROM settings ORDER BY key")
        assert await database.read(lambda c: list(c.scalars(query))) == ["a", "b", "c"]
        await database.close()
        with pytest.raises(StoreError):
            database.write(insert("d"))

    asyncio.run(main())


def test_a_reader_whose_connection_is_lost_says_so_and_has_another(
    new_postgresql: Callable[[], URL],
) -> None:
    """The relay answers what clients try again then."""

    async def work(store: Store) -> None:
        end = text("SELECT pg_terminate_backend(pg_backend_pid())")
        with pytest.raises(StoreFails, match="cannot be used"):
            await store._database.read(lambda c: c.execute(end).all())
        assert await store.users.settings() == {}
        with pytest.raises(DBAPIError):
            await store._database.read(lambda c: c.execute(text("SELECT nothing")).all())

    run(new_postgresql(), work)


def test_a_database_that_cannot_be_listened_to(new_where: Callable[[], Where]) -> None:
    where = new_where()
    nowhere = where.set(database="nowhere") if isinstance(where, URL) else where
    with pytest.raises(StoreError, match=r"cannot be listened to|tells nobody"):
        asyncio.run(Store(nowhere).notifications())


def test_writes_are_answered_in_order(where: Where) -> None:
    async def main() -> None:
        database = Database(where)
        database.create()
        database.open()
        order: list[int] = []
        futures = []
        for number in range(1000):
            future = database.write(lambda connection, number=number: number)
            future.add_done_callback(lambda done: order.append(done.result()))
            futures.append(future)
        await asyncio.gather(*futures)
        assert order == list(range(1000))
        await database.close()

    asyncio.run(main())


def test_closing_commits_what_was_submitted(where: Where) -> None:
    async def main() -> None:
        async with opened(where) as store:
            row = text("INSERT INTO settings VALUES (:key, '1')")
            futures = [
                store._database.write(lambda c, key=key: c.execute(row, {"key": str(key)}).rowcount)
                for key in range(10)
            ]
        assert [future.result() for future in futures] == [1] * 10

    asyncio.run(main())

    async def work(store: Store) -> None:
        assert len(await store.users.settings()) == 10

    run(where, work)


def test_every_connection_to_sqlite_is_durable(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        for pragma, value in (("synchronous", 2), ("journal_mode", "wal"), ("foreign_keys", 1)):
            query = text(f"PRAGMA {pragma}")
            assert await store._database.write(lambda c, query=query: c.scalar(query)) == value
        with pytest.raises(StoreFails, match="readonly"):
            await store._database.read(lambda c: c.execute(text("DELETE FROM tasks")))

    run(tmp_path / "db", work)


def test_every_connection_to_postgresql_is_durable(new_postgresql: Callable[[], URL]) -> None:
    async def work(store: Store) -> None:
        wanted = {"synchronous_commit": "on", "default_transaction_read_only": "off"}
        for setting, value in wanted.items():
            query = text(f"SHOW {setting}")
            assert await store._database.write(lambda c, query=query: c.scalar(query)) == value
        with pytest.raises(StoreFails, match="read-only"):
            await store._database.read(lambda c: c.execute(text("DELETE FROM tasks")))

    run(new_postgresql(), work)


def test_an_error_tells_nothing_of_what_was_to_be_stored(where: Where) -> None:
    insert = text("INSERT INTO no_such_table VALUES (:payload)")

    async def work(store: Store) -> None:
        for door in (store._database.write, store._database.read):
            # Not of the database: the operation's own fault, and told as such.
            with pytest.raises(SQLAlchemyError) as caught:
                await door(lambda c: c.execute(insert, {"payload": "SECRET"}))
            assert "no_such_table" in str(caught.value)
            assert "SECRET" not in str(caught.value)

    run(where, work)


def test_a_full_database_is_told_from_a_wrong_operation(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        await store.writable()
        pages = await store._database.write(lambda c: c.scalar(text("PRAGMA page_count")))
        await store._database.write(lambda c: c.execute(text(f"PRAGMA max_page_count={pages}")))
        large = replace(submission("t"), tasks=(NewTask("t", "f", b"x" * 100_000),))
        for _ in range(2):
            with pytest.raises(StoreFails, match="full"):
                await store.tasks.submit(large)
        # What is small still fits, but that the relay takes work cannot be said.
        with pytest.raises(StoreFails, match="moment ago"):
            await store.writable()
        await store._database.write(lambda c: c.execute(text("PRAGMA max_page_count=1000000")))
        assert await store.tasks.submit(large) is None

    run(tmp_path / "db", work)


def test_that_the_relay_takes_work_is_tried_on_the_disk(where: Where) -> None:
    async def work(store: Store) -> None:
        if isinstance(where, Path):
            await store._database.write(lambda c: c.execute(text("PRAGMA query_only=ON")))
        else:
            only = text("SET default_transaction_read_only = on")
            await store._database.write(lambda c: c.execute(only))
        with pytest.raises(StoreFails, match=r"read-?only"):
            await store.writable()

    run(where, work)


def test_many_who_ask_at_once_whether_it_takes_work_cost_one_write(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        version = text("PRAGMA user_version")
        await store.writable()
        before = await store._database.read(lambda c: c.scalar(version))
        await asyncio.gather(*(store.writable() for _ in range(50)))
        assert await store._database.read(lambda c: c.scalar(version)) == before + 1

    run(tmp_path / "db", work)


def test_a_failure_is_logged_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    failures = Failures("DB", lambda: now[0])
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    error = DBAPIError("INSERT", {}, full)
    assert not failures.recent
    failures.logs = True
    for now[0], recent in ((100.0, False), (109.0, True), (110.0, True)):
        assert str(failures.failure(error)) == "The database DB cannot be used: " + str(full)
        assert failures.recent is recent
    assert len(caplog.records) == 2
    now[0] = 118.9
    assert failures.recent
    now[0] = 119.0
    assert not failures.recent
    constraint = sqlite3.IntegrityError("UNIQUE constraint failed")
    constraint.sqlite_errorcode = sqlite3.SQLITE_CONSTRAINT
    assert failures.failure(DBAPIError("INSERT", {}, constraint)) is None
    assert not failures.recent


def test_a_server_that_is_gone_is_noticed_from_each_connection(
    new_postgresql: Callable[[], URL],
) -> None:
    def timeouts(parameters: dict[str, str]) -> tuple[str, ...]:
        return parameters["tcp_user_timeout"], parameters["keepalives_idle"]

    def own(connection: Connection) -> tuple[str, ...]:
        return timeouts(connection.connection.driver_connection.info.get_parameters())

    async def work(store: Store) -> None:
        assert await store._database.write(own) == await store._database.read(own) == wanted
        async with await store.notifications() as told:
            assert timeouts(told.info.get_parameters()) == wanted

    url, wanted = new_postgresql(), ("15000", "6")
    run(url, work)
    wanted = ("7000", "6")  # what the URL says goes before
    run(url.update_query_dict({"tcp_user_timeout": "7000"}), work)


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    store = Store(tmp_path / "nothing")
    for act in (store.missing, store.migrate):
        with pytest.raises(StoreError, match="backup"):
            act()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "relay.sqlite3").write_text("not a database at all" * 100)
    with pytest.raises(StoreError, match="cannot be used"):
        run(tmp_path / "relay.sqlite3", lambda store: store.users.settings())


def test_a_task_ends_once(where: Where) -> None:
    async def work(store: Store) -> None:
        await store.tasks.submit(submission("a", "b"))
        assert await store.tasks.end([ending("a", b"first")]) == [1]
        assert await store.tasks.end([ending("a", b"second"), ending("b")]) == [2, 3]
        stored = await store.tasks.get(["a", "b", "zz"], ALICE.id)
        assert stored["a"].result == b"first"
        assert (stored["a"].dispatched, stored["a"].began, stored["a"].ended) == (5.5, 6.0, 7.0)
        assert set(stored) == {"a", "b"}
        assert await store.tasks.get(["a"], BOB.id) == {}
        assert await store.tasks.payloads(["a", "b"]) == {}

    run(where, work)


def test_unfinished_tasks_are_found_again_in_order(where: Where) -> None:
    async def first(store: Store) -> None:
        await store.tasks.submit(submission("a", "bb", "c"))
        await store.tasks.end([ending("a")])
        await store.tasks.request_cancel(["c"], 9.0)

    async def second(store: Store) -> None:
        tasks = await store.tasks.unfinished(keep_payload=1)
        assert [task.task_id for task in tasks] == ["bb", "c"]
        assert [task.payload for task in tasks] == [None, b"c"]
        assert [task.cancel_requested for task in tasks] == [False, True]
        assert tasks[0].result_serializers == ("11", "00")
        assert (tasks[0].endpoint_id, tasks[0].user_endpoint_id) == ("e", "uep")
        assert tasks[0].function_size == 4
        assert await store.tasks.payloads(["bb"]) == {"bb": b"bb"}
        assert await store.tasks.count_unfinished() == 2
        assert await store.tasks.end([ending("bb")]) == [2]  # the order of commits goes on

    run(where, first)
    run(where, second)


def test_new_results_come_after_whatever_a_stream_may_still_read(where: Where) -> None:
    async def first(store: Store) -> None:
        await store.tasks.submit(submission("a", "b", "c", "d"))
        assert await store.tasks.end([ending("a"), ending("b"), ending("c")]) == [1, 2, 3]
        await store.tasks.acknowledge([("a", ALICE.id), ("b", ALICE.id)])
        # The result of c is dropped before anybody fetched it.
        await store.expiry.drop_results(100.0, 0)

    async def second(store: Store) -> None:
        assert [each.seq for each in (await store.tasks.unacknowledged("g", 0))[0]] == [3]
        assert await store.tasks.end([ending("d")]) == [4]

    run(where, first)
    run(where, second)


def test_groups_belong_to_whoever_came_first(where: Where) -> None:
    async def work(store: Store) -> None:
        assert await store.tasks.claim_groups(["g"], ALICE.id, 1.0) == {"g": ALICE.id}
        both = {"bob's": BOB.id, "g": ALICE.id}
        assert await store.tasks.claim_groups(["g", "bob's"], BOB.id, 1.0) == both
        assert await store.tasks.claim_groups(["g", "bob's"], BOB.id, 1.0) == both
        with pytest.raises(GroupTaken):
            await store.tasks.submit(submission("b", owner=BOB.id))
        assert await store.tasks.of_group("g", ALICE.id) == []
        assert await store.tasks.group_owner("g") == ALICE.id
        assert await store.tasks.group_owner("other") is None

    run(where, work)


def test_logins_on_their_way_are_bounded(where: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mep_cloud.store.logins.MOST_CODES", 1)
    code = DeviceCode(b"one", "BCDFGHJK", "mep", "", 1.0, 10.0, 2.0)

    async def work(store: Store) -> None:
        await store.logins.begin(code)
        other = replace(code, hash=b"two", user_code="LMNPQRST")
        with pytest.raises(TooManyLogins):
            await store.logins.begin(other)
        await store.logins.begin(replace(other, created=11.0, expires=20.0))  # the first is over

    run(where, work)


def test_a_place_that_a_stream_has_read_is_not_given_away_again(where: Where) -> None:
    """What an earlier process left is read, and acknowledged, before the first new result."""

    async def before(store: Store) -> None:
        await store.tasks.submit(submission("a", "b", "c"))
        await store.tasks.end([ending("a"), ending("b")])

    async def after(store: Store) -> None:
        await store.tasks.begin()
        page, _ = await store.tasks.unacknowledged("g", 0)
        await store.tasks.acknowledge([("a", ALICE.id), ("b", ALICE.id)])
        await store.tasks.end([ending("c")])
        following, _ = await store.tasks.unacknowledged("g", page[-1].seq)
        assert [each.result.task_id for each in following] == ["c"]

    run(where, before)
    run(where, after)


def test_unacknowledged_results_come_in_pages(where: Where) -> None:
    async def work(store: Store) -> None:
        ids = [f"t{number}" for number in range(limits.BATCH_TASKS + 2)]
        await store.tasks.submit(submission(*ids))
        await store.tasks.end([ending(task_id) for task_id in reversed(ids)])
        page, more = await store.tasks.unacknowledged("g", 0)
        assert more
        assert [each.result.task_id for each in page] == ids[:1:-1]
        page, more = await store.tasks.unacknowledged("g", page[-1].seq)
        assert not more
        assert [each.result.task_id for each in page] == ["t1", "t0"]
        await store.tasks.acknowledge([("t1", ALICE.id), ("t0", BOB.id)])
        page, _ = await store.tasks.unacknowledged("g", limits.BATCH_TASKS)
        assert [each.result.task_id for each in page] == ["t0"]

    run(where, work)


def test_pages_are_bounded_in_bytes(where: Where) -> None:
    async def work(store: Store) -> None:
        await store.tasks.submit(submission("a", "b", "c"))
        big = bytes(limits.BATCH_BYTES // 2)
        await store.tasks.end([ending(task_id, big) for task_id in "abc"])
        page, more = await store.tasks.unacknowledged("g", 0)
        assert ([each.result.task_id for each in page], more) == (["a", "b"], True)

    run(where, work)


def test_failures_are_kept_whole(where: Where) -> None:
    async def work(store: Store) -> None:
        await store.tasks.submit(submission("a"))
        failure = Failure("USER_EXCEPTION", "division by zero", "Traceback...")
        result = Result("a", "failed", b"packed", failure, 1.0, 2.0)
        await store.tasks.end([Ending(result, 0.0, 3.0)])
        page, _ = await store.tasks.unacknowledged("g", 0)
        assert page[0].result == result
        assert (await store.tasks.get(["a"], ALICE.id))["a"].dispatched is None

    run(where, work)


def test_a_nul_in_a_text_does_no_harm(where: Where) -> None:
    async def work(store: Store) -> None:
        await store.tasks.submit(submission("a"))
        failure = Failure("USER_EXCEPTION", "a\0b", "Trace\0back \u00e4")
        result = Result("a", "failed", b"\0", failure, 1.0, 2.0)
        await store.tasks.end([Ending(result, 0.0, 3.0)])
        ((_, kept),) = (await store.tasks.get(["a"], ALICE.id)).items()
        assert kept.result == b"\0"
        assert kept.failure is not None
        assert kept.failure.message in ("a\0b", "a\ufffdb")
        assert kept.failure.traceback.endswith("back \u00e4")

    run(where, work)


def test_start_tokens(where: Where) -> None:
    async def work(store: Store) -> None:
        await store.tasks.submit(submission("a"))
        for name in ("one", "two", "three"):
            await store.starts.expect("uep", digest(name), f"nonce-{name}", 1.0)
        assert await store.starts.bearer(digest("none")) is None
        assert await store.starts.activate(digest("none"), 1.0) is None
        assert await store.starts.bearer(digest("one")) == "uep"
        assert await store.starts.activate(digest("two"), 1.0) == ("e", "nonce-two")
        assert await store.starts.bearer(digest("one")) is None
        assert await store.starts.activate(digest("one"), 1.0) is None
        assert await store.starts.bearer(digest("three")) == "uep"
        assert await store.starts.speaker(digest("three")) == ("e", "uep")
        await store.endpoints.remove("e", 2.0)
        assert await store.starts.bearer(digest("two")) is None

    run(where, work)


def test_a_deleted_endpoint_leaves_its_id_alone(where: Where) -> None:
    async def work(store: Store) -> None:
        registration = RegisterEndpoint("e", multi_user=True, visible_to=[BOB.id])
        await store.endpoints.update("e", registration, digest("link"), 2.0)
        await store.endpoints.heard("e", Presence(3.0, "1", "3.11", "host"))
        assert [each.id for each in await store.endpoints.list("x", shown_to=frozenset({BOB.id}))]
        await store.endpoints.remove("e", 4.0)
        # Its manager's link ends now, and what was heard last is written.
        await store.endpoints.heard("e", Presence(4.0, "1", "3.11", "host"))
        for table, count in (
            ("tokens", 0),
            ("endpoint_viewers", 0),
            ("endpoint_presence", 0),
            ("endpoints", 1),
        ):
            query = text(f"SELECT count(*) FROM {table}")
            assert await store._database.read(lambda c, query=query: c.scalar(query)) == count
        await store.endpoints.approve("e", BOB.id)
        assert await store.endpoints.approved_for("e") is None

    run(where, work)


def test_tokens_of_starts_that_came_to_nothing_are_bounded(where: Where) -> None:
    async def work(store: Store) -> None:
        await store.tasks.submit(submission("a"))
        other = replace(submission("b"), user_endpoint_id="other")
        await store.tasks.submit(other)
        await store.starts.expect("other", digest("other"), "n", 1.0)
        await store.starts.expect("uep", digest("lives"), "n", 1.0)
        assert await store.starts.activate(digest("lives"), 3.0) == ("e", "n")
        for number in range(3 * UNUSED):
            await store.starts.expect("uep", digest(f"t{number}"), f"n{number}", 2.0)
        count = text("SELECT count(*) FROM start_tokens")
        assert await store._database.read(lambda c: c.scalar(count)) == 2 + UNUSED
        for token in ("other", "lives", f"t{2 * UNUSED}", f"t{3 * UNUSED - 1}"):
            assert await store.starts.bearer(digest(token)) is not None
        assert await store.starts.bearer(digest(f"t{2 * UNUSED - 1}")) is None
        last = digest(f"t{3 * UNUSED - 1}")
        assert await store.starts.activate(last, 3.0) == ("e", f"n{3 * UNUSED - 1}")
        assert await store._database.read(lambda c: c.scalar(count)) == 2

    run(where, work)


def test_user_endpoint_record(where: Where) -> None:
    async def work(store: Store) -> None:
        await store.tasks.submit(submission("a"))
        record = await store.starts.user_endpoint("uep")
        assert (record.endpoint_id, record.key_version, record.user) == ("e", 1, ALICE)
        assert (record.options, record.runtime) == (b"{}", b"{}")

    run(where, work)


def test_usernames_are_unique(where: Where) -> None:
    async def work(store: Store) -> None:
        with pytest.raises(StoreError, match="already"):
            await store.users.add(User("other", ALICE.username, "", "", "", True, 1.0))
        for like in (ALICE.username.upper(), "\uff41" + ALICE.username[1:]):
            with pytest.raises(StoreError, match=f"{ALICE.username} already, and sites"):
                await store.users.add(User("other", like, "", "", "", True, 1.0))
        other = User("other", "bob@x", "", "", "", False, 1.0)
        await store.users.add(other)
        with pytest.raises(StoreError, match="already, and sites"):
            await store.users.rename(other.id, ALICE.username.title())
        await store.users.rename(other.id, "Bob@x")
        await store.users.rename(other.id, "robert@x")
        await store.users.add(User("another", "bob@X", "", "", "", False, 1.0))
        assert await store.users.by_username(ALICE.username) == ALICE
        assert await store.users.by_username("nobody") is None
        assert await store.users.client(ALICE.id) is None

    run(where, work)


class NobodyElse:
    """There is no other identity provider."""

    def knows(self, user: User) -> bool:
        return user.provider is None

    async def owner(self, token: str) -> TokenOwner | None:
        return None


NOBODY_ELSE = NobodyElse()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_token_expires_while_it_is_remembered(where: Where) -> None:
    async def work(store: Store) -> None:
        clock = Clock()
        gate = Gatekeeper(store, NOBODY_ELSE, clock)
        await store.users.add_token(
            digest("mep_t"), user_id=ALICE.id, label="", created=0.0, expires=10.0
        )
        assert await gate.user("Bearer mep_t") == ALICE
        assert await gate.user("bearer  mep_t ") == ALICE
        clock.now = 10.0
        with pytest.raises(Refusal) as caught:
            await gate.user("Bearer mep_t")
        assert caught.value.status == 401

    run(where, work)


def test_a_revoked_token_is_forgotten_on_demand(where: Where) -> None:
    async def work(store: Store) -> None:
        gate = Gatekeeper(store, NOBODY_ELSE)
        assert await gate.link_endpoint("Bearer mep_link") == "e"
        assert await store.sessions.revoke(digest("mep_link"), links=True)
        assert await gate.link_endpoint("Bearer mep_link") == "e"
        gate.forget_all()
        with pytest.raises(Refusal):
            await gate.link_endpoint("Bearer mep_link")

    run(where, work)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic x", "x", "Bearer \udcff"])
def test_no_bearer_token(where: Where, header: str | None) -> None:
    async def work(store: Store) -> None:
        with pytest.raises(Refusal) as caught:
            await Gatekeeper(store, NOBODY_ELSE).user(header)
        assert caught.value.code == "USER_UNAUTHENTICATED"

    run(where, work)


class Source:
    """Answers with a counter; None for the key ``nothing``."""

    def __init__(self) -> None:
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.began = asyncio.Event()

    async def __call__(self, key: str) -> int | None:
        self.asked += 1
        answer = None if key == "nothing" else self.asked
        self.began.set()
        await self.gate.wait()
        return answer


def test_memory_forgets_after_a_while() -> None:
    async def main() -> None:
        clock, source = Clock(), Source()
        memory = Memory(source, seconds=10, size=2, clock=clock)
        assert [await memory.get("a"), await memory.get("a")] == [1, 1]
        clock.now = 10.0
        assert await memory.get("a") == 2
        memory.forget("a")
        assert await memory.get("a") == 3
        assert await memory.get("nothing") is None
        assert await memory.get("nothing") is None
        assert source.asked == 5
        assert [await memory.get("b"), await memory.get("c"), await memory.get("a")] == [6, 7, 8]

    asyncio.run(main())


def test_memory_does_not_keep_an_answer_that_was_overtaken() -> None:
    async def main() -> None:
        source = Source()
        memory = Memory(source, seconds=10, size=2)
        source.gate.clear()
        asked = asyncio.ensure_future(memory.get("a"))
        await source.began.wait()
        memory.forget("a")
        source.gate.set()
        assert await asked == 1
        assert await memory.get("a") == 2

    asyncio.run(main())
