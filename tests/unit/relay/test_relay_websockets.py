"""The end of a WebSocket that both sides close at once, or whose other side has stopped."""

import asyncio
import socket
from typing import Any

import uvicorn
from mep_cloud.serve import WebSockets
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
