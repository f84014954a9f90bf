"""The three links of a real relay: who may open them, and what happens when things go wrong."""

import asyncio
import contextlib
import json
import sqlite3
import time
import uuid
from typing import Any

import pytest
from relay_driver import BOUND_S, Api, FakeEndpoint, FakeManager, FakeSdk, kept
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from mep.link import LinkRefused, Peer
from mep.wire import PROTOCOL, limits, to_endpoint, to_manager, to_sdk
from mep.wire.codec import encode
from mep.wire.tasks import Result, StateChange


class Case:
    """A registered endpoint, a function, a task group, and their peers."""

    def __init__(self, running: Any, user: Api | None = None) -> None:
        self.url = running.url
        self.user = user or running.alice
        self.registered = running.admin.endpoint()
        self.endpoint_id = self.registered["endpoint_id"]
        self.function = self.user.function()
        self.group = str(uuid.uuid4())
        self.manager = FakeManager(running.url, self.registered)
        self.sdk = FakeSdk(running.url, self.user.token or "", (self.group,))

    async def submit(self, *payloads: str, **fields: Any) -> list[str]:
        answer = await asyncio.to_thread(
            self.user.submit,
            self.endpoint_id,
            self.function,
            list(payloads),
            task_group_id=self.group,
            **fields,
        )
        ids: list[str] = answer["tasks"][self.function]
        return ids

    async def endpoint(self, **fields: Any) -> FakeEndpoint:
        """The user endpoint of the next start."""
        start = await self.manager.next_start()
        await self.manager.link.send(to_manager.Started(start.user_endpoint_id, "alice", 1))
        return FakeEndpoint(self.url, start.user_endpoint_id, self.manager.token(start), **fields)

    async def result(self, task_id: str) -> Result:
        await self.sdk.until(lambda: task_id in self.sdk.results)
        return self.sdk.results[task_id]


async def final_refusal(task: "asyncio.Task[None]") -> LinkRefused:
    async with asyncio.timeout(BOUND_S):
        with pytest.raises(LinkRefused) as caught:
            await task
    return caught.value


def test_wrong_tokens_are_refused_with_a_sentence(running: Any) -> None:
    async def flow() -> None:
        case = Case(running)
        alice = running.alice.token
        for token, manager_status in (("wrong", 401), (alice, 401)):
            case.registered["link_token"] = token
            async with kept(FakeManager(case.url, case.registered).link) as task:
                refused = await final_refusal(task)
                assert refused.status == manager_status
                assert "token" in refused.message
        async with kept(FakeEndpoint(case.url, str(uuid.uuid4()), alice).link) as task:
            assert (await final_refusal(task)).status == 401
        async with kept(FakeSdk(case.url, "wrong", ()).link) as task:
            assert (await final_refusal(task)).status == 401

    asyncio.run(flow())


def test_a_link_credential_opens_its_own_link_only(running: Any) -> None:
    async def flow() -> None:
        one, other = running.admin.endpoint(), running.admin.endpoint()
        mixed = {**other, "link_token": one["link_token"]}
        async with kept(FakeManager(running.url, mixed).link) as task:
            assert (await final_refusal(task)).status == 403
        api = Api(running.url, one["link_token"])
        response = await asyncio.to_thread(api, "GET", "/v3/whoami")
        assert response.status_code == 401
        api.session.close()
        async with kept(FakeSdk(running.url, one["link_token"], ()).link) as task:
            assert (await final_refusal(task)).status == 401

    asyncio.run(flow())


def test_registering_again_revokes_the_link_credential(running: Any) -> None:
    async def flow() -> None:
        registered = running.admin.endpoint()
        manager = FakeManager(running.url, registered)
        async with kept(manager.link):
            await asyncio.wait_for(manager.heard.get(), BOUND_S)
        path = f"/v3/endpoints/{registered['endpoint_id']}"
        body = {"endpoint_name": "site", "multi_user": True}
        await asyncio.to_thread(running.admin.ok, "PUT", path, json=body)
        async with kept(FakeManager(running.url, registered).link) as task:
            assert (await final_refusal(task)).status == 401

    asyncio.run(flow())


