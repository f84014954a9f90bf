"""Forms of the page's visitors: anybody may send one, and may stop in the middle of it."""

import asyncio
from typing import Any

import pytest
from mep_cloud.web import browser
from starlette.requests import Request


def posted(*parts: bytes, ends: bool) -> Request:
    """A request whose body comes in these parts; where it does not end, nothing comes after."""
    more = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    last = [{"type": "http.request", "body": b"", "more_body": False}] if ends else []
    messages = iter([*more, *last])

    async def receive() -> Any:
        message = next(messages, None)
        return await asyncio.Event().wait() if message is None else message

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(posted(b"guard=", ends=False), id="stops"),
        pytest.param(posted(b"guard=", b"x" * 20_000, ends=True), id="too large"),
        pytest.param(posted(b"guard=\xff", ends=True), id="no text"),
        pytest.param(posted(b"guard=x", ends=True), id="of another page"),
    ],
)
def test_what_is_no_form_of_ours(monkeypatch: pytest.MonkeyPatch, request_: Request) -> None:
    monkeypatch.setattr("mep_cloud.rest.bodies.IDLE_S", 0.2)
    with pytest.raises(browser.Foreign):
        asyncio.run(asyncio.wait_for(browser.form_of(request_), 10))
