"""The relay is killed again and again while many tasks flow: none is lost, none is doubled."""

import asyncio
import random
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from relay_driver import FakeEndpoint, FakeManager, FakeSdk, RelayProcess, kept
from relay_load import Submitter, check

from mep.wire import to_manager

TASKS = 20_000
KILLS = 5
WITHIN_S = 240


@pytest.mark.timeout(300)
def test_twenty_thousand_tasks_and_a_relay_that_keeps_dying(
    any_relay: Callable[[], Any], record_property: Callable[[str, object], None]
) -> None:
    running = any_relay()
    seed = random.randrange(1 << 32)
    record_property("seed", seed)
    print("seed", seed)
    moments = sorted(random.Random(seed).sample(range(200, TASKS - 500), KILLS))

    async def flow() -> None:
        registered = running.admin.endpoint()
        function = running.alice.function()
        group = str(uuid.uuid4())
        manager = FakeManager(running.url, registered)
        sdk = FakeSdk(running.url, running.alice.token, (group,))
        submitter = Submitter(
            running.alice, registered["endpoint_id"], function, group, tasks=TASKS
        )
        async with kept(manager.link), kept(sdk.link):
            submitter.start()
            start = await manager.next_start()
            manager.running = (start.user_endpoint_id,)
            await manager.link.send(to_manager.Started(start.user_endpoint_id, "alice", 1))
            endpoint = FakeEndpoint(running.url, start.user_endpoint_id, manager.token(start))
            async with kept(endpoint.link):
                for moment in moments:
                    await sdk.until(lambda moment=moment: len(sdk.results) >= moment, WITHIN_S)
                    submitter.back.clear()
                    before = len(sdk.results)
                    running.relay.kill()
                    running.relay = await asyncio.to_thread(
                        RelayProcess, running.relay.data, port=running.relay.port
                    )
                    submitter.back.set()
                    # Killed before anybody is back, it would only make all of them wait longer.
                    await sdk.until(lambda before=before: len(sdk.results) > before)
                await sdk.until(lambda: len(sdk.results) >= TASKS, WITHIN_S)
                await asyncio.to_thread(submitter.join, WITHIN_S)
                assert len(submitter.payloads) == TASKS
                await check(running.alice, submitter, endpoint, sdk, group)
        submitter.stopped.set()

    async def within() -> None:
        async with asyncio.timeout(WITHIN_S):
            await flow()

    began = time.monotonic()
    asyncio.run(within())
    print(f"{TASKS} tasks, {KILLS} kills at {moments}: {time.monotonic() - began:.1f} s")
