"""Time-to-live and retention over a real store, with a clock of the test's own."""

import asyncio
import hashlib
import math
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from furnished import ALICE, furnish
from mep_cloud.auth import Provider, digest
from mep_cloud.blobs.directory import Directory, NewFile
from mep_cloud.blobs.keeper import Announced, Keeper
from mep_cloud.delivery import events
from mep_cloud.delivery.state import Call
from mep_cloud.errors import BlobGone, Refusal, StoreFails
from mep_cloud.hub import Hub
from mep_cloud.ids import new_ids
from mep_cloud.outbox import Outbox
from mep_cloud.publisher import Subscriber
from mep_cloud.settings import Blobs, Limits
from mep_cloud.store import Store
from mep_cloud.store import expiry as expiry_module
from mep_cloud.store.blobs import Kind
from mep_cloud.store.expiry import LATE_S
from mep_cloud.store.logins import Poll
from mep_cloud.store.parents import SPARED_S
from mep_cloud.store.records import (
    Action,
    DeviceCode,
    Ending,
    FunctionRecord,
    Login,
    News,
    NewTask,
    NewTokens,
    StoredTask,
    Submission,
)
from mep_cloud.store.sessions import GRACE_S
from mep_cloud.store.tasks import Tasks
from mep_cloud.streams import Streams
from mep_cloud.sweeper import Sweeper
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from mep.wire.tasks import Blob, Result

T0 = 1_000_000.0
BOUNDS = Limits(task_ttl_s=100.0, result_retention_s=200.0, record_retention_s=10_000.0)
LATE = 200.0 + 3600.0
"""The retention, and what clocks of nodes may differ by."""


class World:
    """A store, a hub and a sweeper over one clock."""

    def __init__(self, store: Store, directory: Directory) -> None:
        self.now = T0
        self.store = store
        self.hub = Hub(store, b"m" * 32, Provider("p", "relay.local"), BOUNDS, lambda: self.now)
        self.blobs = Keeper(store.blobs, directory, Blobs(keep_free=0), lambda: self.now)
        self.streams = Streams()
        self.sweeper = Sweeper(store, self.hub, BOUNDS, self.blobs, self.streams, lambda: self.now)

    async def submit(self, *task_ids: str, group: str = "g") -> None:
        tasks = tuple(NewTask(task_id, "f", b"x") for task_id in task_ids)
        await self.store.tasks.submit(
            Submission(ALICE.id, group, "e", "uep", b"{}", b"{}", b"", (), tasks, self.now)
        )
        calls = tuple(Call(task_id, "f", 4, group, b"x", 1) for task_id in task_ids)
        self.hub.apply(events.TasksSubmitted("e", "uep", calls))

    async def end(self, *task_ids: str, ended: float = 0.0) -> None:
        self.hub.apply(events.EndpointOpened(1, "e", "uep", "n", 0, task_ids))
        results = tuple(Result(each, "success", b"r", None, 0.0, ended) for each in task_ids)
        self.hub.apply(events.ResultsArrived(1, results))
        await self.settled()
        self.hub.apply(events.EndpointClosed(1))

    async def settled(self) -> None:
        """What the hub has begun is done."""
        while self.hub._jobs:
            await asyncio.wait(self.hub._jobs)

    async def sweep(self, seconds: float) -> None:
        self.now += seconds
        await self.sweeper.sweep()
        await self.settled()

    async def status(self, task_id: str) -> StoredTask | None:
        return (await self.store.tasks.get([task_id], ALICE.id)).get(task_id)

    async def count(self, table: str) -> int:
        query = text(f"SELECT count(*) FROM {table}")
        return int(await self.store._database.read(lambda c: c.execute(query).scalar_one()))

    async def code(self, task_id: str) -> str:
        task = await self.status(task_id)
        assert task is not None
        assert task.failure is not None
        return task.failure.code


class Unsent:
    """An outbox that keeps nothing."""

    def put(self, item: object) -> None:
        pass


