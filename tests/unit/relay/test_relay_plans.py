"""No request, link or sweep reads a whole table: PostgreSQL's own plans say so."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from furnished import furnish
from mep_cloud.auth import digest
from mep_cloud.store import Store
from mep_cloud.store.records import (
    Ending,
    NewTask,
    Submission,
    User,
)
from sqlalchemy import URL, Engine, event, text

from mep.wire.rest import RegisterEndpoint
from mep.wire.tasks import Result

LARGE = (
    "actions",
    "endpoints",
    "expired_tasks",
    "functions",
    "start_tokens",
    "submits",
    "task_groups",
    "tasks",
    "tokens",
    "user_endpoints",
    "users",
)
ME = User("me", "me@relay.local", "", "", "", False, 1.0)
SUBMISSION = Submission(
    ME.id, "g", "e", "uep", b"{}", b"{}", b"", (), (NewTask("t", "f", b"x"),), 5.0
)


class Statements:
    """Everything that is sent to the database."""

    def __init__(self, engines: list[Engine]) -> None:
        self.seen: dict[str, Any] = {}
        for engine in engines:
            event.listen(engine, "before_cursor_execute", self._keep)

    def _keep(
        self, _c: Any, _cursor: Any, statement: str, parameters: Any, _x: Any, many: bool
    ) -> None:
        if statement.split()[0] in ("SELECT", "UPDATE", "DELETE"):
            self.seen[statement] = parameters[0] if many else parameters


async def use(store: Store) -> None:
    """What requests, links and the sweep do."""
    await store.users.token_owner(digest("x"))
    await store.users.by_username(ME.username)
    await store.functions.get("f")
    await store.functions.body("f")
    await store.functions.search(ME.id, ["group"], [], 0, 21)
    await store.endpoints.get("e")
    await store.endpoints.list(ME.id)
    await store.endpoints.list(ME.id, shown_to=frozenset({ME.id}))
    await store.groups.of(ME.id)
    await store.endpoints.update("e", RegisterEndpoint("e", multi_user=True), digest("l"), 2.0)
    await store.tasks.submit(replace(SUBMISSION, request_id="r", answer=b"{}"))
    await store.tasks.payloads(["t"])
    await store.tasks.count_unfinished()
    await store.tasks.unfinished(100)
    await store.expiry.overdue(1.0, 0)
    await store.tasks.request_cancel(["t"], 6.0)
    await store.starts.expect("uep", digest("s"), "nonce", 1.0)
    await store.starts.bearer(digest("s"))
    await store.starts.activate(digest("s"), 1.0)
    await store.starts.user_endpoint("uep")
    await store.tasks.end([Ending(Result("t", "success", b"r", None, 1.0, 2.0), 1.0, 3.0)])
    await store.tasks.unacknowledged("g", 0)
    await store.tasks.acknowledge([("t", ME.id)])
    await store.tasks.get(["t"], ME.id)
    await store.tasks.owned(["t"], ME.id)
    await store.tasks.of_group("g", ME.id)
    await store.tasks.group_owner("g")
    await store.expiry.drop_results(100.0, 0)
    await store.expiry.forget(100.0)
    await store.expiry.forget_submits(100.0)
    await store.tasks.claim_groups(["g"], ME.id, 1e6)
    await store.expiry.keep(["g"], ["uep"], 2e6)
    await store.expiry.forget_groups(3e6, 3e6)
    await store.expiry.forget_user_endpoints(3e6, 3e6)
    await store.expiry.forget_bodies(100.0)
    await store.sessions.forget(100.0)
    await store.actions.forget(100.0)
    await store.endpoints.remove("e", 9.0)
    assert await store.expiry.homeless(1.0) == []


def test_no_table_is_read_as_a_whole(new_postgresql: Callable[[], URL]) -> None:
    async def main() -> dict[str, list[str]]:
        store = Store(new_postgresql())
        store.create()
        async with store:
            await furnish(store, ME)
            statements = Statements(store._database._engines)
            await use(store)
            assert len(statements.seen) > 25
            return await plans(store, dict(statements.seen))

    for statement, plan in asyncio.run(main()).items():
        for line in plan:
            assert not any(f"Seq Scan on {table} " in line for table in LARGE), (statement, plan)


async def plans(store: Store, statements: dict[str, Any]) -> dict[str, list[str]]:
    """Each statement's plan where reading a table is the last resort, as if all were large."""

    def explain(connection: Any) -> dict[str, list[str]]:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        return {
            statement: [row[0] for row in connection.exec_driver_sql("EXPLAIN " + statement, given)]
            for statement, given in statements.items()
        }

    return await store._database.write(explain)


def test_the_plans_would_tell(new_postgresql: Callable[[], URL]) -> None:
    async def main() -> list[str]:
        store = Store(new_postgresql())
        store.create()
        async with store:
            query = "SELECT * FROM tasks WHERE began = 1"
            (plan,) = (await plans(store, {query: ()})).values()
            return plan

    with pytest.raises(AssertionError):
        assert not any("Seq Scan on tasks " in line for line in asyncio.run(main()))
