"""The relay alone: submit, dispatch, result, stream; with an endpoint that only echoes.

Prints tasks per second, the relay's CPU time for each task, and the round trip of single tasks.

    python bench/relay_loop.py [--tasks 5000] [--batch 100]
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import msgspec
import psutil

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "system" / "relay"))

from relay_driver import Api, FakeEndpoint, FakeManager, FakeSdk, RelayProcess, kept, relay_cli

MSGPACK = {"Content-Type": "application/msgpack", "Accept": "application/msgpack"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--bytes", type=int, default=100)
    parser.add_argument("--singles", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        relay_cli("init", data)
        relay_cli("user", "add", "admin", "--admin", "--data", data)
        token = relay_cli("token", "create", "admin", "--data", data)["token"]
        relay = RelayProcess(data, arguments=())
        try:
            asyncio.run(measure(relay, Api(relay.url, token), arguments))
        finally:
            relay.stop()


async def measure(relay: RelayProcess, api: Api, arguments: argparse.Namespace) -> None:
    registered = api.endpoint()
    function_id = api.function()
    group = str(uuid.uuid4())
    path = f"/v3/endpoints/{registered['endpoint_id']}/submit"

    def submit(count: int) -> None:
        body = {
            "tasks": {function_id: [b"x" * arguments.bytes] * count},
            "task_group_id": group,
        }
        answer = api("POST", path, data=msgspec.msgpack.encode(body), headers=MSGPACK)
        assert answer.status_code == 200, answer.text

    manager = FakeManager(relay.url, registered)
    sdk = FakeSdk(relay.url, api.token or "", (group,))
    async with kept(manager.link), kept(sdk.link):
        await asyncio.to_thread(submit, 1)
        start = await manager.next_start()
        endpoint = FakeEndpoint(relay.url, start.user_endpoint_id, manager.token(start))
        async with kept(endpoint.link):
            await sdk.until(lambda: len(sdk.results) == 1)
            await singles(sdk, submit, arguments.singles)
            await batches(relay, sdk, submit, arguments)


async def singles(sdk: FakeSdk, submit: Any, count: int) -> None:
    times = []
    for _ in range(count):
        expected = len(sdk.results) + 1
        began = time.perf_counter()
        await asyncio.to_thread(submit, 1)
        await sdk.until(lambda expected=expected: len(sdk.results) == expected)
        times.append(time.perf_counter() - began)
    print(f"single task: p50 {statistics.median(times) * 1000:.2f} ms")


async def batches(
    relay: RelayProcess, sdk: FakeSdk, submit: Any, arguments: argparse.Namespace
) -> None:
    process = psutil.Process(relay.process.pid)
    before = process.cpu_times()
    expected = len(sdk.results) + arguments.tasks
    began = time.perf_counter()

    def all_of_them() -> None:
        for _ in range(arguments.tasks // arguments.batch):
            submit(arguments.batch)

    sender = asyncio.create_task(asyncio.to_thread(all_of_them))
    await sdk.until(lambda: len(sdk.results) >= expected)
    elapsed = time.perf_counter() - began
    await sender
    after = process.cpu_times()
    cpu = (after.user - before.user) + (after.system - before.system)
    print(
        f"{arguments.tasks / elapsed:.0f} tasks/s in batches of {arguments.batch}; "
        f"relay CPU {cpu / arguments.tasks * 1e6:.0f} µs/task"
    )


if __name__ == "__main__":
    main()
