"""Threads, processes, asyncio, the end of a process, and Ctrl-C: nothing lost, nothing hangs."""

import asyncio
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mep_sdk import Client, Executor
from relays import TOKEN, WAIT_S, EchoRelay, HoardingRelay, SlowRelay

EP = str(uuid.uuid4())

HEAD = """
import os, signal, sys
from mep_sdk import Client, Executor

def double(n):
    return 2 * n

def executor():
    client = Client(os.environ["RELAY"], os.environ["TOKEN"], patience_s=5)
    return Executor(os.environ["EP"], client)
"""


class Script:
    """A Python process of a user's; warnings are errors there, whatever is printed is kept."""

    def __init__(self, url: str, where: Path, body: str) -> None:
        path = where / "script.py"
        path.write_text(HEAD + body)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(path)],
            env={"PATH": "/usr/bin:/bin", "RELAY": url, "TOKEN": TOKEN, "EP": EP},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, str, str]:
        """Exit status, the rest of what it printed, and stderr."""
        out, err = self.process.communicate(timeout=WAIT_S)
        return self.process.returncode, out, err


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Callable[[str, str], Script]]:
    made: list[Script] = []

    def start(url: str, body: str) -> Script:
        made.append(Script(url, tmp_path, body))
        return made[-1]

    yield start
    for each in made:
        with each.process as process:
            process.kill()


def double(n: int) -> int:
    return 2 * n


def test_many_threads_one_executor(client_of: Any) -> None:
    found: dict[int, list[int]] = {}
    with Executor(EP, client=client_of(EchoRelay())) as ex:

        def work(number: int) -> None:
            futures = [ex.submit(double, 1000 * number + n) for n in range(100)]
            found[number] = [future.result(WAIT_S) for future in futures]

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
    assert found == {k: [2 * (1000 * k + n) for n in range(100)] for k in range(8)}


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_pools_of_processes_after_use(script: Any, method: str) -> None:
    """A forked child uses the executor that it inherited; a spawned one makes its own."""
    relay = EchoRelay()
    with relay.serving() as url:
        body = f"""
import multiprocessing

def child(n):
    ex = globals().get("shared") or executor()
    return ex.submit(double, n).result(20)

if __name__ == "__main__":
    shared = executor()
    assert shared.submit(double, 1).result(20) == 2
    with multiprocessing.get_context("{method}").Pool(2) as pool:
        assert sorted(pool.map(child, range(6))) == [0, 2, 4, 6, 8, 10]
        pool.close()
        pool.join()
    assert shared.submit(double, 2).result(20) == 4
    print("done")
"""
        assert script(url, body).end() == (0, "done\n", "")


def test_what_belongs_to_a_process_is_not_pickled() -> None:
    client = Client("http://127.0.0.1:1", TOKEN)
    for each in (client, Executor(EP, client=client)):
        with pytest.raises(TypeError, match="belongs to its process"):
            pickle.dumps(each)
    client.close()


def test_asyncio_cancels_what_it_gives_up(client_of: Any) -> None:
    relay = HoardingRelay()

    async def main(ex: Executor) -> None:
        future = ex.submit(double, 1)
        await asyncio.to_thread(ex.flush, WAIT_S)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(future), 0.05)

    with Executor(EP, client=client_of(relay)) as ex:
        asyncio.run(main(ex))
        relay.until(lambda: relay.cancelled)


def test_flush_waits_for_task_ids(client_of: Any) -> None:
    relay = SlowRelay()
    with Executor(EP, client=client_of(relay)) as ex:
        future = ex.submit(double, 1)
        with pytest.raises(TimeoutError, match="could be sent"):
            ex.flush(0.05)
        relay.go.set()
        ex.flush(WAIT_S)
        assert future.task_id is not None


def test_an_executor_may_be_collected_in_midst_of_anything(script: Any) -> None:
    """Garbage is collected in whichever thread makes some, with whatever locks that holds."""
    with EchoRelay().serving() as url:
        body = """
import gc, threading
ex = executor()
assert ex.submit(double, 1).result(20) == 2
ex.itself, stream = ex, ex.client.result_stream()
with stream._lock:
    del ex
    gc.collect()
for thread in threading.enumerate():
    if thread.name.startswith("mep-"):
        thread.join()
print("collected")
"""
        assert script(url, body).end() == (0, "collected\n", "")