def run(path: Path, work: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        store = Store(path / "relay.sqlite3")
        store.create()
        async with store:
            await furnish(store)
            directory = Directory(path / "blobs")
            directory.prepare()
            await work(World(store, directory))

    asyncio.run(main())


class Full(Tasks):
    """The disk takes nothing, so many times."""

    def __init__(self, store: Store, times: float) -> None:
        super().__init__(store._database)
        self._times = times
        self.tries = 0

    async def end(
        self, endings: Sequence[Ending], news: Sequence[News] = (), notes: Sequence[str] = ()
    ) -> list[int]:
        self.tries += 1
        if self.tries <= self._times:
            raise OperationalError("UPDATE", {}, sqlite3.OperationalError("disk is full"))
        return await super().end(endings, news, notes)


class NeverStores(Tasks):
    """The disk takes no result."""

    async def end(
        self, endings: Sequence[Ending], news: Sequence[News] = (), notes: Sequence[str] = ()
    ) -> list[int]:
        raise StoreFails("disk is full")


def test_a_task_that_ends_here_while_the_disk_is_full_has_ended_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody sends such an end again, and somebody waits for it."""
    monkeypatch.setattr("mep_cloud.hub.STORE_RETRY_S", 0.01)

    async def work(world: World) -> None:
        world.store.tasks = Full(world.store, 2)
        await world.submit("a")
        world.hub.apply(events.EndpointRemoved("e"))
        async with asyncio.timeout(10):
            while world.hub.delivery.unfinished():
                await asyncio.sleep(0.01)
        assert await world.code("a") == "ENDPOINT_NOT_FOUND"

    run(tmp_path, work)


def test_nothing_is_tried_again_by_a_hub_that_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may have the task by then; or this one again, after a restart."""
    monkeypatch.setattr("mep_cloud.hub.STORE_RETRY_S", 0.0)

    async def work(world: World) -> None:
        world.store.tasks = full = Full(world.store, math.inf)
        await world.submit("a")
        world.hub.apply(events.EndpointRemoved("e"))
        async with asyncio.timeout(10):
            while full.tries < 3:
                await asyncio.sleep(0)
        await world.hub.close()
        tries = full.tries
        for _ in range(100):
            await asyncio.sleep(0)
        assert full.tries == tries

    run(tmp_path, work)


def test_a_task_fails_when_its_time_is_over_and_not_before(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.submit("old")
        world.now += 60
        await world.submit("young")
        await world.sweep(39)
        assert world.hub.delivery.unfinished() == 2
        await world.sweep(2)
        assert await world.code("old") == "TASK_EXPIRED"
        assert world.hub.delivery.task_state("young") is not None
        await world.sweep(60)
        assert await world.code("young") == "TASK_EXPIRED"
        assert world.hub.delivery.unfinished() == 0

    run(tmp_path, work)


def test_a_result_lives_as_long_as_the_retention_fetched_or_not(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.submit("fetched", "unfetched")
        await world.end("fetched", "unfetched")
        await world.store.tasks.acknowledge([("fetched", ALICE.id)])
        await world.sweep(LATE)
        for task_id in ("fetched", "unfetched"):
            task = await world.status(task_id)
            assert task is not None
            assert (task.outcome, task.result) == ("success", b"r")
        await world.sweep(1)
        for task_id in ("fetched", "unfetched"):
            assert await world.code(task_id) == "RESULT_EXPIRED"
        assert await world.store.tasks.of_group("g", ALICE.id) == ["fetched", "unfetched"]
        assert await world.store.tasks.origin("fetched") is None
        assert await world.store.tasks.owned(["fetched", "x"], ALICE.id) == {"fetched"}
        assert await world.store.tasks.owned(["fetched"], "somebody") == set()
        await world.sweep(10_000)
        assert await world.status("fetched") is None
        assert await world.store.tasks.of_group("g", ALICE.id) == []

    run(tmp_path, work)


@pytest.mark.parametrize("clock", [1.0, T0 * 1e6])
def test_a_wrong_clock_of_a_node_shortens_no_retention(tmp_path: Path, clock: float) -> None:
    async def work(world: World) -> None:
        await world.submit("t")
        await world.end("t", ended=clock)
        await world.sweep(LATE)
        task = await world.status("t")
        assert task is not None
        assert task.result == b"r"
        await world.sweep(1)
        assert await world.code("t") == "RESULT_EXPIRED"

    run(tmp_path, work)


def test_tasks_end_with_their_endpoint_though_the_relay_died_meanwhile(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.submit("t")
        await world.sweep(1)
        assert world.hub.delivery.task_state("t") is not None
        await world.store.endpoints.remove("e", world.now)
        await world.sweep(1)
        assert await world.code("t") == "ENDPOINT_NOT_FOUND"

    run(tmp_path, work)


def test_what_expired_by_itself_is_swept(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        action = Action("a", ALICE.id, b"", None, [], [], "", "g", ["t"], T0)
        await world.store.actions.add(action)
        for name, expires in (("short", T0 + 50.0), ("long", T0 + 1e6), ("endless", None)):
            await world.store.users.add_token(
                digest(name), user_id=ALICE.id, label="", created=T0, expires=expires
            )
        await world.sweep(50)
        assert await world.store.users.token_owner(digest("short")) is not None
        await world.sweep(1)
        assert await world.store.users.token_owner(digest("short")) is None
        await world.sweep(BOUNDS.task_ttl_s + BOUNDS.record_retention_s - 51)
        assert await world.store.actions.get("a") == action
        await world.sweep(1)
        assert await world.store.actions.get("a") is None
        for name in ("long", "endless"):
            assert await world.store.users.token_owner(digest(name)) is not None

    run(tmp_path, work)


def test_codes_and_sign_ins_that_expired_are_swept(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        login = Login(ALICE.id, T0)
        code = DeviceCode(b"code", "user", "client", "", T0, T0 + 50.0, 5.0)
        await world.store.logins.begin(code)
        await world.store.logins.sign_in(b"cookie", login, T0 + 50.0, T0)
        await world.store.sessions.end(b"foreign", T0 + 50.0, T0)
        await world.sweep(50.0 + GRACE_S)
        assert await world.store.logins.poll(b"code", "client", world.now) is Poll.EXPIRED
        await world.store.logins.begin(replace(code, created=T0))
        await world.sweep(1)
        for table in ("device_codes", "web_sessions", "ended_tokens"):
            assert await world.count(table) == 0, table

    run(tmp_path, work)


UNUSED_S = BOUNDS.task_ttl_s + BOUNDS.record_retention_s + SPARED_S
"""How long task groups and user endpoints are kept that nothing refers to."""


def test_task_groups_and_user_endpoints_go_when_nothing_can_name_them(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        for number in range(3):
            await world.submit(f"t{number}", group=f"group-{number}")
        await world.end("t0", "t1", "t2")
        world.hub.apply(events.ManagerOpened(2, "e"))
        world.hub.apply(events.WardenUp(2, "boot", ()))
        await world.sweep(LATE + 1)
        await world.sweep(UNUSED_S - LATE - 1)
        assert await world.count("task_groups") == 3
        assert await world.count("user_endpoints") == 1
        await world.sweep(1)
        for table in ("tasks", "expired_tasks", "task_groups", "user_endpoints"):
            assert await world.count(table) == 0, table
        # The executor lives, and goes on.
        await world.submit("late", group="group-0")
        assert await world.store.tasks.group_owner("group-0") == ALICE.id
        await world.end("late")
        batch, _ = await world.store.tasks.unacknowledged("group-0", 0)
        assert [each.result.task_id for each in batch] == ["late"]

    run(tmp_path, work)


def test_what_lives_is_kept_however_long_it_is_idle(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.submit("t")
        await world.end("t")
        await world.store.starts.expect("uep", digest("token"), "n", world.now)
        stream = Subscriber(cast(Outbox, Unsent()), world.store.tasks)
        world.hub.publisher.subscribe(stream, "g")
        world.hub.apply(events.ManagerOpened(2, "e"))
        world.hub.apply(events.WardenUp(2, "boot", ("uep",)))
        for _ in range(5):
            await world.sweep(UNUSED_S - 1)
        assert await world.store.tasks.group_owner("g") == ALICE.id
        assert await world.store.starts.bearer(digest("token")) == "uep"
        # Its process has ended for the warden; but a link is proof of life.
        world.hub.apply(events.EndpointOpened(3, "e", "uep", "n", 0, ()))
        world.hub.apply(events.WardenUp(2, "boot", ()))
        for _ in range(5):
            await world.sweep(UNUSED_S - 1)
        assert await world.store.starts.bearer(digest("token")) == "uep"
        world.hub.apply(events.EndpointClosed(3))
        world.hub.apply(events.WardenUp(2, "boot", ()))
        world.hub.publisher.unsubscribe(stream, ["g"])
        await world.sweep(UNUSED_S)
        await world.sweep(1)
        assert await world.store.tasks.group_owner("g") is None
        assert await world.store.starts.bearer(digest("token")) is None

    run(tmp_path, work)


def test_a_deleted_functions_body_goes_when_no_task_needs_it(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        functions, live = (
            world.store.functions,
            FunctionRecord("live", ALICE.id, "live", 4, None, False, None, None, "{}", T0),
        )
        await functions.add(live, b"body")
        await world.submit("t")
        world.now += 10
        await functions.remove("f", world.now)
        await world.sweep(50)
        assert await functions.body("f") == b"body"
        await world.end("t")
        # Another process may not have heard of it, and take a task.
        await world.sweep(LATE_S - 51)
        assert await functions.body("f") == b"body"
        await world.submit("other")
        await world.sweep(2)
        assert await functions.body("f") == b"body", "a task may need it that is submitted in time"
        await world.end("other")
        await world.sweep(1)
        assert await functions.body("f") == b""
        assert await functions.body("live") == b"body"
        assert (await world.store.tasks.newest(ALICE.id, "g", 1))[0].function_name == "f"

    run(tmp_path, work)


def test_streams_tell_what_nobody_fetched_in_the_order_of_commits(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.submit("a", "b", "c", "d")
        await world.end("a", "b")
        await world.store.tasks.acknowledge([("a", ALICE.id)])
        world.now += LATE
        # Committed after "b" is, but by its node's clock it ended an hour earlier.
        await world.end("c", ended=world.now)
        await world.end("d", ended=world.now - 3600)
        await world.sweep(3601 - 3600)
        batch, more = await world.store.tasks.unacknowledged("g", 0)
        codes = [(each.result.task_id, each.result.failure is None) for each in batch]
        assert codes == [("b", False), ("c", True), ("d", True)]
        assert not more
        await world.sweep(200)
        batch, _ = await world.store.tasks.unacknowledged("g", 0)
        codes = [(each.result.task_id, each.result.failure is None) for each in batch]
        assert codes == [("b", False), ("c", True), ("d", False)]
        assert [each.seq for each in batch] == sorted(each.seq for each in batch)

    run(tmp_path, work)


def test_large_numbers_are_swept_in_small_steps(
    tmp_path: Path,
) -> None:
    async def work(world: World) -> None:
        count = 3 * expiry_module.STEP + 7
        names = [f"t{number}" for number in range(count)]
        await world.submit(*names)
        await world.store.tasks.end(
            [Ending(Result(each, "success", b"r"), 0.0, T0) for each in names[::2]]
        )
        await world.sweep(LATE + 1)
        found = await world.store.tasks.get(names, ALICE.id)
        codes = [found[each].failure for each in names]
        assert {each.code for each in codes[::2] if each} == {"RESULT_EXPIRED"}
        assert {each.code for each in codes[1::2] if each} == {"TASK_EXPIRED"}
        assert None not in codes

    run(tmp_path, work)


def test_an_expired_task_is_stopped_where_it_runs(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.submit("t")
        world.hub.apply(events.EndpointOpened(1, "e", "uep", "n", 10, ()))
        said = world.hub.delivery.handle(events.TasksExpired(("t", "unknown")), world.now)
        assert [type(each).__name__ for each in said] == ["CommitResults", "SendCancel"]
        again = world.hub.delivery.handle(events.TasksExpired(("t",)), world.now)
        assert again == []

    run(tmp_path, work)


def announced(data: bytes, task_id: str | None = None) -> Announced:
    kind: Kind = "result" if task_id else "arguments"
    return Announced(ALICE.id, kind, len(data), hashlib.sha256(data).digest(), task_id)


async def body(data: bytes) -> AsyncIterator[bytes]:
    yield data


class Files:
    """A world, and what is in its blob directory."""

    def __init__(self, world: World, path: Path) -> None:
        self.world = world
        self._path = path / "blobs"

    def __call__(self) -> set[str]:
        return {each.name for each in self._path.rglob("*") if each.is_file()}

    async def upload(self, task_id: str | None = None) -> Blob:
        data = b"large"
        return await self.world.blobs.receive(announced(data, task_id), body(data))

    async def submit(self, task_id: str) -> Blob:
        blob = await self.upload()
        task = NewTask(task_id, "f", b"", blob)
        await self.world.store.tasks.submit(
            Submission(ALICE.id, "g", "e", "uep", b"{}", b"{}", b"", (), (task,), self.world.now)
        )
        call = Call(task_id, "f", 4, "g", b"", 5, owner=ALICE.id, blob=blob)
        self.world.hub.apply(events.TasksSubmitted("e", "uep", (call,)))
        return blob


def test_no_file_is_forgotten_while_its_directory_is_away(tmp_path: Path) -> None:
    """As a file system that is not mounted: nobody would remove it afterwards."""

    async def work(world: World) -> None:
        files = Files(world, tmp_path)
        orphan = await files.upload()
        (tmp_path / "blobs").rename(tmp_path / "away")
        await world.sweep(Blobs().orphan_s + 1)
        assert await world.count("blobs") == 1
        (tmp_path / "away").rename(tmp_path / "blobs")
        assert files() == {orphan.id}
        await world.sweep(1)
        assert files() == set()
        assert await world.count("blobs") == 0

    run(tmp_path, work)


def test_uploads_that_no_task_refers_to_are_swept(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        files = Files(world, tmp_path)
        orphan = await files.upload()
        used = await files.submit("t")
        assert files() == {orphan.id, used.id}
        orphan_s = Blobs().orphan_s
        world.sweeper = Sweeper(
            world.store, world.hub, Limits(), world.blobs, world.streams, lambda: world.now
        )
        await world.sweep(orphan_s - 1)
        assert files() == {orphan.id, used.id}
        await world.sweep(2)
        assert files() == {used.id}
        # Nobody can refer to it any more.
        with pytest.raises(BlobGone):
            await world.store.tasks.submit(
                Submission(
                    ALICE.id,
                    "g",
                    "e",
                    "uep",
                    b"{}",
                    b"{}",
                    b"",
                    (),
                    (NewTask("late", "f", b"", orphan),),
                    world.now,
                )
            )
        assert await world.status("late") is None

    run(tmp_path, work)


def test_a_file_that_cannot_be_removed_is_told_of_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(world: World) -> None:
        files = Files(world, tmp_path)
        orphan = await files.upload()
        path = Directory(tmp_path / "blobs").file(orphan.id)
        path.unlink()
        path.mkdir()  # root can remove any file
        await world.sweep(Blobs().orphan_s + 1)
        assert "cannot be removed yet" in caplog.text
        assert path.name in caplog.text
        path.rmdir()
        path.touch()
        await world.sweep(1)
        assert files() == set()

    run(tmp_path, work)


def test_files_that_cannot_be_used_are_logged_now_and_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(world: World) -> None:
        files = Files(world, tmp_path)
        shutil.rmtree(tmp_path / "blobs")
        for seconds, lines in ((0, 1), (1, 1), (8, 1), (1, 2), (9, 2)):
            world.now += seconds
            with pytest.raises(Refusal, match="cannot be used"):
                await files.upload()
            assert caplog.text.count("the blob directory cannot be used") == lines

    run(tmp_path, work)


def test_results_that_cannot_be_stored_are_logged_now_and_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(world: World) -> None:
        world.store.tasks = NeverStores(world.store._database)
        await world.submit("t")
        for seconds, lines in ((0, 1), (2, 1), (7, 1), (1, 2), (9, 2)):
            world.now += seconds
            await world.end("t")
            assert caplog.text.count("1 results could not be stored") == lines

    run(tmp_path, work)


def test_an_upload_of_a_relay_that_died_is_swept(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        files = Files(world, tmp_path)
        begun = new_ids(1)[0]
        await world.store.blobs.begin(
            begun, ALICE.id, "arguments", 5, None, world.now, world.now + 100, 0
        )
        file = NewFile(Directory(tmp_path / "blobs"), begun)
        file.write([b"la"])
        file.close()
        await world.sweep(99)
        assert files() == {begun}
        await world.sweep(2)
        assert files() == set()

    run(tmp_path, work)


@pytest.mark.parametrize("ends", ["with a result", "by its time-to-live", "cancelled"])
def test_arguments_go_when_the_task_has_ended(tmp_path: Path, ends: str) -> None:
    async def work(world: World) -> None:
        files = Files(world, tmp_path)
        await files.submit("t")
        if ends == "with a result":
            await world.end("t")
        elif ends == "cancelled":
            world.hub.apply(events.CancelRequested(("t",)))
            await world.settled()
        else:
            await world.sweep(101)
        await world.sweep(1)
        assert files() == set()

    run(tmp_path, work)


def test_a_large_result_lives_as_long_as_the_retention(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        files = Files(world, tmp_path)
        await world.submit("t")
        earlier, blob = await files.upload("t"), await files.upload("t")
        world.hub.apply(events.EndpointOpened(1, "e", "uep", "n", 0, ("t",)))
        result = Result("t", "success", b"", None, 0.0, world.now, blob)
        world.hub.apply(events.ResultsArrived(1, (result,)))
        await world.settled()
        await world.sweep(1)
        assert files() == {blob.id}, earlier
        task = await world.status("t")
        assert task is not None
        assert (task.outcome, task.blob) == ("success", blob)
        assert await world.store.blobs.result("t", ALICE.id) == blob
        await world.sweep(LATE - 2)
        assert files() == {blob.id}
        await world.sweep(2)
        assert await world.code("t") == "RESULT_EXPIRED"
        assert files() == set()
        assert await world.store.blobs.result("t", ALICE.id) is None

    run(tmp_path, work)


class Heard:
    """An outbox that keeps what its peer is asked."""

    def __init__(self) -> None:
        self.asked_again = False

    def goodbye(self, _reason: str, _retry_s: float) -> None:
        self.asked_again = True


def test_streams_of_a_login_that_the_command_line_ended_connect_again(tmp_path: Path) -> None:
    """They are refused then; `mep-relay user revoke` is for laptops that were stolen."""

    async def work(world: World) -> None:
        sessions, users = world.store.sessions, world.store.users
        bob = replace(ALICE, id="bob-id", username="bob@relay.local")
        await users.add(bob)
        for user in (ALICE, bob):
            lone = digest(user.id)
            end = world.now + 1000
            await users.add_token(lone, user_id=user.id, label="", created=world.now, expires=end)
            new = NewTokens(digest(f"a{user.id}"), digest(f"r{user.id}"), "", world.now, end, end)
            await sessions.open(Login(user.id, world.now), new, {})
        families = [(await users.token_owner(digest(f"a{user.id}"))) for user in (ALICE, bob)]
        names = [each.family for each in families if each is not None and each.family]
        mine = [Heard(), Heard()]
        others = [Heard(), Heard(), Heard()]
        for session, outbox in zip((digest(ALICE.id), names[0]), mine, strict=True):
            world.streams.opened(session, cast("Any", outbox), stored=True)
        for session, outbox in zip((digest(bob.id), names[1]), others, strict=False):
            world.streams.opened(session, cast("Any", outbox), stored=True)
        world.streams.opened(digest("of an issuer"), cast("Any", others[2]), stored=False)
        await world.sweep(1)
        assert not any(each.asked_again for each in (*mine, *others))
        await sessions.revoke_all(ALICE.id, b"")
        await world.sweep(1)
        assert all(each.asked_again for each in mine)
        assert not any(each.asked_again for each in others)
        world.streams.closed(names[1], cast("Any", others[1]))
        await world.sweep(1000)
        assert [each.asked_again for each in others] == [True, False, False]

    run(tmp_path, work)