def test_somebody_elses_group_cannot_be_streamed(running: Any) -> None:
    async def flow() -> None:
        case = Case(running)
        await case.submit("x")
        async with kept(FakeSdk(case.url, running.bob.token, (case.group,)).link) as task:
            assert (await final_refusal(task)).status == 403

    asyncio.run(flow())


def test_whoever_streams_a_group_keeps_it(running: Any) -> None:
    """Though the relay remembers whose it is: the sweep must see that it is used."""
    theirs, hers = str(uuid.uuid4()), str(uuid.uuid4())
    database = sqlite3.connect(running.relay.data / "relay.sqlite3", timeout=BOUND_S)
    with contextlib.closing(database), database:
        for group, name in ((theirs, "bob"), (hers, "alice@example.org")):
            database.execute(
                "INSERT INTO task_groups SELECT ?, id, 5, 5 FROM users WHERE username LIKE ?",
                (group, f"{name}%"),
            )
    running.alice.ok("GET", f"/v2/taskgroup/{hers}")

    async def flow() -> None:
        async with kept(FakeSdk(running.url, running.alice.token, (hers, theirs)).link) as task:
            assert (await final_refusal(task)).status == 403

    asyncio.run(flow())
    database = sqlite3.connect(running.relay.data / "relay.sqlite3", timeout=BOUND_S)
    with contextlib.closing(database):
        ((used,),) = database.execute("SELECT used FROM task_groups WHERE id = ?", (hers,))
    assert used > time.time() - BOUND_S


@pytest.mark.parametrize(
    ("path", "hello"),
    [
        (to_manager.PATH, to_manager.ManagerHello(PROTOCOL + 1, "e", "0", "3", "h")),
        (to_sdk.PATH, to_sdk.StreamHello(PROTOCOL + 1, "0", ())),
    ],
)
def test_another_protocol_is_told_so(running: Any, path: str, hello: Any) -> None:
    token = running.alice.token
    if path == to_manager.PATH:
        token = running.admin.endpoint()["link_token"]
    code, reason = asyncio.run(close_of(running.url, path, token, encode(hello)))
    assert code == 4426
    assert str(PROTOCOL) in reason


@pytest.mark.parametrize("junk", [b"", b"\xc1", b"\x90", b"x" * 1000, "text", b"\x91\xa3lol"])
def test_junk_closes_the_stream_with_a_reason(running: Any, junk: bytes | str) -> None:
    code, reason = asyncio.run(close_of(running.url, to_sdk.PATH, running.alice.token, junk))
    assert code == 4400
    assert reason


async def close_of(url: str, path: str, token: str, first: bytes | str) -> tuple[int, str]:
    """How the relay closes after this first frame."""
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(Peer(url).websocket(path), additional_headers=headers) as socket:
        await socket.send(first)
        async with asyncio.timeout(BOUND_S):
            with contextlib.suppress(ConnectionClosedError):
                async for _ in socket:
                    pass
        return socket.close_code or 0, socket.close_reason or ""


def test_refused_start_reaches_the_sdk_at_once(running: Any) -> None:
    async def flow() -> None:
        case = Case(running)
        async with kept(case.manager.link), kept(case.sdk.link):
            (task,) = await case.submit("x")
            start = await case.manager.next_start()
            await case.manager.link.send(
                to_manager.Refused(
                    start.user_endpoint_id,
                    start.nonce,
                    "IDENTITY_NOT_MAPPED",
                    "No rule maps alice@example.org to an account (reference W17).",
                    "W17",
                )
            )
            failure = (await case.result(task)).failure
            assert failure is not None
            assert failure.code == "IDENTITY_NOT_MAPPED"
            assert failure.message == (
                "No rule maps alice@example.org to an account (reference W17)."
            )
            status = await asyncio.to_thread(case.user.wait, [task])
            assert status[task]["exception"] == failure.message
            # The next submit asks again, with a new nonce.
            await case.submit("y")
            assert (await case.manager.next_start()).nonce != start.nonce

    asyncio.run(flow())


