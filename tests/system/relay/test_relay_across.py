"""What one of two relay processes takes in is known to the other: each test uses both."""

import asyncio
import contextlib
import math
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import requests
from relay_driver import BOUND_S, Api, FakeEndpoint, FakeManager, FakeSdk, kept, relay_cli
from relay_pair import DEPTH, Pair
from testbed.relays import METRICS_TOKEN

from mep.link import LinkRefused
from mep.wire import codes, to_manager
from mep.wire.tasks import Result, StateChange

HOME, OTHER = 0, 1


class Site:
    """An endpoint that is at home in one process; its links come by either."""

    def __init__(self, pair: Pair, *, home: int = HOME, links: int = OTHER) -> None:
        self.pair = pair
        self.registered = at(pair, home).admin.endpoint()
        self.id = self.registered["endpoint_id"]
        self.function = at(pair, home).alice.function()
        self.group = str(uuid.uuid4())
        self._home = pair.relays[home].url
        self.url = pair.relays[links].url

    @contextlib.asynccontextmanager
    async def manager(self) -> AsyncIterator[FakeManager]:
        """First in the home, which makes it one; then, where links go by the other, by that."""
        first = FakeManager(self._home, self.registered)
        async with kept(first.link):
            await heard(first, to_manager.Welcome)
            if self.url == self._home:
                yield first
                return
        manager = FakeManager(self.url, self.registered)
        async with kept(manager.link):
            yield manager

    async def endpoint(self, manager: FakeManager, **fields: Any) -> FakeEndpoint:
        start = await manager.next_start()
        await manager.link.send(to_manager.Started(start.user_endpoint_id, "alice", 1))
        return FakeEndpoint(self.url, start.user_endpoint_id, manager.token(start), **fields)

    def submit(self, api: Api, *payloads: str) -> list[str]:
        answer = api.submit(self.id, self.function, list(payloads), task_group_id=self.group)
        ids: list[str] = answer["tasks"][self.function]
        return ids


class At:
    """People who ask one of the processes directly."""

    def __init__(self, url: str, pair: Pair) -> None:
        self.admin, self.alice, self.bob, self.nobody = (
            Api(url, api.token) for api in pair.people.apis
        )


def at(pair: Pair, index: int) -> At:
    """Each use makes its own sessions: requests keeps connections for one thread."""
    made = At(pair.relays[index].url, pair)
    pair.opened.extend((made.admin, made.alice, made.bob, made.nobody))
    return made


async def heard(peer: Any, kind: type[Any]) -> Any:
    async with asyncio.timeout(BOUND_S):
        while True:
            message = await peer.heard.get()
            if isinstance(message, kind):
                return message


async def until(condition: Callable[[], bool]) -> None:
    """Ask again and again, since nothing tells the test."""
    async with asyncio.timeout(BOUND_S):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.02)


def test_tasks_results_and_states_cross_over(pair: Pair) -> None:
    site = Site(pair)
    here, there = at(pair, HOME), at(pair, OTHER)
    assert there.alice.token is not None
    sdk = FakeSdk(pair.relays[OTHER].url, there.alice.token, (site.group,))

    async def flow() -> None:
        async with site.manager() as manager, kept(sdk.link):
            (task_id,) = await asyncio.to_thread(site.submit, there.alice, "x")
            assert pair.home(site.id) == HOME
            endpoint = await site.endpoint(manager, run=lambda _: None)
            async with kept(endpoint.link):
                await endpoint.hear_task(task_id)
                for api in (here.alice, there.alice):
                    await until(
                        lambda api=api: api.results([task_id])[task_id]["status"] == "queued"
                    )
                change = StateChange(task_id, "running", 5.0)
                await endpoint.move(change)
                await sdk.until(lambda: sdk.states == [change])
                for api in (here.alice, there.alice):
                    told = await asyncio.to_thread(api.ok, "GET", f"/v3/tasks/{task_id}")
                    assert told["status"] == "running"
                    assert told["transitions"]["began"] == 5.0
                await endpoint.send([Result(task_id, "success", b"r", None, 5.0, 6.0)])
                await sdk.until(lambda: task_id in sdk.results)

    asyncio.run(flow())


