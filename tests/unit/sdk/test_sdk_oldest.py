"""What is another in Python 3.10, the oldest that the SDK runs with."""

import asyncio
import uuid
from typing import Any

import pytest
from mep_sdk import Executor
from relays import WAIT_S, ForgetfulRelay, NoUpgradeRelay

EP = str(uuid.uuid4())


class OldTimeoutError(Exception):
    """That of asyncio was no TimeoutError."""


@pytest.fixture(autouse=True)
def old_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for, own = asyncio.wait_for, asyncio.TimeoutError

    async def old(awaitable: Any, timeout: float | None) -> Any:
        try:
            return await wait_for(awaitable, timeout)
        except own as error:
            raise OldTimeoutError from error

    monkeypatch.setattr(asyncio, "TimeoutError", OldTimeoutError)
    monkeypatch.setattr(asyncio, "wait_for", old)


def test_a_stream_that_broke_is_made_again(client_of: Any) -> None:
    relay = ForgetfulRelay()
    with Executor(EP, client=client_of(relay)) as ex:
        assert ex.submit(pow, 2, 3).result(WAIT_S) == 8
        relay.until(lambda: relay.hellos == 2 and not relay.unacknowledged)
        assert ex.submit(pow, 2, 4).result(WAIT_S) == 16


class CountingRelay(NoUpgradeRelay):
    """Counts the WebSockets that it refuses."""

    refusals = 0

    async def greet(self, websocket: Any) -> bool:
        self.refusals += 1
        self.tell()
        return await super().greet(websocket)


def test_a_stream_that_is_refused_is_tried_again(client_of: Any) -> None:
    relay = CountingRelay(404)
    with Executor(EP, client=client_of(relay)) as ex:
        future = ex.submit(pow, 2, 3)
        relay.until(lambda: relay.refusals > 1)
        assert future.result(WAIT_S) == 8
        assert ex.submit(pow, 2, 4).result(WAIT_S) == 16
