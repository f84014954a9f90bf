"""The link against relays that refuse, drop, redirect the wait, or talk nonsense."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from mep.link import Link, LinkRefused, Peer
from mep.wire import PROTOCOL, to_sdk
from mep.wire.codec import encode

Behave = Callable[[ServerConnection], Awaitable[None]]


class Relay:
    """A relay whose connections behave as the test says, one behaviour after the other."""

    def __init__(self, *behaviours: Behave, refusals: tuple[int, ...] = ()) -> None:
        self.behaviours = list(behaviours)
        self.refusals = list(refusals)
        self.hellos: list[Any] = []
        self.tokens: list[str] = []
        self.asked: Callable[[], Awaitable[None]] | None = None
        """Done when a connection is asked for, before it is granted."""

    async def __aenter__(self) -> Peer:
        self._server = await serve(
            self._serve, "127.0.0.1", 0, process_request=self._process, close_timeout=1
        )
        port = next(iter(self._server.sockets)).getsockname()[1]
        return Peer(f"http://127.0.0.1:{port}")

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _process(self, connection: ServerConnection, request: Request) -> Response | None:
        self.tokens.append(request.headers["Authorization"])
        if self.asked is not None:
            await self.asked()
        if self.refusals:
            return connection.respond(HTTPStatus(self.refusals.pop(0)), "because of the test")
        return None

    async def _serve(self, socket: ServerConnection) -> None:
        self.hellos.append(to_sdk.from_sdk.decode(await socket.recv()))  # type: ignore[arg-type]
        await self.behaviours.pop(0)(socket)


async def welcome(socket: ServerConnection) -> None:
    await socket.send(encode(to_sdk.Welcome(PROTOCOL)))
    await socket.wait_closed()


async def drop(socket: ServerConnection) -> None:
    await socket.close(1001, "going away")


async def nonsense(socket: ServerConnection) -> None:
    await socket.send(b"\xc1")
    await socket.wait_closed()


async def not_yours(socket: ServerConnection) -> None:
    await socket.close(4403, "this task group is somebody else's")


class Owner:
    """Counts what the link tells its owner."""

    def __init__(self, peer: Peer) -> None:
        self.received: list[Any] = []
        self.changes: list[bool] = []
        self.welcomed = asyncio.Event()
        self.link: Link[to_sdk.ToSdk] = Link(
            peer,
            to_sdk.PATH,
            token=lambda: "secret",
            hello=lambda: to_sdk.StreamHello(PROTOCOL, "1", ()),
            decoder=to_sdk.to_sdk,
            receive=self._receive,
            changed=self.changes.append,
        )

    async def _receive(self, message: to_sdk.ToSdk) -> None:
        self.received.append(message)
        self.welcomed.set()

    async def until_welcomed(self) -> None:
        running = asyncio.create_task(self.link.run())
        await asyncio.wait_for(self.welcomed.wait(), 10)
        await self.link.close()
        await asyncio.wait_for(running, 10)


def test_it_says_hello_and_receives() -> None:
    async def scenario() -> None:
        relay = Relay(welcome)
        async with relay as peer:
            owner = Owner(peer)
            await owner.until_welcomed()
        assert relay.hellos == [to_sdk.StreamHello(PROTOCOL, "1", ())]
        assert relay.tokens == ["Bearer secret"]
        assert owner.received == [to_sdk.Welcome(PROTOCOL)]
        assert owner.changes == [True, False]

    asyncio.run(scenario())


@pytest.mark.parametrize("passing", [429, 500, 502, 503])
def test_it_tries_again_after_what_passes(passing: int) -> None:
    async def scenario() -> None:
        relay = Relay(drop, welcome, refusals=(passing,))
        async with relay as peer:
            await Owner(peer).until_welcomed()
        assert len(relay.hellos) == 2
        assert len(relay.tokens) == 3

    asyncio.run(scenario())


@pytest.mark.parametrize("status", [401, 403, 404, 426])
def test_it_gives_up_on_what_does_not_pass(status: int) -> None:
    async def scenario() -> None:
        async with Relay(refusals=(status,)) as peer:
            with pytest.raises(LinkRefused, match="because of the test") as caught:
                await asyncio.wait_for(Owner(peer).link.run(), 10)
        assert caught.value.status == status

    asyncio.run(scenario())


def test_a_refusal_after_the_handshake_is_final_too() -> None:
    async def scenario() -> None:
        async with Relay(not_yours) as peer:
            with pytest.raises(LinkRefused, match="somebody else") as caught:
                await asyncio.wait_for(Owner(peer).link.run(), 10)
        assert caught.value.status == 403

    asyncio.run(scenario())


def test_another_protocol_is_final() -> None:
    async def scenario() -> None:
        async with Relay(nonsense) as peer:
            with pytest.raises(LinkRefused, match="another protocol"):
                await asyncio.wait_for(Owner(peer).link.run(), 10)

    asyncio.run(scenario())


def test_nothing_is_sent_while_it_is_down() -> None:
    async def scenario() -> None:
        owner = Owner(Peer("http://127.0.0.1:9"))
        assert not owner.link.up
        assert not await owner.link.send(to_sdk.Received(("t",)))

    asyncio.run(scenario())


def test_close_ends_a_link_that_never_came_up() -> None:
    async def scenario() -> None:
        owner = Owner(Peer("http://127.0.0.1:9"))
        running = asyncio.create_task(owner.link.run())
        await asyncio.sleep(0)
        await owner.link.close()
        await asyncio.wait_for(running, 10)
        assert owner.changes == []

    asyncio.run(scenario())


def test_close_ends_a_link_that_is_just_connecting() -> None:
    async def scenario() -> None:
        relay = Relay(welcome)
        async with relay as peer:
            owner = Owner(peer)
            relay.asked = owner.link.close
            await asyncio.wait_for(owner.link.run(), 10)
        assert relay.tokens == ["Bearer secret"]
        assert owner.changes == []
        assert owner.received == []

    asyncio.run(scenario())


def test_urls() -> None:
    assert Peer("https://relay.example.edu/").websocket("/v3/x") == "wss://relay.example.edu/v3/x"
    assert Peer("http://127.0.0.1:1").tls() is None
    assert Peer("https://relay.example.edu").tls() is not None