def test_a_moment_that_is_no_time_harms_no_other_process(pair: Pair) -> None:
    """What user endpoints say is told on, and they are their users'."""
    site = Site(pair)
    sdk = FakeSdk(pair.relays[OTHER].url, str(at(pair, OTHER).alice.token), (site.group,))

    async def flow() -> None:
        async with site.manager() as manager, kept(sdk.link):
            (task_id,) = await asyncio.to_thread(site.submit, at(pair, OTHER).alice, "x")
            endpoint = await site.endpoint(manager, run=lambda _: None)
            async with kept(endpoint.link):
                await endpoint.hear_task(task_id)
                await endpoint.move(StateChange(task_id, "running", math.nan))
                await sdk.until(lambda: len(sdk.states) == 1)
                assert math.isfinite(sdk.states[0].at)
                ended = Result(task_id, "success", b"r", None, math.inf, math.nan)
                await endpoint.send([ended])
                await sdk.until(lambda: task_id in sdk.results)
                path = f"/v3/tasks/{task_id}"
                told = await asyncio.to_thread(at(pair, OTHER).alice.ok, "GET", path)
                assert told["status"] == "success"
                assert set(told["transitions"]) == {"created", "dispatched", "ended"}

    asyncio.run(flow())


def test_lists_tell_the_state_that_the_home_knows(pair: Pair) -> None:
    site = Site(pair)
    (task_id,) = site.submit(at(pair, OTHER).alice, "x")
    pair.home(site.id)

    async def flow() -> None:
        for index in (HOME, OTHER):
            alice = at(pair, index).alice
            path = f"/v3/tasks?task_group_id={site.group}"
            (listed,) = (await asyncio.to_thread(alice.ok, "GET", path))["tasks"]
            assert listed["task_id"] == task_id
            assert listed["status"] == "waiting-for-ep"

    asyncio.run(flow())


def test_one_group_with_results_from_both(pair: Pair) -> None:
    """Places in the order of commits are shared, so a stream that has one missed none before it."""
    sites = [Site(pair, home=index, links=index) for index in (HOME, OTHER)]
    group = sites[1].group = sites[0].group
    alices = [at(pair, index).alice for index in (HOME, OTHER)]
    assert alices[0].token is not None
    sdks = [FakeSdk(relay.url, alices[0].token, (group,)) for relay in pair.relays]
    batches, size = 12, 20

    async def of_one(site: Site, alice: Api) -> list[str]:
        async with site.manager() as manager:
            ids = await asyncio.to_thread(site.submit, alice, "first")
            endpoint = await site.endpoint(manager)
            async with kept(endpoint.link):
                for _ in range(batches):
                    ids += await asyncio.to_thread(site.submit, alice, *["x"] * size)
                await asyncio.to_thread(alice.wait, ids)
        return ids

    async def flow() -> None:
        async with kept(sdks[0].link), kept(sdks[1].link):
            made = await asyncio.gather(*map(of_one, sites, alices))
            wanted = {each for ids in made for each in ids}
            assert len(wanted) == 2 * (batches * size + 1)
            # Whichever acknowledges first, the other may miss what is acknowledged: both together.
            await sdks[0].until(lambda: wanted <= {*sdks[0].results, *sdks[1].results})
            await sdks[1].until(lambda: wanted <= {*sdks[0].results, *sdks[1].results})

    for sdk in sdks:
        sdk.acknowledge = False
    asyncio.run(flow())
    for sdk in sdks:
        assert set(sdk.times.values()) == {1}


def test_a_cancel_and_the_end_of_an_endpoint_cross_over(pair: Pair) -> None:
    site = Site(pair)
    there = at(pair, OTHER)

    async def flow() -> None:
        async with site.manager() as manager:
            ids = await asyncio.to_thread(site.submit, there.alice, "x", "y", "z")
            endpoint = await site.endpoint(manager, run=lambda _: None, credit=2)
            async with kept(endpoint.link):
                await endpoint.hear_task(ids[1])
                body = {"task_ids": [ids[0], ids[2], str(uuid.uuid4())]}
                answer = await asyncio.to_thread(
                    there.alice.ok, "POST", "/v3/tasks/cancel", json=body
                )
                assert sorted(answer["tasks"].values()) == ["cancelling", "cancelling", "unknown"]
                ended = await asyncio.to_thread(there.alice.wait, [ids[0], ids[2]])
                assert {each["failure_code"] for each in ended.values()} == {codes.CANCELLED}
                await asyncio.to_thread(there.admin.ok, "DELETE", f"/v2/endpoints/{site.id}")
                ended = await asyncio.to_thread(there.alice.wait, [ids[1]])
                assert ended[ids[1]]["failure_code"] == codes.ENDPOINT_NOT_FOUND
                answer = at(pair, HOME).alice("GET", f"/v2/endpoints/{site.id}")
                assert answer.status_code == 404

    asyncio.run(flow())


