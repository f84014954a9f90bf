"""Relays on loopback that behave, or misbehave, each in a way of its own; functions run in here."""

import asyncio
import contextlib
import socket
import threading
import uuid
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import msgspec
import uvicorn
from mep_cloud.serve import WebSockets
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from mep import payload
from mep.wire import PROTOCOL, codes, limits, rest, to_sdk
from mep.wire.codec import encode
from mep.wire.tasks import Failure, Result

WAIT_S = 60.0
TOKEN = "the user's token"


def run_task(task_id: str, body: bytes, packed: bytes) -> Result:
    """What a worker would make of it."""
    try:
        args, kwargs = payload.load_arguments(packed)
        value = payload.load_function(body)(*args, **kwargs)
        return Result(task_id, "success", payload.dump_result(value), None, 1.0, 2.0)
    except payload.PayloadError as error:
        failure = Failure(codes.DESERIALIZATION_FAILED, str(error))
        return Result(task_id, "failed", b"", failure)
    except Exception as error:
        packed_error, text = payload.dump_exception(error)
        failure = Failure(codes.USER_EXCEPTION, f"{type(error).__name__}: {error}", text)
        return Result(task_id, "failed", packed_error, failure, 1.0, 2.0)


class EchoRelay:
    """Behaves: runs each task at once, streams its result until it is acknowledged."""

    def __init__(self) -> None:
        self.submits: list[rest.Submit[bytes]] = []
        self.requests: list[str] = []
        self.functions: dict[str, rest.RegisterFunction] = {}
        self.groups: dict[str, list[str]] = {}
        self.results: dict[str, Result] = {}
        self.unacknowledged: dict[str, Result] = {}
        self.cancelled: list[str] = []
        self.streams: dict[WebSocket, set[str]] = {}
        self.changed = threading.Condition()
        self.hellos = 0

    # --- what misbehaving relays replace ---------------------------------------------------------

    async def before(self, request: Request) -> Response | None:
        """An answer instead of the right one."""
        return None

    async def after_submit(self, group: str, results: list[Result]) -> None:
        """The tasks are accepted, their submit is not answered."""
        for result in results:
            self.unacknowledged[result.task_id] = result

    def answered(self, group: str) -> None:
        """The submit is about to be answered."""
        asyncio.get_running_loop().create_task(self.stream(group))

    async def greet(self, websocket: WebSocket) -> bool:
        """Accept a stream."""
        await websocket.accept()
        return True

    # --- REST -----------------------------------------------------------------------------------

    async def submit(self, request: Request) -> Response:
        wanted = msgspec.msgpack.decode(await request.body(), type=rest.Submit[bytes])
        self.submits.append(wanted)
        if (instead := await self.before(request)) is not None:
            return instead
        group = wanted.task_group_id or str(uuid.uuid4())
        tasks: dict[str, list[str]] = {}
        results = []
        for function_id, payloads in wanted.tasks.items():
            if function_id not in self.functions:
                return refuse(404, codes.FUNCTION_NOT_FOUND, f"There is no {function_id}.")
            body = self.functions[function_id].function_code.encode()
            for packed in payloads:
                task_id = str(uuid.uuid4())
                tasks.setdefault(function_id, []).append(task_id)
                self.groups.setdefault(group, []).append(task_id)
                results.append(run_task(task_id, body, packed))
                self.results[task_id] = results[-1]
        await self.after_submit(group, results)
        self.answered(group)
        self.tell()
        endpoint = request.path_params["id"]
        return answer(rest.Submitted(self.request_id(wanted), group, endpoint, tasks))

    def request_id(self, wanted: rest.Submit[bytes]) -> str:
        return str(uuid.uuid4())

    async def register(self, request: Request) -> Response:
        self.requests.append("register")
        function_id = str(uuid.uuid4())
        wanted = msgspec.msgpack.decode(await request.body(), type=rest.RegisterFunction)
        if not wanted.serialized:
            source = f"st\n{wanted.function_name}:{wanted.function_code}"
            wanted = msgspec.structs.replace(
                wanted, function_code=payload.pack([source]).decode(), serialized=True
            )
        self.functions[function_id] = wanted
        return answer({"function_uuid": function_id})

    async def group(self, request: Request) -> Response:
        group = request.path_params["id"]
        if group not in self.groups:
            return refuse(404, codes.TASK_GROUP_NOT_FOUND, "There is no such task group.")
        tasks = [{"id": task_id} for task_id in self.groups[group]]
        return answer({"taskgroup_id": group, "tasks": tasks})

    async def batch_status(self, request: Request) -> Response:
        self.requests.append("batch_status")
        wanted = msgspec.msgpack.decode(await request.body(), type=rest.TaskIds)
        statuses = {task_id: self.status(task_id) for task_id in wanted.task_ids}
        return answer(rest.BatchStatus(statuses))

    def status(self, task_id: str) -> rest.TaskStatus[bytes]:
        result = self.results.get(task_id)
        if result is None:
            return rest.TaskStatus(task_id, "waiting-for-nodes")
        if result.outcome == "success":
            return rest.TaskStatus(task_id, "success", result.payload, completion_t="2.0")
        assert result.failure is not None
        return rest.TaskStatus(
            task_id,
            "failed",
            exception=result.failure.traceback or result.failure.message,
            completion_t="2.0",
            failure_code=result.failure.code,
            exception_payload=result.payload,
        )

    async def cancel(self, request: Request) -> Response:
        wanted = msgspec.msgpack.decode(await request.body(), type=rest.TaskIds)
        self.cancelled.extend(wanted.task_ids)
        self.tell()
        return answer({"tasks": dict.fromkeys(wanted.task_ids, "cancelling")})

    # --- the stream -----------------------------------------------------------------------------

    async def results_stream(self, websocket: WebSocket) -> None:
        if not await self.greet(websocket):
            return
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                message = to_sdk.from_sdk.decode(await websocket.receive_bytes())
                await self.hear(websocket, message)
        self.streams.pop(websocket, None)
        self.tell()

    async def hear(self, websocket: WebSocket, message: to_sdk.FromSdk) -> None:
        match message:
            case to_sdk.StreamHello(_, _, groups):
                self.hellos += 1
                self.streams[websocket] = set(groups)
                self.tell()
                await websocket.send_bytes(encode(to_sdk.Welcome(PROTOCOL)))
            case to_sdk.Subscribe(groups):
                self.streams[websocket] |= set(groups)
            case to_sdk.Received(task_ids):
                for task_id in task_ids:
                    self.unacknowledged.pop(task_id, None)
                self.tell()
                return
            case to_sdk.Unsubscribe(groups):
                self.streams[websocket] -= set(groups)
                self.tell()
        for group in list(self.streams[websocket]):
            await self.stream(group)

    async def stream(self, group: str) -> None:
        """Send what is not acknowledged to whoever subscribed."""
        results = [
            self.unacknowledged[task_id]
            for task_id in self.groups.get(group, [])
            if task_id in self.unacknowledged
        ]
        for websocket, groups in list(self.streams.items()):
            if results and group in groups:
                await self.send(websocket, results)

    async def send(self, websocket: WebSocket, results: list[Result]) -> None:
        await websocket.send_bytes(encode(to_sdk.Results(tuple(results))))

    # --- the test's side ------------------------------------------------------------------------

    def tell(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def until(self, condition: Any) -> None:
        """Wait until something is true of this relay."""
        with self.changed:
            assert self.changed.wait_for(condition, WAIT_S), "waited in vain"

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v3/endpoints/{id}/submit", self.submit, methods=["POST"]),
                Route("/v3/functions", self.register, methods=["POST"]),
                Route("/v2/taskgroup/{id}", self.group),
                Route("/v2/batch_status", self.batch_status, methods=["POST"]),
                Route("/v3/tasks/cancel", self.cancel, methods=["POST"]),
                WebSocketRoute(to_sdk.PATH, self.results_stream),
            ]
        )

    @contextlib.contextmanager
    def serving(self, **tls: str) -> Iterator[str]:
        """The relay's URL, while it serves in a thread."""
        config = uvicorn.Config(
            self.app(),
            log_level="error",
            ws=WebSockets,
            timeout_graceful_shutdown=1,
            **tls,  # type: ignore[arg-type]
        )
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as bound:
            thread = threading.Thread(target=server.run, args=([bound],))
            thread.start()
            try:
                scheme = "https" if tls else "http"
                yield f"{scheme}://127.0.0.1:{bound.getsockname()[1]}"
            finally:
                server.should_exit = True
                thread.join(WAIT_S)
                assert not thread.is_alive()