def test_a_newer_grant_revokes_the_older_token(running: Any) -> None:
    async def flow() -> None:
        case = Case(running)
        async with kept(case.manager.link), kept(case.sdk.link):
            await case.submit("x")
            first = await case.endpoint()
            async with kept(first.link):
                await first.hear(to_endpoint.Committed)
            uep = first._id
            exited = to_manager.Exited(uep, "", None, None, "", "")
            await case.manager.link.send(exited)
            await case.submit("y")
            second_start = await case.manager.next_start()
            # The older token works until the newer one has connected.
            older = FakeEndpoint(case.url, uep, await _token_of(first), run=lambda _: None)
            async with kept(older.link):
                await older.hear(to_endpoint.Welcome)
            second = FakeEndpoint(case.url, uep, case.manager.token(second_start))
            async with kept(second.link):
                await second.hear(to_endpoint.Welcome)
                again = FakeEndpoint(case.url, uep, await _token_of(first))
                async with kept(again.link) as task:
                    assert (await final_refusal(task)).status == 401

    asyncio.run(flow())


async def _token_of(endpoint: FakeEndpoint) -> str:
    return endpoint.link._token()


def test_a_newer_connection_replaces_the_older(running: Any) -> None:
    async def flow() -> None:
        case = Case(running)
        async with kept(case.manager.link), kept(case.sdk.link):
            (task,) = await case.submit("x")
            older = await case.endpoint(run=lambda task: None)
            async with kept(older.link) as ending:
                await older.hear(to_endpoint.Tasks)
                newer = FakeEndpoint(case.url, older._id, await _token_of(older))
                async with kept(newer.link):
                    assert (await final_refusal(ending)).status == 409
                    # It did not say that it holds the task, so it gets it.
                    assert (await case.result(task)).payload == b"x"

    asyncio.run(flow())


def test_lost_link_loses_and_doubles_nothing(running: Any) -> None:
    async def flow() -> None:
        case = Case(running)
        async with kept(case.manager.link), kept(case.sdk.link):
            held, _ = ids = await case.submit("held", "done")
            endpoint = await case.endpoint(run=lambda task: None)
            async with kept(endpoint.link):
                await endpoint.hear(to_endpoint.Tasks)
            again = FakeEndpoint(case.url, endpoint._id, await _token_of(endpoint))
            again.held = {held: endpoint.held[held]}
            again.unacknowledged = {ids[1]: Result(ids[1], "success", b"kept")}
            async with kept(again.link):
                assert (await case.result(ids[1])).payload == b"kept"
                await again.send([Result(held, "success", b"late")])
                assert (await case.result(held)).payload == b"late"
                await again.send([Result(held, "success", b"doubled")])
                await again.hear(to_endpoint.Committed)
            assert again.runs == {}
            assert (await asyncio.to_thread(case.user.wait, [held]))[held]["result"] == "late"

    asyncio.run(flow())


def test_cancel_reaches_the_endpoint(running: Any) -> None:
    async def flow() -> None:
        case = Case(running)
        async with kept(case.manager.link), kept(case.sdk.link):
            (task,) = await case.submit("x")
            endpoint = await case.endpoint(run=lambda task: None)
            async with kept(endpoint.link):
                await endpoint.hear(to_endpoint.Tasks)
                change = StateChange(task, "running", 1.0)
                await endpoint.link.send(to_endpoint.States((change,)))
                await case.sdk.until(lambda: case.sdk.states == [change])
                body = {"task_ids": [task]}
                await asyncio.to_thread(case.user.ok, "POST", "/v3/tasks/cancel", json=body)
                assert (await case.result(task)).outcome == "cancelled"

    asyncio.run(flow())


def test_leaving_and_coming_back(running: Any) -> None:
    async def flow() -> None:
        case = Case(running)
        async with kept(case.manager.link), kept(case.sdk.link):
            (task,) = await case.submit("x")
            endpoint = await case.endpoint()
            async with kept(endpoint.link):
                await case.result(task)
                await endpoint.hear(to_endpoint.Committed)
                await endpoint.link.send(to_endpoint.Leaving("idle"))
                await endpoint.hear(to_endpoint.MayLeave)
                (late,) = await case.submit("late")
            nonce = ""
            await case.manager.link.send(to_manager.Exited(endpoint._id, nonce, 0, None, "", ""))
            async with kept((await case.endpoint()).link):
                assert (await case.result(late)).payload == b"late"
            assert late not in endpoint.runs

    asyncio.run(flow())