def test_who_is_connected_is_known_to_both(pair: Pair) -> None:
    site = Site(pair)
    path = f"/v2/endpoints/{site.id}/status"
    apis = [at(pair, index).alice for index in (HOME, OTHER)]

    def all_say(status: str, *, possible: bool) -> bool:
        told = [api.ok("GET", path) for api in apis]
        return all(
            each["status"] == status and each["details"]["starts_possible"] is possible
            for each in told
        )

    async def flow() -> None:
        async with site.manager() as manager:
            await until(lambda: all_say("online", possible=True))
            await manager.link.send(to_manager.WardenDown())
            await until(lambda: all_say("online", possible=False))
        await until(lambda: all_say("offline", possible=False))

    asyncio.run(flow())


def test_a_revocation_is_felt_at_once_by_both(pair: Pair) -> None:
    data = pair.relays[HOME].data
    token = relay_cli("token", "create", "bob", "--data", data, "--name", "short")["token"]
    apis = [Api(relay.url, token) for relay in pair.relays]
    pair.opened.extend(apis)
    for api in apis:
        api.ok("GET", "/v3/whoami")

    async def flow() -> None:
        sdk = FakeSdk(apis[OTHER].url, token, ())
        async with kept(sdk.link) as link:
            await until(lambda: sdk.link.up)
            form = {"token": token}
            url = f"{apis[HOME].url}/v2/oauth2/token/revoke"
            assert requests.post(url, data=form, timeout=BOUND_S).status_code == 200
            async with asyncio.timeout(BOUND_S):
                with pytest.raises(LinkRefused) as refused:
                    await link
            assert refused.value.status == 401
        await until(lambda: apis[OTHER]("GET", "/v3/whoami").status_code == 401)

    asyncio.run(flow())


def test_the_depth_of_a_queue_holds_across(pair: Pair) -> None:
    site = Site(pair)
    here, there = at(pair, HOME), at(pair, OTHER)

    async def flow() -> None:
        async with site.manager():
            full = ["x"] * 1000
            for number in range(DEPTH // 1000):
                await asyncio.to_thread(site.submit, (here.alice, there.alice)[number % 2], *full)
            body = {"tasks": {site.function: ["one more"]}}
            path = f"/v3/endpoints/{site.id}/submit"
            for api in (here.alice, there.alice):
                await until(lambda api=api: api("POST", path, json=body).status_code == 429)
        await asyncio.to_thread(there.admin.ok, "DELETE", f"/v2/endpoints/{site.id}")

    asyncio.run(flow())


def test_a_function_that_was_deleted_by_the_other(pair: Pair) -> None:
    site = Site(pair)
    here, there = at(pair, HOME), at(pair, OTHER)
    site.submit(there.alice, "x")
    here.alice.ok("DELETE", f"/v2/functions/{site.function}")
    body = {"tasks": {site.function: ["x"]}}
    path = f"/v3/endpoints/{site.id}/submit"
    asyncio.run(until(lambda: there.alice("POST", path, json=body).status_code == 404))


def test_a_link_is_handed_on_once_and_with_its_own_credential(pair: Pair) -> None:
    site = Site(pair)
    other = pair.relays[OTHER].url

    async def flow() -> None:
        async with site.manager() as manager:
            await heard(manager, to_manager.Welcome)
            registered = {**site.registered, "link_token": "wrong"}
            async with kept(FakeManager(other, registered).link) as link:
                async with asyncio.timeout(BOUND_S):
                    with pytest.raises(LinkRefused) as refused:
                        await link
            assert refused.value.status == 401
            forwarded = {
                "Authorization": f"Bearer {site.registered['link_token']}",
                "Mep-Forwarded": "1",
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
            }
            answer = await asyncio.to_thread(
                requests.get, other + to_manager.PATH, headers=forwarded, timeout=BOUND_S
            )
            assert answer.status_code == 503
            assert "at home in another relay process" in answer.text

    asyncio.run(flow())


def test_figures_tell_of_homes_and_peers(pair: Pair) -> None:
    site = Site(pair)

    async def flow() -> None:
        async with site.manager():
            pass

    def told(index: int) -> str:
        api = Api(pair.relays[index].url, METRICS_TOKEN)
        pair.opened.append(api)
        return api("GET", "/metrics").text

    def homes(index: int) -> float:
        return float(told(index).split("\nmep_relay_homes ")[1].split()[0])

    before = homes(HOME), homes(OTHER)
    asyncio.run(flow())
    assert (homes(HOME), homes(OTHER)) == (before[0] + 1, before[1])
    for index in (HOME, OTHER):
        assert "\nmep_relay_peers 1.0\n" in told(index)
