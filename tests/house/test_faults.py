"""kill -9 of anything: every task reaches a terminal state, and users outlive root's processes."""

import uuid
from pathlib import Path
from typing import Any

import pytest
from house import alive, kill9, until
from mep_sdk.errors import MEPError

pytestmark = pytest.mark.root

LONG_S = 60.0


def hello(n: int) -> int:
    return n


def endpoint_pid() -> int:
    """The user endpoint that this task belongs to: the parent of its node pool."""
    import os
    import pathlib

    pool = pathlib.Path(f"/proc/{os.getsid(0)}/stat").read_text()
    return int(pool.rpartition(")")[2].split()[1])


def count(path: str, n: int) -> int:
    """Leaves one line for each execution."""
    import os

    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, b"%d\n" % n)
    os.close(fd)
    return n


def slow_count(path: str, n: int) -> int:
    import os
    import time

    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, b"%d\n" % n)
    os.close(fd)
    time.sleep(0.02)
    return n


def home(site: Any, user: str) -> Path:
    return Path("/home") / site.accounts[user]


def executions(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def test_the_user_endpoint_outlives_manager_and_warden(site: Any) -> None:
    with site.executor("alice", user_endpoint_config={"tag": "outlive"}) as ex:
        before = ex.submit(endpoint_pid).result(LONG_S)
        for victim in ("manager", "warden"):
            old = site.pid(victim)
            kill9(old)
            until(lambda v=victim, o=old: (p := site.status()[v]["pid"]) and p != o, victim)
            assert alive(before)
            assert ex.submit(endpoint_pid).result(LONG_S) == before
        assert before in [item["pid"] for item in site.user_endpoints()]


def test_new_users_are_served_after_the_warden_came_back(site: Any) -> None:
    kill9(site.pid("warden"))
    with site.executor("bob", user_endpoint_config={"tag": uuid.uuid4().hex}) as ex:
        assert ex.submit(hello, 1).result(LONG_S) == 1


def test_kill_the_user_endpoint_with_tasks_in_flight(site: Any) -> None:
    log = home(site, "alice") / f"count-{uuid.uuid4().hex}"
    total = 300
    with site.executor("alice", user_endpoint_config={"tag": "kill uep"}) as ex:
        pid = ex.submit(endpoint_pid).result(LONG_S)
        futures = [ex.submit(slow_count, str(log), n) for n in range(total)]
        until(lambda: len(executions(log)) > 20, "some tasks ran")
        kill9(pid)
        ended = {"ok": 0, "lost": 0}
        for n, future in enumerate(futures):
            try:
                assert future.result(LONG_S) == n
                ended["ok"] += 1
            except MEPError as error:
                assert error.code in {"ENDPOINT_LOST", "WORKER_LOST"}
                ended["lost"] += 1
    assert sum(ended.values()) == total
    ran = executions(log)
    assert len(ran) == len(set(ran)), "a task ran twice with no retries"
    assert ended["ok"] >= total - 100


def test_kill_the_relay_with_tasks_in_flight(site: Any) -> None:
    log = home(site, "bob") / f"count-{uuid.uuid4().hex}"
    total = 300
    with site.executor("bob", user_endpoint_config={"tag": "kill relay"}) as ex:
        ex.submit(hello, 0).result(LONG_S)
        futures = [ex.submit(slow_count, str(log), n) for n in range(total)]
        until(lambda: len(executions(log)) > 20, "some tasks ran")
        site.relay.kill()
        site.relay.start()
        assert [future.result(LONG_S) for future in futures] == list(range(total))
    ran = executions(log)
    assert sorted(ran) == list(range(total))


def test_stop_ends_every_process(site: Any) -> None:
    with site.executor("alice", user_endpoint_config={"tag": "stop"}) as ex:
        pid = ex.submit(endpoint_pid).result(LONG_S)
    pids = [site.pid("warden"), site.pid("manager"), pid]
    pids += [item["pid"] for item in site.user_endpoints()]
    site.stop()
    until(lambda: not any(alive(p) for p in pids), "all processes ended")
    site.start()
    with site.executor("alice") as ex:
        assert ex.submit(hello, 7).result(LONG_S) == 7
