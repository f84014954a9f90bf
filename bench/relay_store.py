"""The relay's store on PostgreSQL: what a million functions and five million tasks cost it.

Makes a server of its own with two databases, an empty one and a full one, does the same to both in
turn, and prints (and writes to bench/out/relay_store.json) the times and their ratio.

    python bench/relay_store.py [--tasks 5000000] [--functions 1000000] [--rounds 600]
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg
from mep_cloud.ids import new_ids
from mep_cloud.store import Store
from mep_cloud.store.records import Ending, NewTask, Submission
from sqlalchemy import URL, make_url

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from testbed.postgres import Server

from mep.wire.tasks import Result

OUT = Path(__file__).parent / "out" / "relay_store.json"
USERS = 2000
ENDPOINTS = 12_000
GROUP_TASKS = 1000
"""Tasks in one group of the full store; a listing of a group has as many in the empty one."""
OLD_TASKS = 150_000
"""So many of each store are for the sweep."""
STEP = 500
OWN = 6
"""Endpoints of whoever asks for a list."""
ME = "user-1"
NOW = 1_000_000_000.0

TASK_ID = (
    "(lpad(to_hex(i), 12, '0') || '7' || substr(md5(i::text), 1, 3) || '8' || "
    "substr(md5(i::text), 4, 15))::uuid::text"
)
"""In the order of time, as the relay makes them."""

Timed = Callable[[], Awaitable[object]]


def fill(url: URL, *, endpoints: int, functions: int, tasks: int) -> None:
    """Rows as if made over years; indexes are built at the end, as they would be large anyway."""
    text = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(text, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")  # no check of foreign keys
        connection.execute("SET maintenance_work_mem = '256MB'")
        connection.execute("SET synchronous_commit = off")
        indexes = connection.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'tasks' "
            "AND indexname NOT IN (SELECT conname FROM pg_constraint)"
        ).fetchall()
        for name, _ in indexes:
            connection.execute(f'DROP INDEX "{name}"')
        for statement in statements(endpoints, functions, tasks):
            connection.execute(statement)
        for _, definition in indexes:
            connection.execute(definition)
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")  # or the measurement waits for what filling left to write


def statements(endpoints: int, functions: int, tasks: int) -> list[str]:
    registration = '{"endpoint_name":"site","multi_user":true}'
    return [
        "INSERT INTO users (id, username, name, email, organization, is_admin, created) SELECT "
        "'user-' || i, 'user-' || i || '@x', '', '', '', false, i "
        f"FROM generate_series(1, {USERS + 1}) i",
        "INSERT INTO endpoints (id, owner, multi_user, public, registration, key_version, created) "
        "SELECT 'endpoint-' || i, 'user-' || "
        f"CASE WHEN i <= {OWN} THEN 1 ELSE i % {USERS} + 2 END, true, "
        "i <= 3, "
        f"'{registration}', 1, i FROM generate_series(1, {endpoints}) i",
        "INSERT INTO tokens (hash, endpoint_id, label, created) SELECT sha256(id::bytea), id, "
        "'link', created FROM endpoints",
        "INSERT INTO functions (id, owner, name, body, size, public, meta, created) SELECT "
        f"'function-' || i, 'user-' || (i % {USERS} + 1), 'simulate_' || i % 977, "
        "decode(md5(i::text), 'hex'), 16, i % 100 = 0, '{}', i "
        f"FROM generate_series(1, {functions}) i",
        "INSERT INTO user_endpoints (id, endpoint_id, user_id, options, runtime, created) SELECT "
        f"'uep-' || i, 'endpoint-' || (i % {endpoints} + 1), 'user-' || i, '', '', i "
        f"FROM generate_series(1, {USERS}) i",
        "INSERT INTO task_groups (id, owner, created) SELECT 'group-' || i, "
        f"'user-' || (i % {USERS} + 1), i FROM generate_series(0, {tasks // GROUP_TASKS}) i",
        "INSERT INTO tasks (task_id, group_id, owner, function_id, user_endpoint_id, payload_size, "
        "resource_specification, result_serializers, created, dispatched, began, ended, outcome, "
        f"result_seq, result, acknowledged) SELECT {TASK_ID}, "
        f"'group-' || (i / {GROUP_TASKS}), 'user-' || (i / {GROUP_TASKS} % {USERS} + 1), "
        f"'function-' || (i % {functions} + 1), 'uep-' || (i % {USERS} + 1), 100, '', '', i, i, i, "
        "i, 'success', i, decode(md5(i::text), 'hex'), i % 1000 <> 0 "
        f"FROM generate_series(1, {tasks}) i",
    ]


def operations(store: Store, number: int) -> dict[str, Timed]:
    """One round, in order: what a user does."""
    ids = new_ids(10)
    calls = tuple(NewTask(each, "function-1", b"x" * 100) for each in ids)
    submission = Submission(
        owner=ME,
        group_id=f"new-{number}",
        endpoint_id="endpoint-1",
        user_endpoint_id="uep-1",
        options=b"{}",
        runtime=b"{}",
        resource_specification=b"",
        result_serializers=(),
        tasks=calls,
        at=NOW + number,
        request_id=str(uuid.uuid4()),
        answer=b"{}",
    )
    endings = [
        Ending(Result(each, "success", b"r" * 100, None, NOW, NOW), NOW, NOW) for each in ids
    ]
    shown = frozenset({ME})
    return {
        "submit": lambda: store.tasks.submit(submission),
        "end": lambda: store.tasks.end(endings),
        "unacknowledged": lambda: store.tasks.unacknowledged(f"new-{number}", 0),
        "acknowledge": lambda: store.tasks.acknowledge([(each, ME) for each in ids]),
        "list_endpoints": lambda: store.endpoints.list(ME, shown_to=shown),
        "list_group": lambda: store.tasks.of_group("group-1", "user-2"),
        "batch_status": lambda: store.tasks.get(ids, ME),
        "function": lambda: store.functions.get("function-1"),
        "list_functions": lambda: store.functions.search(ME, (), (), 0, 21),
        "unfinished": lambda: store.tasks.unfinished(100),
        "overdue": lambda: store.expiry.overdue(0.0, 0),
    }


async def measure(stores: dict[str, Store], rounds: int) -> dict[str, dict[str, list[float]]]:
    times: dict[str, dict[str, list[float]]] = {}
    for number in range(-10, rounds):  # the first ten warm up
        for name, store in in_turn(stores, number):
            for what, act in operations(store, number).items():
                began = time.perf_counter()
                await act()
                if number >= 0:
                    elapsed = time.perf_counter() - began
                    times.setdefault(what, {}).setdefault(name, []).append(elapsed)
    times["sweep"] = await sweep(stores)
    return times


def in_turn(stores: dict[str, Store], number: int) -> list[tuple[str, Store]]:
    """Each goes first in every other round: what one leaves to the disk, the next waits for."""
    return list(stores.items())[:: 1 if number % 2 else -1]


async def sweep(stores: dict[str, Store]) -> dict[str, list[float]]:
    """Drop the results of the oldest tasks; the time of each step, the stores in turn."""
    steps: dict[str, list[float]] = {name: [] for name in stores}
    after = dict.fromkeys(stores, 0)
    for number in range(OLD_TASKS // STEP):
        for name, store in in_turn(stores, number):
            began = time.perf_counter()
            visited = await store.expiry.drop_results(OLD_TASKS + 1, after[name])
            steps[name].append(time.perf_counter() - began)
            after[name] = visited.last
    return steps


def summary(times: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    table = {}
    for what, by_store in times.items():
        row = {}
        for name, values in by_store.items():
            row[f"{name}_p50_ms"] = round(statistics.median(values) * 1000, 3)
            row[f"{name}_p99_ms"] = round(statistics.quantiles(values, n=100)[98] * 1000, 3)
        row["p50_ratio"] = round(row["full_p50_ms"] / row["empty_p50_ms"], 2)
        row["p99_ratio"] = round(row["full_p99_ms"] / row["empty_p99_ms"], 2)
        table[what] = row
    return table


async def compare(urls: dict[str, URL], rounds: int) -> dict[str, dict[str, float]]:
    stores = {name: Store(url) for name, url in urls.items()}
    for store in stores.values():
        await store.__aenter__()
    try:
        return summary(await measure(stores, rounds))
    finally:
        for store in stores.values():
            await store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=5_000_000)
    parser.add_argument("--functions", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=600)
    arguments = parser.parse_args()
    with Server() as server:
        urls = {}
        for name in ("empty", "full"):
            url = make_url(server.new_database())
            urls[name] = url.set(drivername="postgresql+psycopg", password=server.password)
            Store(urls[name]).create()
        began = time.monotonic()
        fill(urls["empty"], endpoints=10, functions=10, tasks=OLD_TASKS + 2 * GROUP_TASKS)
        sizes = {"functions": arguments.functions, "tasks": arguments.tasks}
        fill(urls["full"], endpoints=ENDPOINTS, **sizes)
        print(f"filled in {time.monotonic() - began:.0f} s", flush=True)
        table = asyncio.run(compare(urls, arguments.rounds))
    OUT.parent.mkdir(exist_ok=True)
    figures = {**sizes, "endpoints": ENDPOINTS, "operations": table}
    OUT.write_text(json.dumps(figures, indent=1) + "\n")
    for what, row in table.items():
        print(
            f"{what:15} p50 {row['empty_p50_ms']:8.2f} -> {row['full_p50_ms']:8.2f} ms"
            f" ({row['p50_ratio']:.2f})   p99 {row['empty_p99_ms']:8.2f} -> "
            f"{row['full_p99_ms']:8.2f} ms ({row['p99_ratio']:.2f})"
        )


if __name__ == "__main__":
    main()
