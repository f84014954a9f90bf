"""Connections that both sides close at once, or whose other side has stopped or never began."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from mep_cloud.connections import Http, WebSockets
from mep_cloud.errors import Refusal
from mep_cloud.rest.bodies import raw
from starlette.requests import Request
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.server import ServerState
from websockets.client import ClientProtocol
from websockets.uri import parse_uri


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


async def accepting(_scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


def test_the_client_closes_while_the_server_shuts_down() -> None:
    async def both() -> Wire:
        config = uvicorn.Config(accepting, lifespan="off")
        config.load()
        server, wire = WebSockets(config, ServerState(), {}), Wire()
        server.connection_made(wire)
        client = ClientProtocol(parse_uri("ws://relay.example/"))
        client.send_request(client.connect())
        server.data_received(b"".join(client.data_to_send()))
        while not server.handshake_complete:
            await asyncio.sleep(0)
        client.receive_data(bytes(wire.written))
        client.send_close(1000)
        server.data_received(b"".join(client.data_to_send()))
        server.shutdown()
        await asyncio.wait(server.tasks or [asyncio.create_task(asyncio.sleep(0))])
        return wire

    assert asyncio.run(asyncio.wait_for(both(), 10)).closed


def test_a_client_that_has_stopped_is_left_by_the_server() -> None:
    """It answers no ping and reads nothing, so that what was sent to it never leaves."""
    ended = asyncio.Event()

    async def pushing(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            while True:
                await send({"type": "websocket.send", "bytes": bytes(1 << 20)})
        except ClientDisconnected:
            ended.set()

    async def serve_it() -> None:
        config = uvicorn.Config(
            pushing, ws=WebSockets, lifespan="off", ws_ping_interval=0.1, ws_ping_timeout=0.1
        )
        config.load()
        server = WebSockets(config, ServerState(), {})
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(lambda: server, "127.0.0.1", 0)
        with socket.create_connection(listening.sockets[0].getsockname()) as stopped:
            client = ClientProtocol(parse_uri("ws://relay.example/"))
            client.send_request(client.connect())
            stopped.sendall(b"".join(client.data_to_send()))
            await asyncio.wait_for(ended.wait(), 20)
        listening.close()

    asyncio.run(serve_it())


async def answering(scope: Any, _receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    )
    await send({"type": "http.response.body", "body": b"ok"})


WHOLE = b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n"


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: rel", WHOLE + b"GET /"])
def test_who_does_not_say_what_they_want_is_left(
    monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr("mep_cloud.connections.REQUEST_S", 0.2)

    async def ends() -> bytes:
        async with served(answering) as (reader, writer):
            writer.write(said)
            return await until_it_ends(reader)

    assert asyncio.run(asyncio.wait_for(ends(), 10)).count(b"200 OK") == said.count(WHOLE)


def test_a_connection_whose_request_was_answered_waits_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For as long as such connections are kept, which is longer than a head may take."""
    monkeypatch.setattr("mep_cloud.connections.REQUEST_S", 0.2)

    async def kept() -> None:
        async with served(answering) as (reader, writer):
            for _ in range(2):
                writer.write(WHOLE)
                await reader.readuntil(b"ok")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(reader.read(1), 0.5)

    asyncio.run(asyncio.wait_for(kept(), 10))


UNREAD = b"POST / HTTP/1.1\r\nHost: relay\r\nContent-Length: 100\r\n\r\n"


@pytest.mark.parametrize(("asked", "more"), [(WHOLE, b"\r\n"), (UNREAD, b"{")])
def test_a_connection_on_which_no_next_request_begins_is_kept_as_long_as_a_silent_one(
    asked: bytes, more: bytes
) -> None:
    """Though something came: an empty line, or some of a body that nobody wanted."""

    async def ends() -> bytes:
        async with served(answering, timeout_keep_alive=1) as (reader, writer):
            writer.write(asked)
            await reader.readuntil(b"ok")
            writer.write(more)
            return await until_it_ends(reader)

    assert asyncio.run(asyncio.wait_for(ends(), 10)) == b""


def test_a_websocket_outlives_the_requests_before_it_on_its_connection() -> None:
    async def both(scope: Any, receive: Any, send: Any) -> None:
        await (answering if scope["type"] == "http" else accepting)(scope, receive, send)

    async def kept() -> None:
        async with served(both, timeout_keep_alive=1) as (reader, writer):
            writer.write(WHOLE)
            await reader.readuntil(b"ok")
            client = ClientProtocol(parse_uri("ws://relay.example/"))
            client.send_request(client.connect())
            writer.write(b"".join(client.data_to_send()))
            await reader.readuntil(b"\r\n\r\n")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 1.5)

    asyncio.run(asyncio.wait_for(kept(), 10))


async def until_it_ends(reader: asyncio.StreamReader) -> bytes:
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while some := await reader.read(1000):
            got += some
    return got


@asynccontextmanager
async def served(
    app: Any, *, timeout_keep_alive: int = 75
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """One connection to a server of this application."""
    config = uvicorn.Config(
        app,
        http=Http,
        ws=WebSockets,
        lifespan="off",
        log_config=None,
        timeout_keep_alive=timeout_keep_alive,
    )
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Http(config, ServerState(), {}), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        yield reader, writer
        writer.close()


def test_a_body_of_which_nothing_comes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mep_cloud.rest.bodies.IDLE_S", 0.2)
    parts = iter([{"type": "http.request", "body": b"{", "more_body": True}])

    async def receive() -> Any:
        part = next(parts, None)
        return await asyncio.Event().wait() if part is None else part

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with pytest.raises(Refusal, match="Nothing came for") as refused:
        asyncio.run(asyncio.wait_for(raw(request, 1000), 10))
    assert refused.value.status == 408
