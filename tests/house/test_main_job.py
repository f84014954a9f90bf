"""A task from a laptop runs as the mapped local user, and its result comes back."""

import concurrent.futures
import os
import pwd
import uuid
from pathlib import Path
from typing import Any

import pytest
from mep_sdk import Executor

pytestmark = pytest.mark.root


def whoami() -> dict[str, Any]:
    import os
    import pwd

    return {
        "uids": os.getresuid(),
        "gids": os.getresgid(),
        "name": pwd.getpwuid(os.getuid()).pw_name,
        "groups": sorted(os.getgroups()),
        "pid": os.getpid(),
        "home": os.environ["HOME"],
        "user": os.environ["USER"],
    }


def hello(name: str) -> str:
    return f"Hello {name}"


def div0() -> float:
    return 42 / 0


def touch(path: str) -> int:
    import pathlib

    pathlib.Path(path).write_text("made by a task")
    return pathlib.Path(path).stat().st_uid


def inside() -> dict[str, Any]:
    """What a task can see of the process it runs in."""
    import os
    import pathlib
    import resource
    import signal

    links = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            links[int(fd)] = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            continue
    status = dict(
        line.split(":\t", 1)
        for line in pathlib.Path("/proc/self/status").read_text().splitlines()
        if ":\t" in line
    )
    return {
        "environment": dict(os.environ),
        "descriptors": links,
        "status": status,
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "masked": [int(s) for s in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
    }


def endpoint_pid() -> int:
    """The user endpoint that this task belongs to: the parent of its node pool."""
    import os
    import pathlib

    pool = pathlib.Path(f"/proc/{os.getsid(0)}/stat").read_text()
    return int(pool.rpartition(")")[2].split()[1])


def test_two_users_at_once(site: Any) -> None:
    with site.executor("alice") as a, site.executor("bob") as b:
        seen = [f.result(60) for f in (a.submit(whoami), b.submit(whoami))]
    for user, report in zip(("alice", "bob"), seen, strict=True):
        account = pwd.getpwnam(site.accounts[user])
        assert report["name"] == account.pw_name
        assert set(report["uids"]) == {account.pw_uid}
        assert set(report["gids"]) == {account.pw_gid}
        assert report["home"] == account.pw_dir
        assert report["user"] == account.pw_name
        assert 0 not in report["groups"]


def test_files_belong_to_the_right_user(site: Any) -> None:
    for user in ("alice", "bob"):
        account = pwd.getpwnam(site.accounts[user])
        target = Path(account.pw_dir) / f"made-{uuid.uuid4().hex}"
        with site.executor(user) as ex:
            assert ex.submit(touch, str(target)).result(60) == account.pw_uid
        assert target.stat().st_uid == account.pw_uid
        assert target.stat().st_mode & 0o077 == 0


def test_nothing_is_inherited(site: Any) -> None:
    os.environ["MEP_TEST_CANARY"] = "must not be seen"
    with site.executor("alice") as ex:
        report = ex.submit(inside).result(60)
    assert "MEP_TEST_CANARY" not in report["environment"]
    assert not [key for key in report["environment"] if "TOKEN" in key]
    assert not [name for name in report["descriptors"].values() if "memfd" in name]
    assert not [name for name in report["descriptors"].values() if name.startswith("/etc/mep")]
    assert int(report["status"]["CapEff"], 16) == 0
    assert int(report["status"]["CapBnd"], 16) == 0
    assert report["status"]["NoNewPrivs"].strip() == "1"
    assert report["masked"] == []


def test_the_function_s_own_exception_comes_back(site: Any) -> None:
    with site.executor("alice") as ex:
        with pytest.raises(ZeroDivisionError) as caught:
            ex.submit(div0).result(60)
    assert "return 42 / 0" in str(caught.value.__cause__)


def test_same_options_same_process_other_options_another(site: Any) -> None:
    with site.executor("alice", user_endpoint_config={"tag": "one"}) as ex:
        first = ex.submit(endpoint_pid).result(60)
        again = ex.submit(endpoint_pid).result(60)
        ex.user_endpoint_config = {"tag": "two"}
        other = ex.submit(endpoint_pid).result(60)
    assert first == again
    assert other != first


@pytest.mark.parametrize("engine", ["ThreadPoolEngine", "ProcessPoolEngine"])
def test_the_simple_engines_run_tasks_too(site: Any, engine: str) -> None:
    with site.executor("bob", user_endpoint_config={"engine": engine}) as ex:
        assert list(ex.map(pow, range(10), [2] * 10)) == [n**2 for n in range(10)]
        assert ex.submit(whoami).result(60)["name"] == site.accounts["bob"]


def test_many_tasks_in_any_order(site: Any) -> None:
    with site.executor("bob") as ex:
        futures = {ex.submit(pow, n, 3): n for n in range(500)}
        for future in concurrent.futures.as_completed(futures, timeout=60):
            assert future.result() == futures[future] ** 3


def test_close_the_laptop_and_come_back(site: Any) -> None:
    with site.executor("alice") as ex:
        group = ex.task_group_id
        assert ex.submit(hello, "a").result(60) == "Hello a"
        pending = ex.submit(hello, "b")
        pending.result(60)
    again = Executor(site.endpoint_id, client=site.relay.client("alice"), task_group_id=group)
    with again:
        results = sorted(f.result(60) for f in again.reload_tasks())
    assert results == ["Hello a", "Hello b"]


def test_registered_functions(site: Any) -> None:
    with Executor(client=site.relay.client("alice")) as ex:
        fid = ex.register_function(hello)
        with pytest.raises(ValueError, match="endpoint_id"):
            ex.submit(hello, "x")
        ex.endpoint_id = site.endpoint_id
        assert ex.submit_to_registered_function(fid, "one").result(60) == "Hello one"
        assert ex.submit_to_registered_function(fid, ("tup",)).result(60) == "Hello tup"
        assert ex.submit_to_registered_function(fid, args=("kw",)).result(60) == "Hello kw"


def test_the_client_s_way(site: Any) -> None:
    client = site.relay.client("bob")
    fid = client.register_function(hello)
    batch = client.create_batch()
    for name in ("x", "y"):
        batch.add(fid, args=(name,))
    ids = client.batch_run(site.endpoint_id, batch)["tasks"][fid]
    with site.executor("bob") as ex:  # its stream tells when work is done: no polling loop
        ex.submit(hello, "z").result(60)
    from house import until

    done = until(
        lambda: (
            (r := client.get_batch_result(ids))
            and all(not item["pending"] for item in r.values())
            and r
        ),
        "both tasks ended",
    )
    assert [done[task]["result"] for task in ids] == ["Hello x", "Hello y"]
