import pytest
from hypothesis import given
from hypothesis import strategies as st

from mep.manager import packets
from mep.manager.packets import Exited, Refused, Running, Started, pack_request, parse_reply
from mep.root import messages
from mep.root.messages import EXITED, REFUSED, RUNNING, STARTED, MessageError, Start, Stop

UEP = "0d3b7c1e-4c55-5a8f-8d0e-93c1a2b4e5f6"
REPLIES = [
    (RUNNING, Running("b" * 32, [UEP])),
    (STARTED, Started(UEP, "alice", 7)),
    (REFUSED, Refused(UEP, "p", "GRANT_REFUSED", "ref")),
    (EXITED, Exited(UEP, None, "\n\0")),
]


@pytest.mark.parametrize(("kind", "reply"), REPLIES)
def test_replies_arrive_as_they_were_sent(kind: bytes, reply: packets.Reply) -> None:
    assert parse_reply(messages.pack_reply(kind, *reply)) == reply
    assert reply._fields == messages.REPLIES[kind]


@given(st.text())
def test_what_a_process_said_is_a_report_or_nothing(said: str) -> None:
    assert packets.report(said) == ("", "")
    assert packets.report('{"code": "C", "message": "M"}') == ("C", "M")


@given(st.binary(max_size=500), st.binary(min_size=32, max_size=32), st.binary(), st.binary())
def test_starts_arrive_as_they_were_sent(
    grant: bytes, signature: bytes, options: bytes, runtime: bytes
) -> None:
    request = Start(grant, signature, options, runtime)
    assert messages.parse_request(pack_request(request)) == request


def test_stops_arrive_as_they_were_sent() -> None:
    assert messages.parse_request(pack_request(Stop(UEP))) == Stop(UEP)


@given(st.binary(max_size=200))
def test_junk_is_junk(packet: bytes) -> None:
    """Nothing but a message, and no exception but that for junk."""
    try:
        request = messages.parse_request(packet)
    except MessageError:
        return
    assert pack_request(request) == packet


@given(st.binary(max_size=200))
def test_no_reply_is_made_of_junk(packet: bytes) -> None:
    with pytest.raises(MessageError):
        parse_reply(packet)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"S",
        b"P" + b"x" * 35,
        b"P" + b"\xff" * 36,
        b"Q" + b"x" * 36,
        pack_request(Start(b"g", b"s" * 32, b"o", b"r")) + b"x",
        pack_request(Start(b"g", b"s" * 32, b"o", b"r"))[:-1],
        pack_request(Start(b"g" * messages.MAX_PACKET, b"s" * 32, b"", b"")),
    ],
)
def test_what_is_no_request(packet: bytes) -> None:
    with pytest.raises(MessageError):
        messages.parse_request(packet)


@pytest.mark.parametrize(
    "packet",
    [b"R[]", b'R{"boot_id":"b"}', b'R{"boot_id":"b","user_endpoint_ids":[],"x":1}', b"Q{}"],
)
def test_what_is_no_reply(packet: bytes) -> None:
    with pytest.raises(MessageError):
        parse_reply(packet)
