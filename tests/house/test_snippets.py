"""What scientists type, as they type it: each documented use of the SDK, by a mapped user.

Shell and MPI functions, templates for Slurm, and containers have modules of their own here.
"""

import concurrent.futures
import json
import os
import pwd
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from house import BIN, Relay, Site, run, until
from mep_sdk import Client, Executor, TaskPending
from mep_sdk.errors import (
    AccessForbidden,
    ConfigurationRefused,
    FunctionNotPermitted,
    PayloadTooLarge,
    ResultNotCarried,
)

pytestmark = pytest.mark.root

WAIT_S = 60.0


@pytest.fixture
def gcc(site: Site) -> Iterator[Client]:
    client = site.relay.client("alice")
    yield client
    client.close()


@pytest.fixture
def ex(site: Site, gcc: Client) -> Iterator[Executor]:
    with Executor(endpoint_id=site.endpoint_id, client=gcc) as ex:
        yield ex


@pytest.fixture
def laptop(site: Site, tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs a script as a user would, with nothing but the environment."""

    def run(script: str, *arguments: str, **environment: str) -> Any:
        path = tmp_path / "script.py"
        path.write_text(script)
        return subprocess.run(
            [sys.executable, "-W", "error", str(path), *arguments],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "MEP_RELAY_URL": site.relay.url,
                "MEP_TOKEN": site.relay.token("alice"),
                "EP": site.endpoint_id,
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )

    return run


def hello(name: str) -> str:
    return f"Hello {name}"


def div0() -> float:
    return 42 / 0


def today() -> Any:
    from datetime import date

    return date.today()  # noqa: DTZ011 - as users write it


def absent() -> None:
    import a_module_that_nobody_has  # noqa: F401


def pi(points: int) -> float:
    from random import random

    inside = sum(random() ** 2 + random() ** 2 < 1 for _ in range(points))
    return 4 * inside / points


def stats(array: list[float]) -> dict[str, float]:
    return {"mean": sum(array) / len(array), "max": max(array)}


def slow(name: str, path: str) -> str:
    import pathlib
    import time

    while not pathlib.Path(path).exists():
        time.sleep(0.02)
    return f"Hello {name}"


def as_whom() -> str:
    import getpass

    return getpass.getuser()


def big_result(size: int) -> bytes:
    return b"x" * size


MODULE = """
    import os
    import statistics

    LOADED_BY = [os.getpid()]

    def array_stats(array):
        LOADED_BY.append(None)
        return statistics.mean(array), LOADED_BY[0] == os.getpid(), len(LOADED_BY)
"""


def test_printing_connects_nothing(site: Site) -> None:
    ex = Executor(endpoint_id=site.endpoint_id)  # nobody is logged in here
    assert repr(ex) == f"<Executor at {site.endpoint_id}>"


def test_a_function_and_its_task(site: Site, ex: Executor) -> None:
    fut = ex.submit(hello, "World")
    assert fut.result(WAIT_S) == "Hello World"
    assert fut.done()
    assert str(uuid.UUID(fut.task_id)) == fut.task_id
    assert ex.submit(as_whom).result(WAIT_S) == site.accounts["alice"]


def test_an_exception_has_the_user_s_own_lines(ex: Executor) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        ex.submit(div0).result(WAIT_S)
    assert "return 42 / 0" in str(caught.value.__cause__)


def test_imports_inside_the_body(ex: Executor) -> None:
    assert ex.submit(today).result(WAIT_S).year >= 2025
    with pytest.raises(ModuleNotFoundError, match="a_module_that_nobody_has"):
        ex.submit(absent).result(WAIT_S)


def test_many_calls(ex: Executor) -> None:
    estimates = [ex.submit(pi, 10**4) for _ in range(3)]
    for each in concurrent.futures.as_completed(estimates, WAIT_S):
        assert 2.8 < each.result() < 3.5
    assert list(ex.map(pow, range(10), [2] * 10)) == [n**2 for n in range(10)]


def test_another_configuration_same_executor(site: Site, gcc: Client) -> None:
    with Executor(site.endpoint_id, client=gcc, user_endpoint_config={"tag": "morning"}) as gce:
        assert gce.submit(hello, "a").result(WAIT_S) == "Hello a"
        gce.user_endpoint_config = {"tag": "evening"}
        assert gce.submit(hello, "b").result(WAIT_S) == "Hello b"
        gce.user_endpoint_config = {"WALLTIME": "00:20:00"}
        with pytest.raises(ConfigurationRefused, match="WALLTIME"):
            gce.submit(hello, "c").result(WAIT_S)


def test_registered_functions_and_source(ex: Executor) -> None:
    fid = ex.register_function(stats, description="of an array")
    result = ex.submit_to_registered_function(fid, args=([1.0, 3.0],)).result(WAIT_S)
    assert result == {"mean": 2.0, "max": 3.0}
    fid = ex.register_source_code(MODULE, function_name="array_stats")
    calls = [ex.submit_to_registered_function(fid, args=([1, 3],)) for _ in range(2)]
    # One worker: its module is loaded once, in the process that runs both.
    assert [call.result(WAIT_S) for call in calls] == [(2, True, 2), (2, True, 3)]


def test_the_client(site: Site, gcc: Client) -> None:
    account = pwd.getpwnam(site.accounts["alice"])
    gate = Path(account.pw_dir, f"gate-{uuid.uuid4().hex}")
    fid = gcc.register_function(slow)
    tid = gcc.run("Bob", endpoint_id=site.endpoint_id, function_id=fid, path=str(gate))
    with pytest.raises(TaskPending):
        gcc.get_result(tid)
    assert gcc.get_task(tid).keys() == {"pending", "status"}
    gate.touch()

    def result() -> Any:
        try:
            return gcc.get_result(tid)
        except TaskPending:
            return None

    assert until(result, "a result") == "Hello Bob"
    failing = gcc.run(endpoint_id=site.endpoint_id, function_id=gcc.register_function(div0))
    until(lambda: not gcc.get_task(failing)["pending"], "the failure")
    with pytest.raises(ZeroDivisionError):
        gcc.get_result(failing)


def test_batches_of_both_kinds(site: Site, gcc: Client) -> None:
    fid = gcc.register_function(hello)
    batch = gcc.create_batch()
    for x in range(5):
        batch.add(fid, args=(x,))
    ids = gcc.batch_run(site.endpoint_id, batch)["tasks"][fid]
    older = gcc.create_batch()
    for x in range(3):
        older.add(x, endpoint_id=site.endpoint_id, function_id=fid)
    ids += gcc.batch_run(older)
    until(lambda: all(not s["pending"] for s in gcc.get_batch_result(ids).values()), "the batch")
    told = gcc.get_batch_result(ids)
    assert [told[each]["result"] for each in ids] == [f"Hello {x}" for x in [*range(5), *range(3)]]
    for each in told.values():
        assert each.keys() == {"pending", "status", "result", "completion_t"}
        assert isinstance(each["completion_t"], str)
        assert abs(float(each["completion_t"]) - time.time()) < 300
    gcc.close()  # what was told is told again without the network
    assert gcc.get_result(ids[0]) == "Hello 0"


def test_sharing(site: Site, gcc: Client) -> None:
    name = f"shared_{uuid.uuid4().hex}"
    bob = site.relay.client("bob")
    fid = gcc.register_function(hello, public=True, description=name)
    with Executor(site.endpoint_id, client=bob) as theirs:
        assert theirs.submit_to_registered_function(fid, ("Bob",)).result(WAIT_S) == "Hello Bob"
    assert [each["function_uuid"] for each in bob.search_functions(name)] == [fid]
    assert bob.get_registered_function(fid)["function_name"] == "hello"
    gcc.delete_function(fid)
    assert bob.search_functions(name) == []
    group = made_group(site, "alice", "bob@example.edu")
    fid = gcc.register_function(hello, group=group)
    with Executor(site.endpoint_id, client=bob) as theirs:
        assert theirs.submit_to_registered_function(fid, ("us",)).result(WAIT_S) == "Hello us"
    with pytest.raises(AccessForbidden):
        site.relay.client("ghost").get_registered_function(fid)
    bob.close()


def made_group(site: Site, manager: str, member: str) -> str:
    """`mep groups` as the manager of a new one."""
    environment = {"MEP_RELAY_URL": site.relay.url, "MEP_TOKEN": site.relay.token(manager)}
    group = run(BIN / "mep", "groups", "create", "physics", env=environment).strip()
    run(BIN / "mep", "groups", "add", group, member, env=environment)
    return group


def test_endpoints(site: Site, gcc: Client) -> None:
    assert gcc.get_endpoint_metadata(site.endpoint_id)["display_name"]
    assert gcc.get_endpoint_status(site.endpoint_id)["status"] == "online"
    assert isinstance(gcc.get_endpoints(role="any"), list)
    assert gcc.whoami()["preferred_username"] == "alice@example.edu"


def test_the_laptop_is_closed_and_opened_the_next_day(
    site: Site, laptop: Callable[..., Any]
) -> None:
    """A task that had not ended when the first process did."""
    gate = Path(pwd.getpwnam(site.accounts["alice"]).pw_dir, f"gate-{uuid.uuid4().hex}")
    done = laptop(
        "import os, sys\n"
        "from mep_sdk import Executor\n"
        "def slow(name, path):\n"
        "    import pathlib, time\n"
        "    while not pathlib.Path(path).exists(): time.sleep(0.02)\n"
        "    return name\n"
        "ex = Executor(endpoint_id=os.environ['EP'])\n"
        "for name in 'ab': ex.submit(slow, name, sys.argv[1])\n"
        "print(ex.task_group_id)\n",
        str(gate),
    )
    assert (done.returncode, done.stderr) == (0, "")
    gate.touch()
    gcc = site.relay.client("alice")
    ex = Executor(endpoint_id=site.endpoint_id, client=gcc, task_group_id=done.stdout.strip())
    with ex:
        assert [future.result(WAIT_S) for future in ex.reload_tasks()] == ["a", "b"]
    gcc.close()


def test_limits(ex: Executor) -> None:
    with pytest.raises(PayloadTooLarge):
        ex.submit(len, bytes(11 * 2**20)).result(WAIT_S)
    with pytest.raises(ResultNotCarried):
        ex.submit(big_result, 11 * 2**20).result(WAIT_S)


# --- large data out of band -----------------------------------------------------------------------

PROXIES = """
import os, sys
from mep_sdk import Executor
from proxystore.store import Store

def consume(data):
    from proxystore.proxy import Proxy
    return type(data) is Proxy, isinstance(data, bytes), len(data), data[:3]

def connector():
    match sys.argv[1]:
        case "file":
            from proxystore.connectors.file import FileConnector
            return FileConnector(sys.argv[2])
        case "redis":
            from proxystore.connectors.redis import RedisConnector
            return RedisConnector("127.0.0.1", int(sys.argv[2]))
        case "zmq":
            from proxystore_ex.connectors.dim.zmq import ZeroMQConnector
            return ZeroMQConnector(int(sys.argv[2]), address="127.0.0.1", timeout=10)

if __name__ == "__main__":
    with Store("demo-" + sys.argv[1], connector()) as store:
        proxy = store.proxy(b"big" * 4_000_000)
        with Executor(endpoint_id=os.environ["EP"]) as ex:
            print(ex.submit(consume, proxy).result(60))
"""


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    where = tmp_path_factory.mktemp("redis")
    server = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
        cwd=where,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    assert any("Ready to accept connections" in line for line in server.stdout)
    yield port
    server.terminate()
    server.wait(10)
    server.stdout.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
        return port


@pytest.mark.parametrize("kind", ["file", "redis", "zmq"])
def test_proxies_pass_through_unchanged(
    site: Site,
    laptop: Callable[..., Any],
    request: pytest.FixtureRequest,
    session_site_root: Path,
    kind: str,
) -> None:
    if kind == "file":
        where = session_site_root / "proxies"
        where.mkdir()
        where.chmod(0o777)
    place = {
        "file": lambda: str(session_site_root / "proxies"),
        "redis": lambda: str(request.getfixturevalue("redis")),
        "zmq": lambda: str(free_port()),
    }[kind]()
    done = laptop(PROXIES, kind, place)
    assert done.stdout == "(True, True, 12000000, b'big')\n", done.stderr


# --- from a shell ---------------------------------------------------------------------------------

SCRIPT = """
def estimate(points, seed=0):
    print("on the worker")
    return {"points": points, "seed": seed}

def broken():
    return 1 / 0

if __name__ == "__main__":
    raise SystemExit("only as a script")
"""


@pytest.fixture
def shell(site: Site, tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """`mep` on Alice's laptop, logged in."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    (tmp_path / "sim.py").write_text(SCRIPT)

    def mep(*arguments: str, given: str = "") -> Any:
        return subprocess.run(
            [BIN / "mep", *arguments],
            env=environment,
            cwd=tmp_path,
            input=given,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )

    token = site.relay.token("alice") + "\n"
    done = mep("login", "--relay-url", site.relay.url, "--token-file", "-", given=token)
    assert done.returncode == 0, done.stderr
    return mep


def test_from_a_shell(site: Site, shell: Callable[..., Any]) -> None:
    at = ("--endpoint", site.endpoint_id)
    done = shell("submit", "sim.py:estimate", "100", "seed=7", *at, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["status"], told["result"]) == ("success", {"points": 100, "seed": 7})
    task = told["task_id"]
    listed = json.loads(shell("tasks", "--json").stdout)
    assert (listed[0]["task_id"], listed[0]["function_name"]) == (task, "estimate")
    shown = shell("tasks", task)
    assert shown.returncode == 0
    assert "{'points': 100, 'seed': 7}" in shown.stdout
    # The log is the account's, on the endpoint's machine; elsewhere one is told where.
    elsewhere = shell("logs", "--task", task)
    assert elsewhere.returncode == 1
    assert f"run this on {socket.gethostname()}" in elsewhere.stderr
    account = pwd.getpwnam(site.accounts["alice"])
    logs = subprocess.run(
        [BIN / "mep", "logs", "--task", task],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": account.pw_dir,
            "MEP_RELAY_URL": site.relay.url,
            "MEP_TOKEN": site.relay.token("alice"),
        },
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert "the relay has welcomed this endpoint" in logs.stdout, logs.stderr
    assert f"{account.pw_dir}/.mep/" in logs.stdout


def test_from_a_shell_what_goes_wrong(site: Site, shell: Callable[..., Any]) -> None:
    at = ("--endpoint", site.endpoint_id)
    done = shell("submit", "sim.py:broken", *at)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "return 1 / 0" in done.stderr
    assert "there is no script nowhere.py" in shell("submit", "nowhere.py:f", *at).stderr
    assert "did you mean 'estimate'" in shell("submit", "sim.py:estimat", *at).stderr
    done = shell("submit", "sim.py:estimate", "1", *at, "--config", "walltime=1")
    assert done.returncode == 1
    assert "walltime" in done.stderr
    done = shell("submit", "sim.py:estimate", "1", *at, "--no-wait")
    task = done.stdout.strip()
    until(lambda: shell("tasks", task, "--json").stdout.count('"success"'), "the end")
    assert shell("tasks", task, "--cancel").stdout == "ended\n"
    assert task in shell("tasks").stdout
    done = shell("tasks", str(uuid.uuid4()), "--cancel")
    assert done.returncode == 1
    assert "of yours at this relay; check the id" in done.stderr
    assert site.endpoint_id in shell("endpoints", site.endpoint_id).stdout
    assert isinstance(json.loads(shell("endpoints", "--json").stdout), list)
    assert shell("logout").stdout == "logged out\n"
    assert "run `mep login`" in shell("tasks").stderr


# --- an endpoint for everybody --------------------------------------------------------------------


@pytest.fixture(scope="module")
def tutorial(
    relay: Relay, session_site_root: Path, session_accounts: Callable[[str], pwd.struct_passwd]
) -> Iterator[tuple[Site, str]]:
    """Whoever the relay knows is one account without rights, and runs one function."""
    prefix = session_site_root / "tutorial"
    prefix.mkdir(mode=0o755)
    accounts = [session_accounts(label).pw_name for label in ("guest", "mgr", "map")]
    site = Site(prefix, "tutorial", relay, {}, *accounts[1:])
    site.configure()
    site.map({"source": "{username}", "match": r".*@example\.edu", "output": accounts[0]})
    site.accounts["guest"] = accounts[0]
    policy = site.etc / "policy.toml"
    text = policy.read_text().replace(
        "shared_accounts = []", f'shared_accounts = ["{accounts[0]}"]'
    )
    assert accounts[0] in text
    policy.write_text(text)
    (site.etc / "user_config_template.yaml.j2").write_text(
        "engine:\n  type: GlobusComputeEngine\n  max_workers_per_node: 1\n"
        "  provider: {type: LocalProvider, init_blocks: 1, min_blocks: 0, max_blocks: 1}\n"
    )
    (site.etc / "user_config_schema.json").write_text('{"additionalProperties": false}')
    owner = relay.client("alice")
    fid = owner.register_function(as_whom, public=True)
    owner.close()
    with (site.etc / "config.yaml").open("a") as file:
        file.write(f"public: true\nallowed_functions: [{fid}]\n")
    site.register()
    run_relay = subprocess.run(
        [BIN / "mep-relay", "endpoint", "publish", site.endpoint_id, "--data", relay.data],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
    )
    assert "is public" in run_relay.stdout
    site.start()
    yield site, fid
    site.stop()


def test_a_tutorial_endpoint_is_one_account_for_everybody(tutorial: tuple[Site, str]) -> None:
    site, allowed = tutorial
    for person in ("alice", "bob", f"visitor-{uuid.uuid4().hex[:6]}"):
        with site.executor(person) as ex:
            future = ex.submit_to_registered_function(allowed)
            assert future.result(WAIT_S) == site.accounts["guest"]
    with site.executor("bob") as ex:
        with pytest.raises(FunctionNotPermitted) as refused:
            ex.submit(hello, "x").result(WAIT_S)
        assert (refused.value.status, refused.value.code) == (403, "FUNCTION_NOT_PERMITTED")
        found = ex.client.get_endpoints(role="any")
        assert site.endpoint_id in [each["uuid"] for each in found]
        container = ex.client.register_container("debian:12", "podman")
        ex.container_id = container
        with pytest.raises(ConfigurationRefused, match="runs no containers"):
            ex.submit_to_registered_function(allowed).result(WAIT_S)