class BusyRelay(EchoRelay):
    """Answers submits with these statuses first."""

    def __init__(self, *statuses: int) -> None:
        super().__init__()
        self.statuses = list(statuses)
        self.retry_after = "0"

    async def before(self, request: Request) -> Response | None:
        if not self.statuses:
            return None
        response = refuse(self.statuses.pop(0), "BUSY", "Later, please.")
        response.headers["Retry-After"] = self.retry_after
        return response


class OnceRelay(BusyRelay):
    """Busy, but promises to take a submit of one request id once."""

    def request_id(self, wanted: rest.Submit[bytes]) -> str:
        assert wanted.request_id is not None
        return wanted.request_id


class NoSuchEndpointRelay(EchoRelay):
    """Knows no endpoint."""

    async def before(self, request: Request) -> Response | None:
        return refuse(404, codes.ENDPOINT_NOT_FOUND, "There is no such endpoint.")


class SlowRelay(EchoRelay):
    """Takes a submit, and answers it when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    async def before(self, request: Request) -> Response | None:
        self.tell()
        assert await asyncio.to_thread(self.go.wait, WAIT_S)
        return None


class LosingRelay(SlowRelay):
    """Takes the first submit when the test says so; of what comes then its proxy loses sight."""

    def __init__(self, meanwhile: Any) -> None:
        super().__init__()
        self.meanwhile = meanwhile

    async def before(self, request: Request) -> Response | None:
        if len(self.submits) == 1:
            return await super().before(request)
        self.meanwhile()
        return refuse(502, "", "No answer.")


class HoardingRelay(EchoRelay):
    """Accepts tasks and never runs them."""

    async def after_submit(self, group: str, results: list[Result]) -> None:
        for result in results:
            del self.results[result.task_id]


class EagerRelay(EchoRelay):
    """Streams the results of a submit, and sees them handled, before it answers it.

    The first task's result comes last and is acknowledged as usual: that tells that those before
    it have been received.
    """

    def __init__(self) -> None:
        super().__init__()
        self.marker: Result | None = None

    async def after_submit(self, group: str, results: list[Result]) -> None:
        if self.marker is None:
            (self.marker,) = results
            self.tell()
            return
        await super().after_submit(group, results)
        self.unacknowledged[self.marker.task_id] = self.marker
        for websocket in list(self.streams):
            await self.send(websocket, [*results, self.marker])
        marker_id = self.marker.task_id
        await asyncio.to_thread(self.until, lambda: marker_id not in self.unacknowledged)

    def answered(self, group: str) -> None:
        """Everything has been streamed."""


class RepeatingRelay(EchoRelay):
    """Sends everything twice."""

    async def send(self, websocket: WebSocket, results: list[Result]) -> None:
        await super().send(websocket, results)
        await super().send(websocket, results)


class ForgetfulRelay(EchoRelay):
    """Drops its first stream as soon as it has sent results, and does not hear what is said."""

    dropped = False

    async def send(self, websocket: WebSocket, results: list[Result]) -> None:
        await super().send(websocket, results)
        if not self.dropped:
            self.dropped = True
            self.streams.pop(websocket)
            await websocket.close(1012)


class TersestRelay(EchoRelay):
    """Tells one result at a time."""

    async def batch_status(self, request: Request) -> Response:
        self.requests.append("batch_status")
        first, *others = msgspec.msgpack.decode(await request.body(), type=rest.TaskIds).task_ids
        later = {
            task_id: rest.TaskStatus[bytes](task_id, "running", details={rest.ASK_AGAIN: True})
            for task_id in others
        }
        return answer(rest.BatchStatus({**later, first: self.status(first)}))


class RefusingRelay(HoardingRelay):
    """Takes tasks, and tells of none: the token was revoked meanwhile."""

    async def greet(self, websocket: WebSocket) -> bool:
        denial = PlainTextResponse("The token was revoked.", 401)
        await websocket.send_denial_response(denial)
        return False

    async def batch_status(self, request: Request) -> Response:
        return refuse(401, codes.USER_UNAUTHENTICATED, "The token was revoked.")


class NoUpgradeRelay(EchoRelay):
    """Behind a proxy that lets HTTP through and answers this to WebSockets."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.refused = status

    async def greet(self, websocket: WebSocket) -> bool:
        denial = PlainTextResponse("Upgrade is not allowed here.", self.refused)
        await websocket.send_denial_response(denial)
        return False


