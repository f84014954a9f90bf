"""Two relay processes on one PostgreSQL database, behind a balancer: what one's end means."""

import asyncio
import signal
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import requests
from relay_driver import BOUND_S, Api, FakeEndpoint, FakeManager, FakeSdk, kept, relay_cli
from relay_load import Submitter, check
from relay_pair import Pair
from testbed import until

from mep.wire import to_manager

TASKS = 4000
WITHIN_S = 150

Damage = Callable[[Pair, str, FakeSdk], Awaitable[None]]


async def flow(pair: Pair, damage: Damage) -> None:
    """Tasks from a submitter to an endpoint and back, all by the balancer, under `damage`."""
    url = pair.balancer.url
    alice = pair.people.alice
    registered = await asyncio.to_thread(pair.people.admin.endpoint)
    function = await asyncio.to_thread(alice.function)
    group = str(uuid.uuid4())
    assert alice.token is not None
    manager = FakeManager(url, registered)
    sdk = FakeSdk(url, alice.token, (group,))
    endpoint_id = registered["endpoint_id"]
    submitter = Submitter(alice, endpoint_id, function, group, tasks=TASKS)
    async with kept(manager.link), kept(sdk.link):
        submitter.start()
        start = await manager.next_start()
        manager.running = (start.user_endpoint_id,)
        await manager.link.send(to_manager.Started(start.user_endpoint_id, "alice", 1))
        endpoint = FakeEndpoint(url, start.user_endpoint_id, manager.token(start))
        async with kept(endpoint.link):
            await damage(pair, endpoint_id, sdk)
            await sdk.until(lambda: len(sdk.results) >= TASKS, WITHIN_S)
            await asyncio.to_thread(submitter.join, BOUND_S)
            assert len(submitter.payloads) == TASKS
            await check(alice, submitter, endpoint, sdk, group)
    submitter.stopped.set()


def run(job: Coroutine[Any, Any, None]) -> None:
    async def within() -> None:
        async with asyncio.timeout(WITHIN_S):
            await job

    asyncio.run(within())


def test_clients_go_on_when_a_process_is_killed(pair: Pair) -> None:
    async def kill_the_home_twice(pair: Pair, endpoint_id: str, sdk: FakeSdk) -> None:
        for moment in (TASKS // 4, TASKS // 2):
            await sdk.until(lambda moment=moment: len(sdk.results) >= moment, WITHIN_S)
            home = await asyncio.to_thread(pair.home, endpoint_id)
            pair.relays[home].kill()
            await asyncio.to_thread(pair.home, endpoint_id, but=home)
            await asyncio.to_thread(pair.start_again, home)

    run(flow(pair, kill_the_home_twice))


def test_a_process_that_is_told_to_end_hands_its_endpoints_over(pair: Pair) -> None:
    async def end_the_home(pair: Pair, endpoint_id: str, sdk: FakeSdk) -> None:
        await sdk.until(lambda: len(sdk.results) >= TASKS // 4)
        home = await asyncio.to_thread(pair.home, endpoint_id)
        number = pair.number(home)
        assert await asyncio.to_thread(pair.relays[home].stop) == 0
        await asyncio.to_thread(pair.home, endpoint_id, but=home)
        await asyncio.to_thread(pair.start_again, home)
        log, words = pair.relays[1 - home].log, f"relay process {number} has ended"
        await asyncio.to_thread(until, lambda: words in log.read_text(), "the other's word")

    run(flow(pair, end_the_home))


def test_a_stopped_process_is_fenced_off_and_doubles_nothing(pair: Pair) -> None:
    async def stop_the_home(pair: Pair, endpoint_id: str, sdk: FakeSdk) -> None:
        await sdk.until(lambda: len(sdk.results) >= TASKS // 4)
        home = await asyncio.to_thread(pair.home, endpoint_id)
        stopped = pair.relays[home]
        stopped.process.send_signal(signal.SIGSTOP)
        # As a balancer's health check does. Links that are open stay with the stopped process.
        pair.balancer.only(pair.relays[1 - home].port)
        await asyncio.to_thread(pair.home, endpoint_id, but=home)
        stopped.process.send_signal(signal.SIGCONT)
        # It finds results in its sockets, and what to send in its memory; it can commit nothing.
        assert await asyncio.to_thread(stopped.ended) == 1
        assert "The relay ends" in stopped.log.read_text()
        await asyncio.to_thread(pair.start_again, home)

    run(flow(pair, stop_the_home))


def test_a_revocation_by_one_process_is_felt_by_the_other(pair: Pair) -> None:
    """Sooner than what is remembered is over: see MEMORY_S of mep_cloud.auth."""
    issued = pair.issuer.token(preferred_username=f"p-{uuid.uuid4()}", sub=str(uuid.uuid4()))
    data = pair.relays[0].data
    made = str(relay_cli("token", "create", "alice@example.org", "--data", data)["token"])
    for token in (issued, made):
        apis = [Api(relay.url, token) for relay in pair.relays]
        pair.opened += apis
        assert [api("GET", "/v3/whoami").status_code for api in apis] == [200, 200]
        revoke = pair.relays[0].url + "/v2/oauth2/token/revoke"
        assert requests.post(revoke, data={"token": token}, timeout=BOUND_S).ok
        assert apis[0]("GET", "/v3/whoami").status_code == 401
        deadline = time.monotonic() + BOUND_S
        while apis[1]("GET", "/v3/whoami").status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert apis[1]("GET", "/v3/whoami").status_code == 401