def test_large_payloads_come_from_the_disk(running: Any) -> None:
    async def flow() -> None:
        case = Case(running)
        async with kept(case.manager.link), kept(case.sdk.link):
            size = limits.BATCH_BYTES // 2 + 1
            texts = [letter * size for letter in "abc"]
            ids = await case.submit(*texts)
            endpoint = await case.endpoint()
            async with kept(endpoint.link):
                for task, text in zip(ids, texts, strict=True):
                    assert (await case.result(task)).payload == text.encode()

    asyncio.run(flow())


def test_unacknowledged_results_are_streamed_again(running: Any) -> None:
    async def flow() -> None:
        case = Case(running)
        case.sdk.acknowledge = False
        async with kept(case.manager.link), kept(case.sdk.link):
            ids = await case.submit(*map(str, range(2000)))
            endpoint = await case.endpoint()
            async with kept(endpoint.link):
                await case.sdk.until(lambda: len(case.sdk.results) == len(ids))
        again = FakeSdk(case.url, running.alice.token, (case.group,))
        async with kept(again.link):
            await again.until(lambda: len(again.results) == len(ids))
        assert set(again.times.values()) == {1}
        await until_acknowledged(case, ids)

    asyncio.run(flow())


async def until_acknowledged(case: Case, ids: list[str]) -> None:
    """Acknowledged results are not streamed any more: a later one is all that comes."""
    async with asyncio.timeout(BOUND_S):
        while True:
            late = FakeSdk(case.url, case.user.token or "", (case.group,))
            (extra,) = await case.submit("extra")
            body = {"task_ids": [extra]}
            await asyncio.to_thread(case.user.ok, "POST", "/v3/tasks/cancel", json=body)
            async with kept(late.link):
                await late.until(lambda late=late, extra=extra: extra in late.results)
            if not set(late.results) & set(ids):
                return


def test_a_slow_sdk_does_not_block_the_others(running: Any) -> None:
    async def flow() -> None:
        case = Case(running)
        headers = {"Authorization": f"Bearer {running.alice.token}"}
        address = Peer(case.url).websocket(to_sdk.PATH)
        hello = encode(to_sdk.StreamHello(PROTOCOL, "0", (case.group,)))
        payload = "x" * 1_000_000
        async with connect(
            address, additional_headers=headers, max_queue=1, max_size=None, ping_interval=None
        ) as slow:
            await slow.send(hello)
            async with kept(case.manager.link), kept(case.sdk.link):
                case.sdk.acknowledge = False
                ids: list[str] = []
                for _ in range(3):
                    ids += await case.submit(*[payload] * 10)
                endpoint = await case.endpoint()
                async with kept(endpoint.link):
                    await case.sdk.until(lambda: len(case.sdk.results) == len(ids))
            received: list[str] = []
            async with asyncio.timeout(BOUND_S):
                while len(received) < len(ids):
                    message = to_sdk.to_sdk.decode(await slow.recv(decode=False))
                    if isinstance(message, to_sdk.Results):
                        received += [result.task_id for result in message.results]
        assert sorted(received) == sorted(ids)

    asyncio.run(flow())


def test_identity_and_runtime_reach_the_grant(running: Any) -> None:
    async def flow() -> None:
        case = Case(running, running.bob)
        async with kept(case.manager.link):
            runtime = {"python": {"version": "3.12.1"}, "mep_sdk_version": "0.1.0"}
            await case.submit("x", user_runtime=runtime, user_endpoint_config={"b": 1, "a": "ü"})
            start = await case.manager.next_start()
            assert start.options == b'{"a":"\\u00fc","b":1}'
            assert json.loads(start.runtime) == runtime
            grant = json.loads(start.grant)
            assert [each["username"] for each in grant["identities"]] == ["bob@relay.local"]
            assert grant["expires"] - grant["issued"] == 180

    asyncio.run(flow())