def test_a_process_that_ends_says_nothing(script: Any) -> None:
    """With results still on their way, as in a notebook that is shut down."""
    relay = HoardingRelay()
    with relay.serving() as url:
        body = """
import asyncio

async def main():
    ex = executor()
    ex.submit(double, 1)
    ex.flush(20)
    ex.submit(double, 2)

asyncio.run(main())
"""
        assert script(url, body).end() == (0, "", "")
    assert len(relay.submits) == 2


def test_ctrl_c_while_one_waits(script: Any) -> None:
    """The tasks go on, and one is told how to come back."""
    relay = HoardingRelay()
    with relay.serving() as url:
        one = script(
            url,
            """
with executor() as ex:
    futures = [ex.submit(double, n) for n in range(3)]
    ex.flush(20)
    print(ex.task_group_id, flush=True)
    while True:
        futures[0].result()
""",
        )
        group = one.line().strip()
        one.interrupt()
        status, _, err = one.end()
    assert status == -signal.SIGINT
    assert (
        f"3 tasks go on at the endpoint; get their results with Executor(task_group_id='{group}'"
        in err
    )
    assert err.splitlines()[-1] == "KeyboardInterrupt"
    assert sum(len(each) for s in relay.submits for each in s.tasks.values()) == 3


MAPS = """
with executor() as ex:
    results = ex.map(double, range(3))
    ex.flush(20)
    print(ex.task_group_id, flush=True)
    for each in results:
        print(each)
"""
ENDS = """
class Telling(Executor):
    def shutdown(self, wait=True, *, cancel_futures=False):
        print(self.task_group_id, flush=True)
        super().shutdown(wait, cancel_futures=cancel_futures)

with Telling(os.environ["EP"], executor().client) as ex:
    futures = [ex.submit(double, n) for n in range(3)]
"""


@pytest.mark.parametrize("body", [MAPS, ENDS], ids=["map", "end of the with"])
def test_ctrl_c_while_an_executor_waits(script: Any, body: str) -> None:
    relay = HoardingRelay()
    with relay.serving() as url:
        one = script(url, body)
        group = one.line().strip()
        one.interrupt()
        _, _, err = one.end()
    assert (
        f"3 tasks go on at the endpoint; get their results with Executor(task_group_id='{group}'"
        in err
    )
    assert err.splitlines()[-1] == "KeyboardInterrupt"
    assert sum(len(each) for s in relay.submits for each in s.tasks.values()) == 3
    assert relay.cancelled == []


def test_ctrl_c_sends_what_is_queued_and_a_second_one_ends_at_once(script: Any) -> None:
    relay = SlowRelay()
    with relay.serving() as url:
        one = script(
            url,
            """
ex = executor()
ex.submit(double, 0)
sys.stdin.readline()  # the relay has the first, and does not answer
ex.submit(double, 1)
from mep_sdk.submitter import Submitter
finish = Submitter.finish

def told(self):
    print("leaving", flush=True)
    finish(self)

Submitter.finish = told  # at the end of the process, where Ctrl-C is heard
try:
    print("queued", flush=True)
    signal.pause()
except KeyboardInterrupt:
    pass
""",
        )
        relay.until(lambda: relay.submits)
        assert one.process.stdin is not None
        one.process.stdin.write("\n")
        one.process.stdin.flush()
        assert one.line() == "queued\n"
        one.interrupt()
        assert one.line() == "leaving\n"
        one.interrupt()  # it waits for the relay, or is about to
        _, _, err = one.end()
        relay.go.set()
    assert "Traceback" not in err
    assert "interrupted: what had not been sent to the relay yet does not run" in err


@pytest.mark.parametrize("seed", range(6))
def test_ctrl_c_at_any_moment(script: Any, seed: int) -> None:
    """Whatever `submit` had returned for is at the relay when the process has ended."""
    relay = HoardingRelay()
    with relay.serving() as url:
        one = script(
            url,
            """
ex = executor()
futures = []
try:
    print("begin", flush=True)
    while True:
        futures.append(ex.submit(double, len(futures)))
except KeyboardInterrupt:
    print(len(futures), flush=True)
""",
        )
        assert one.line() == "begin\n"
        time.sleep(random.Random(seed).uniform(0.0, 0.3))
        one.interrupt()
        status, out, err = one.end()
    assert (status, err) == (0, "")
    sent = sum(len(each) for s in relay.submits for each in s.tasks.values())
    assert int(out) <= sent <= int(out) + 1
