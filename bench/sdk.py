"""The SDK alone, against a stand-in relay in a process of its own that answers at once.

Prints a table and writes bench/out/sdk.json: tasks per second into the batcher, CPU of the client
from submit to result, and the time that the import takes (alone, and with what most scripts name).

    python bench/sdk.py [RUNS]
"""

import json
import statistics
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import msgspec
from mep_sdk import Client, Executor

from mep import payload
from mep.wire import PROTOCOL, rest, to_sdk
from mep.wire.codec import encode
from mep.wire.tasks import Result

OUT = Path(__file__).parent / "out" / "sdk.json"
TASKS = 20_000
LIMIT_S = 120.0
IMPORT = """
import time
began = time.perf_counter()
import mep_sdk
whole = time.perf_counter()
from mep_sdk import Client, ComputeFuture, Executor
print((whole - began) * 1000, (time.perf_counter() - began) * 1000)
"""


def serve() -> None:
    """The stand-in relay; prints its port."""
    import asyncio
    import socket

    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route, WebSocketRoute
    from starlette.websockets import WebSocket, WebSocketDisconnect

    result = payload.dump_result(None)
    streams: list[WebSocket] = []
    early: list[Result] = []

    def answer(body: Any) -> Response:
        return Response(msgspec.msgpack.encode(body), media_type=rest.MSGPACK)

    async def register(_: Request) -> Response:
        return answer({"function_uuid": str(uuid.uuid4())})

    async def submit(request: Request) -> Response:
        wanted = msgspec.msgpack.decode(await request.body(), type=rest.Submit[bytes])
        tasks = {
            function_id: [str(uuid.uuid4()) for _ in calls]
            for function_id, calls in wanted.tasks.items()
        }
        results = tuple(
            Result(task_id, "success", result) for ids in tasks.values() for task_id in ids
        )
        if not streams:
            early.extend(results)
        for stream in streams:
            asyncio.get_running_loop().create_task(
                stream.send_bytes(encode(to_sdk.Results(results)))
            )
        return answer(
            rest.Submitted("", wanted.task_group_id or "", request.path_params["id"], tasks)
        )

    async def stream(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive_bytes()
        await websocket.send_bytes(encode(to_sdk.Welcome(PROTOCOL)))
        streams.append(websocket)
        if early:
            await websocket.send_bytes(encode(to_sdk.Results(tuple(early))))
            early.clear()
        try:
            while True:
                await websocket.receive_bytes()
        except WebSocketDisconnect:
            streams.remove(websocket)

    app = Starlette(
        routes=[
            Route("/v3/functions", register, methods=["POST"]),
            Route("/v3/endpoints/{id}/submit", submit, methods=["POST"]),
            WebSocketRoute(to_sdk.PATH, stream),
        ]
    )
    with socket.create_server(("127.0.0.1", 0)) as bound:
        print(bound.getsockname()[1], flush=True)
        config = uvicorn.Config(app, log_level="error", ws="websockets-sansio")
        uvicorn.Server(config).run([bound])


def nothing() -> None:
    """The function of all tasks."""


def import_ms() -> tuple[float, float]:
    """Milliseconds for `import mep_sdk`, and for its names besides."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True
    )
    whole, names = map(float, done.stdout.split())
    return whole, names


def measure(url: str) -> tuple[float, float, float]:
    """Submits per second, CPU microseconds per task, results per second."""
    client = Client(url, "token")
    with Executor(str(uuid.uuid4()), client=client, batch_size=512) as ex:
        ex.submit(nothing).result(LIMIT_S)
        began, cpu = time.perf_counter(), time.process_time()
        futures = [ex.submit(nothing) for _ in range(TASKS)]
        submitted = time.perf_counter()
        for future in futures:
            future.result(LIMIT_S)
        ended, cpu = time.perf_counter(), time.process_time() - cpu
    client.close()
    return TASKS / (submitted - began), cpu / TASKS * 1e6, TASKS / (ended - began)


def main(runs: int) -> None:
    """Measure and report."""
    server = subprocess.Popen(
        [sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        measured = [measure(url) for _ in range(runs)]
    finally:
        server.terminate()
        server.wait(10)
    columns = zip(*measured, strict=True)
    rates, cpus, ends = (list(column) for column in columns)
    imports = [import_ms() for _ in range(max(runs, 5))]
    report = {
        "submit_per_s": (rates, "tasks/s"),
        "cpu_us_per_task": (cpus, "us"),
        "result_per_s": (ends, "tasks/s"),
        "import_ms": ([each[0] for each in imports], "ms"),
        "import_names_ms": ([each[1] for each in imports], "ms"),
    }
    figures = {}
    print(f"{'':20}{'median':>12}{'min':>12}{'max':>12}")
    for name, (values, unit) in report.items():
        middle, low, high = statistics.median(values), min(values), max(values)
        print(f"{name:20}{middle:12.1f}{low:12.1f}{high:12.1f} {unit}")
        figures[name] = {"median": middle, "min": low, "max": high, "unit": unit, "n": len(values)}
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