class ImpatientRelay(NoUpgradeRelay):
    """Behind such a proxy, and does not wait for the rest of what it is asked first."""

    def __init__(self) -> None:
        super().__init__(403)
        self.left = {"submit", "batch_status"}

    def leaves(self, what: str) -> bool:
        """Whether it leaves, once."""
        first = what in self.left
        self.left.discard(what)
        return first

    async def before(self, request: Request) -> Response | None:
        return refuse(408, codes.INVALID_REQUEST, "Late.") if self.leaves("submit") else None

    async def batch_status(self, request: Request) -> Response:
        if self.leaves("batch_status"):
            return refuse(408, codes.INVALID_REQUEST, "Late.")
        return await super().batch_status(request)


class DeafStreamRelay(EchoRelay):
    """Behind a proxy that takes WebSockets and hands nothing on."""

    async def greet(self, websocket: WebSocket) -> bool:
        await websocket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await websocket.receive_bytes()
        return False


class LibraryRelay(EchoRelay):
    """Has a large result: these three bytes, whatever is asked for."""

    async def result(self, request: Request) -> Response:
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        return Response(b"abc")

    def app(self) -> Starlette:
        app = super().app()
        app.router.routes.append(Route(rest.result_path("{id}"), self.result))
        return app


class BusyLibraryRelay(LibraryRelay):
    """Refuses what is large so many times at first, with this status and code."""

    def __init__(self, times: int, status: int, code: str) -> None:
        super().__init__()
        self.times = times
        self._refusal = (status, code, "Not now.")

    async def result(self, request: Request) -> Response:
        return self._busy() or await super().result(request)

    async def upload(self, request: Request) -> Response:
        """Take arguments."""
        data = await request.body()
        return self._busy() or answer(rest.Uploaded("b", len(data), sha256(data).hexdigest()))

    async def sizes(self, request: Request) -> Response:
        """What is large."""
        return answer({"inline": limits.INLINE})

    def app(self) -> Starlette:
        app = super().app()
        app.router.routes.append(Route(rest.BLOBS_PATH, self.upload, methods=["POST"]))
        app.router.routes.append(Route("/v3/limits", self.sizes))
        return app

    def _busy(self) -> Response | None:
        if not self.times:
            return None
        self.times -= 1
        return refuse(*self._refusal)


class ReticentRelay(EchoRelay):
    """Streams nothing; asked, it tells."""

    async def stream(self, group: str) -> None:
        """Nothing."""


class LateStreamRelay(NoUpgradeRelay):
    """The first WebSocket is not answered until the test says so; then all is well."""

    def __init__(self) -> None:
        super().__init__(503)
        self.open = threading.Event()

    async def greet(self, websocket: WebSocket) -> bool:
        if self.open.is_set():
            return await EchoRelay.greet(self, websocket)
        return await super().greet(websocket)


@contextlib.contextmanager
def hanging_up() -> Iterator[tuple[str, list[bytes]]]:
    """A relay that reads a request and hangs up; yields its URL and the requests."""
    heard: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    heard.append(connection.recv(65536))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", heard
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(WAIT_S)


def answer(body: Any) -> Response:
    return Response(msgspec.msgpack.encode(body), media_type=rest.MSGPACK)


def refuse(status: int, code: str, message: str) -> Response:
    body = {"status": "Failed", "code": code, "message": message, "http_status_code": status}
    return Response(msgspec.json.encode(body), status, media_type="application/json")
