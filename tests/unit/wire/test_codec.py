"""Link messages: round trips, closed unions, size limits."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mep.wire import PROTOCOL, frames, to_endpoint, to_manager, to_sdk
from mep.wire.codec import Decoder, Message, WireError, encode
from mep.wire.tasks import Failure, Function, Result, Task

DECODERS = {
    "from_manager": to_manager.from_manager,
    "to_manager": to_manager.to_manager,
    "from_endpoint": to_endpoint.from_endpoint,
    "to_endpoint": to_endpoint.to_endpoint,
    "from_sdk": to_sdk.from_sdk,
    "to_sdk": to_sdk.to_sdk,
}

TASK = Task("t", "f", "g", b"\x00\xff", b"{}", ("00",))
RESULT = Result("t", "failed", b"", Failure("WORKER_LOST", "gone", "tail"), 1.5, 2.5)


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (to_manager.from_manager, to_manager.Refused("u", "n", "C", "m", "r")),
        (to_manager.from_manager, to_manager.Exited("u", "", None, 9, "", "")),
        (to_manager.to_manager, to_manager.Start("u", "n", b"g", b"s", b"o", b"r")),
        (to_endpoint.to_endpoint, to_endpoint.Tasks((Function("f", b"body"),), (TASK,))),
        (to_endpoint.from_endpoint, to_endpoint.Results((RESULT,))),
        (to_sdk.to_sdk, to_sdk.Results((RESULT,))),
        (to_sdk.from_sdk, to_sdk.StreamHello(PROTOCOL, "1", ("g",))),
    ],
)
def test_a_message_comes_back_as_it_was(decoder: Decoder[Message], message: Message) -> None:
    assert decoder.decode(encode(message)) == message


@pytest.mark.parametrize("name", DECODERS)
def test_the_other_direction_is_refused(name: str) -> None:
    """A peer cannot send what only the other side may say."""
    foreign = {
        "from_manager": to_manager.Start("u", "n", b"", b"", b"", b""),
        "to_manager": to_manager.Started("u", "a", 1),
        "from_endpoint": to_endpoint.Committed(("t",)),
        "to_endpoint": to_endpoint.Results(()),
        "from_sdk": to_sdk.Results(()),
        "to_sdk": to_sdk.Received(()),
    }[name]
    with pytest.raises(WireError):
        DECODERS[name].decode(encode(foreign))


def test_a_missing_field_is_refused() -> None:
    with pytest.raises(WireError):
        to_manager.from_manager.decode(msgspec.msgpack.encode(["started", "u"]))


def test_an_extra_field_is_refused() -> None:
    with pytest.raises(WireError):
        to_manager.from_manager.decode(msgspec.msgpack.encode(["started", "u", "a", 1, "more"]))


def test_size_is_checked_before_anything_is_decoded() -> None:
    decoder: Decoder[to_sdk.FromSdk] = Decoder(to_sdk.FromSdk, 8)
    with pytest.raises(WireError, match="9 bytes"):
        decoder.decode(b"\xff" * 9)


@given(data=st.binary(max_size=200), name=st.sampled_from(sorted(DECODERS)))
def test_any_bytes_are_a_message_or_a_wire_error(data: bytes, name: str) -> None:
    try:
        assert isinstance(DECODERS[name].decode(data), Message)
    except WireError:
        pass


def test_frames_and_links_speak_of_one_protocol() -> None:
    assert frames.PROTOCOL == PROTOCOL


def test_a_frame_header_comes_back() -> None:
    assert frames.parse(frames.header("tasks", [["t", "f", 0, {}]])) == (
        "tasks",
        [[["t", "f", 0, {}]]],
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.lists(JSON))
def test_a_frame_header_is_compact_json(fields: list[Any]) -> None:
    frame = frames.header("kind", *fields)
    assert frame == json.dumps(["kind", *fields], separators=(",", ":")).encode()
    assert frames.parse(frame) == ("kind", fields)


def test_a_frame_header_is_one_value() -> None:
    with pytest.raises(frames.FrameError, match="more than JSON"):
        frames.parse(b'["stop"]["stop"]')


@given(st.binary(max_size=100))
def test_any_frame_is_a_header_or_a_frame_error(data: bytes) -> None:
    try:
        kind, fields = frames.parse(data)
    except frames.FrameError:
        return
    assert isinstance(kind, str)
    assert isinstance(fields, list)
