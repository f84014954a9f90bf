"""Whatever a peer says on a WebSocket: the relay closes it or goes on, and nobody else notices."""

import asyncio
import contextlib
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from relay_driver import FakeManager, kept
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from mep.wire import PROTOCOL, codec, to_endpoint, to_manager, to_sdk
from mep.wire.tasks import Result

NOWHERE = "00000000-0000-4000-8000-000000000000"
LOOSE = settings(
    max_examples=20,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.just(NOWHERE),
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=6)


def can_be_said(message: codec.Message) -> bool:
    """Whether all its integers fit into msgpack."""
    try:
        codec.encode(message)
    except OverflowError:
        return False
    return True


def said(union: Any) -> st.SearchStrategy[bytes]:
    """Junk, messages with fields of any type, and messages with fields of the right types."""
    kinds = union.__args__
    of_the_type = (
        st.one_of([st.builds(kind) for kind in kinds]).filter(can_be_said).map(codec.encode)
    )
    tags = st.sampled_from([kind.__struct_config__.tag for kind in kinds])
    of_any_type = st.builds(lambda tag, rest: [tag, *rest], tags, st.lists(values, max_size=7)).map(
        msgspec.msgpack.encode
    )
    return st.one_of(st.binary(max_size=60), of_any_type, of_the_type)


def converse(url: str, path: str, token: str, frames: list[bytes]) -> None:
    """Say it all, then hear until the relay closes or answers a ping."""
    with connect(
        "ws" + url.removeprefix("http") + path,
        additional_headers={"Authorization": f"Bearer {token}"},
        compression=None,
        close_timeout=5,
    ) as socket:
        with contextlib.suppress(ConnectionClosed):
            for frame in frames:
                socket.send(frame)
            assert socket.ping(ack_on_close=True).wait(20)
        closed = socket.close_code
        assert closed is None or 4400 <= closed < 4500, (closed, socket.close_reason)


def fuzz(url: str, path: str, token: str, union: Any, hello: codec.Message) -> None:
    @LOOSE
    @given(frames=st.lists(said(union), min_size=1, max_size=5), greet=st.booleans())
    def say(frames: list[bytes], greet: bool) -> None:
        converse(url, path, token, [codec.encode(hello)] * greet + frames)

    say()


def test_what_an_sdk_says(running: Any) -> None:
    hello = to_sdk.StreamHello(PROTOCOL, "0", ())
    fuzz(running.url, to_sdk.PATH, running.bob.token, to_sdk.FromSdk, hello)
    running.nobody.ok("GET", "/readyz")


def test_what_a_manager_says(running: Any) -> None:
    endpoint = running.admin.endpoint()
    hello = to_manager.ManagerHello(PROTOCOL, endpoint["endpoint_id"], "0", "3.11", "host")
    token = endpoint["link_token"]
    fuzz(running.url, to_manager.PATH, token, to_manager.FromManager, hello)
    running.nobody.ok("GET", "/readyz")


def test_what_a_user_endpoint_says_ends_no_task_of_others(running: Any) -> None:
    function = running.alice.function(public=True)
    victim = running.admin.endpoint()["endpoint_id"]
    waiting = running.alice.submit(victim, function, ["x"])["tasks"][function][0]
    user_endpoint, token = asyncio.run(started(running, function))
    hello = to_endpoint.EndpointHello(PROTOCOL, user_endpoint, "0", "3.11", 10, (waiting,))
    fuzz(running.url, to_endpoint.PATH, token, to_endpoint.FromEndpoint, hello)
    forged = to_endpoint.Results((Result(waiting, "success", b"forged"),))
    converse(running.url, to_endpoint.PATH, token, [codec.encode(hello), codec.encode(forged)])
    assert running.alice.ok("GET", f"/v2/tasks/{waiting}")["status"] == "waiting-for-ep"
    running.nobody.ok("GET", "/readyz")


async def started(running: Any, function: str) -> tuple[str, str]:
    """Id and token of a user endpoint of Bob's."""
    registered = running.admin.endpoint()
    manager = FakeManager(running.url, registered)
    async with kept(manager.link):
        await asyncio.to_thread(running.bob.submit, registered["endpoint_id"], function, ["x"])
        start = await manager.next_start()
        return start.user_endpoint_id, manager.token(start)
