"""Peers of the manager, at the edge: a relay and a warden that say what the test tells them."""

import asyncio
import contextlib
import http
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

from mep.manager import packets
from mep.root import messages as root
from mep.wire import to_manager as wire
from mep.wire.codec import encode

KINDS = {
    packets.Running: root.RUNNING,
    packets.Started: root.STARTED,
    packets.Refused: root.REFUSED,
    packets.Exited: root.EXITED,
}
ENDPOINT_ID = "7f1f5f0e-3f0a-4b5c-8a4e-0d3c2b1a9f8e"


def write_site(where: Path, relay_url: str, token: str = "link-token") -> None:
    (where / "config.yaml").write_text(f"relay_url: {relay_url}\n")
    (where / "policy.toml").write_text("minimum_uid = 1000\n")
    (where / "manager.token").write_text(token + "\n")
    parent = {"endpoint_id": ENDPOINT_ID, "endpoint_name": "test", "relay_url": relay_url}
    (where / "parent.json").write_text(json.dumps(parent))


class ScriptedRelay:
    """Accepts one token; hands out what the manager says, sends what the test says."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.received: asyncio.Queue[Any] = asyncio.Queue()
        self.connections: asyncio.Queue[ServerConnection] = asyncio.Queue()
        self.current: ServerConnection | None = None
        self.refusals = 0
        self.port = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["ScriptedRelay"]:
        async with serve(self._talk, "127.0.0.1", self.port, process_request=self._admit) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            yield self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _admit(self, connection: ServerConnection, request: Any) -> Any:
        if request.path != wire.PATH or request.headers["Authorization"] != f"Bearer {self.token}":
            self.refusals += 1
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "this token is revoked\x1b[2J")
        return None

    async def _talk(self, connection: ServerConnection) -> None:
        self.current = connection
        await connection.send(encode(wire.Welcome(1, 1.0)))
        await self.connections.put(connection)
        async for frame in connection:
            await self.received.put(wire.from_manager.decode(frame))

    async def say(self, message: Any) -> None:
        assert self.current is not None
        await self.current.send(encode(message))

    async def next(self, kind: type) -> Any:
        """The next message of this kind; heartbeats between are skipped, others are an error."""
        async with asyncio.timeout(60):
            while True:
                message = await self.received.get()
                if isinstance(message, kind):
                    return message
                assert isinstance(message, wire.Status), message


class ScriptedWarden:
    """Listens on the socket; hands out what it is asked, answers what the test says."""

    def __init__(self, path: Path, boot_id: str, running: list[str]) -> None:
        self.path = path
        self.boot_id = boot_id
        self.running = running
        self.connection: socket.socket | None = None

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["ScriptedWarden"]:
        loop = asyncio.get_running_loop()
        self.path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.setblocking(False)
            listener.bind(str(self.path))
            listener.listen()
            async with asyncio.timeout(60):
                self.connection, _ = await loop.sock_accept(listener)
            self.connection.setblocking(False)
            with self.connection:
                await self.say(packets.Running(self.boot_id, self.running))
                yield self

    async def say(self, reply: packets.Reply) -> None:
        await self.say_bytes(root.pack_reply(KINDS[type(reply)], *reply))

    async def say_bytes(self, packet: bytes) -> None:
        assert self.connection is not None
        await asyncio.get_running_loop().sock_sendall(self.connection, packet)

    async def asked(self) -> packets.Request:
        assert self.connection is not None
        async with asyncio.timeout(60):
            packet = await asyncio.get_running_loop().sock_recv(self.connection, root.MAX_PACKET)
        return root.parse_request(packet)

    async def closed(self) -> None:
        """Until the manager has closed the connection."""
        assert self.connection is not None
        async with asyncio.timeout(60):
            assert await asyncio.get_running_loop().sock_recv(self.connection, 1) == b""
