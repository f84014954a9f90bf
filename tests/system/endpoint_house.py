"""A relay at the edge, and a user endpoint started as the warden starts it."""

import fcntl
import json
import os
import queue
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from mep.wire import PROTOCOL, codec, handover, limits
from mep.wire.tasks import Function, Task
from mep.wire.to_endpoint import (
    EndpointHello,
    FromEndpoint,
    States,
    Tasks,
    ToEndpoint,
    Welcome,
    from_endpoint,
)

WAIT_S = 60.0
TOKEN = "derived-token-of-this-endpoint"
SCRIPT = Path(__file__).with_name("endpoint_with_threads.py")
UEP = "0b0e8f2e-7d3c-4c70-9c73-2f8e8f0b1c11"

M = TypeVar("M", bound=codec.Message)


class Connection:
    """One connection of the endpoint, after its hello."""

    def __init__(self, socket: ServerConnection, hello: EndpointHello) -> None:
        self.hello = hello
        self._socket = socket
        self._inbox: queue.Queue[FromEndpoint | None] = queue.Queue()

    def send(self, message: ToEndpoint) -> None:
        self._socket.send(codec.encode(message))

    def drop(self) -> None:
        self._socket.close()

    def get(self, timeout_s: float) -> FromEndpoint | None:
        """The next message; None once the link has ended.

        Raises:
            queue.Empty: not yet.
        """
        return self._inbox.get(timeout=timeout_s)

    def next(self, kind: type[M], past: type[FromEndpoint] = States) -> M:
        """The next message; states, and what is of kind `past`, in between are skipped."""
        while True:
            message = self._inbox.get(timeout=WAIT_S)
            if isinstance(message, kind):
                return message
            assert isinstance(message, States | past), f"{message} instead of {kind.__name__}"

    def ended(self) -> bool:
        """Whether the endpoint closed the link, once all that it sent is read."""
        while (message := self._inbox.get(timeout=WAIT_S)) is not None:
            assert isinstance(message, States), message
        return True

    def read(self) -> None:
        try:
            for frame in self._socket:
                assert isinstance(frame, bytes)
                self._inbox.put(from_endpoint.decode(frame))
        except ConnectionClosed:
            pass
        self._inbox.put(None)


class ForgetfulRelay:
    """Speaks the protocol and does nothing by itself: it commits only what a test tells it to."""

    def __init__(self) -> None:
        self.tokens = {TOKEN}
        self._connections: queue.Queue[Connection] = queue.Queue()
        self._server = serve(
            self._handle,
            "127.0.0.1",
            0,
            process_request=self._check,
            compression=None,
            max_size=limits.LINK_FRAME,
        )
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.socket.getsockname()[1]}"

    def accept(self, timeout_s: float = WAIT_S) -> Connection:
        """The endpoint's next connection."""
        return self._connections.get(timeout=timeout_s)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()

    def _check(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.headers["Authorization"].removeprefix("Bearer ") in self.tokens:
            return None
        return connection.respond(HTTPStatus.UNAUTHORIZED, "this token has been revoked")

    def _handle(self, socket: ServerConnection) -> None:
        frame = socket.recv(WAIT_S)
        assert isinstance(frame, bytes)
        hello = from_endpoint.decode(frame)
        assert isinstance(hello, EndpointHello)
        connection = Connection(socket, hello)
        connection.send(Welcome(PROTOCOL, limits.PAYLOAD))
        self._connections.put(connection)
        connection.read()


def until(holds: Callable[[], bool]) -> None:
    """Wait for something that another process does and does not tell."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        threading.Event().wait(0.01)


def source(body: str) -> bytes:
    return f"def run(payload):\n    {body}\n".encode()


ECHO = Function("f-echo", source("return payload"))


def tasks(*ids: str, function: Function = ECHO, body: bool = True) -> Tasks:
    functions = (function,) if body else ()
    return Tasks(functions, tuple(Task(i, function.function_id, "g", i.encode()) for i in ids))


@dataclass
class Process:
    """A started user endpoint."""

    popen: subprocess.Popen[bytes]
    report: int

    def read_report(self) -> dict[str, Any] | None:
        """What it said on descriptor 4, once it closed it."""
        data = b""
        while chunk := os.read(self.report, 8192):
            data += chunk
        return json.loads(data) if data else None

    def wait(self) -> int:
        return self.popen.wait(WAIT_S)


@dataclass
class Site:
    """A user's home, and what the warden would hand over."""

    home: Path
    relay: ForgetfulRelay
    template: str = "engine:\n  type: ThreadEngine\n"
    schema: bytes = b""
    environment: bytes = b""
    options: dict[str, Any] = field(default_factory=dict)
    parent: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    runtime: dict[str, Any] = field(default_factory=dict)
    command: tuple[str, ...] = (str(SCRIPT),)
    uid: int | None = None
    processes: list[Process] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        return self.home / ".mep" / UEP

    def handover(self) -> bytes:
        facts = {
            "endpoint_id": "e", "user_endpoint_id": UEP, "identity_id": "i", "identities": ["i"],
            "events_socket": None, "template_directory": None,
        }  # fmt: skip
        parent = {"endpoint_id": "e", "endpoint_name": "site", "relay_url": self.relay.url}
        sections = {
            "token": TOKEN.encode(),
            "facts": json.dumps(facts | self.facts).encode(),
            "options": json.dumps(self.options).encode(),
            "runtime": json.dumps(self.runtime).encode(),
            "template": self.template.encode(),
            "schema": self.schema,
            "environment": self.environment,
            "parent": json.dumps(parent | self.parent).encode(),
        }
        packed = b"".join(
            struct.pack(">16sI", name.encode(), len(body)) + body for name, body in sections.items()
        )
        return handover.MAGIC + packed

    def start(self) -> Process:
        """A process with the memory file at 3 and the report pipe at 4."""
        memory = os.memfd_create("handover", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        os.write(memory, self.handover())
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL)
        reader, writer = os.pipe()
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in (memory, writer)]
        popen = subprocess.Popen(
            [sys.executable, "-I", *self.command],
            cwd=self.home,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.home)},
            pass_fds=(3, 4),
            preexec_fn=_at_3_and_4(*high),
            user=self.uid,
            group=self.uid,
        )
        for fd in (memory, writer, *high):
            os.close(fd)
        process = Process(popen, reader)
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            if process.popen.poll() is None:
                process.popen.kill()
                process.popen.wait()
            os.close(process.report)


def _at_3_and_4(memory: int, writer: int) -> Callable[[], None]:
    def move() -> None:
        os.dup2(memory, 3)
        os.dup2(writer, 4)

    return move
