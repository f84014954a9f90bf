"""Interchange and node pool on one machine: the stream between them, and both its ends."""

import os
import select
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mep.endpoint.engines.transport import Beside as BesideTransport
from mep.endpoint.interchange.router import Router
from mep.wire.frames import FrameError
from mep.wire.stream import MAX_PAYLOAD, Stream, frames_of, head_of, lead
from mep.worker.beside import ALONE, Beside
from mep.worker.upstream import Unreachable, connected

LARGE = os.urandom(3 * 2**20)


@pytest.fixture
def router(tmp_path):
    transport = BesideTransport(str(tmp_path))
    transport.prepare()
    router = transport.open()
    yield router
    router.close()
    assert not (tmp_path / "interchange.sock").exists()


def heard(router, count):
    """The next messages, however many turns they take."""
    messages = []
    while len(messages) < count:
        assert select.select(router.descriptors, [], [], 10)[0]
        messages += [
            (name, list(map(bytes, frames)))
            for name, frames in router.messages(set(router.descriptors))
        ]
    return messages


def received(pool, count):
    messages = []
    while len(messages) < count:
        assert select.select(pool.descriptors, [], [], 10)[0]
        while (frames := pool.receive()) is not None:
            messages.append(list(map(bytes, frames)))
    return messages


@given(st.lists(st.binary(max_size=20), min_size=1))
def test_frames_come_back(frames):
    assert frames_of(head_of(frames), b"".join(frames[1:])) == frames


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_any_bytes_are_frames_or_refused(head, payload):
    try:
        assert b"".join(frames_of(head, payload)[1:]) == payload
    except FrameError:
        pass


def test_messages_both_ways(router, tmp_path):
    pool = Beside("0.a", str(tmp_path))
    pool.send([b"hello"])
    pool.send([b"results", b"one", b"", b"three"])
    assert heard(router, 2) == [("0.a", [b"hello"]), ("0.a", [b"results", b"one", b"", b"three"])]
    router.send("0.a", [b"tasks", b"x"])
    router.send("0.a", [b"beat"])
    assert received(pool, 2) == [[b"tasks", b"x"], [b"beat"]]
    pool.close(1)


def test_what_does_not_fit_at_once_is_sent_when_it_does(router, tmp_path):
    pool = Beside("0.a", str(tmp_path))
    for n in (b"1", b"2"):
        pool.send([n, LARGE, n])
    got = []
    while len(got) < 2:
        got += [
            [bytes(frame) for frame in frames]
            for _, frames in router.messages(set(router.descriptors))
        ]
        pool.receive()
    assert got == [[n, LARGE, n] for n in (b"1", b"2")]
    for n in (b"3", b"4"):
        router.send("0.a", [n, LARGE])
    answers = []
    while len(answers) < 2:
        list(router.messages(set(router.descriptors)))
        while (frames := pool.receive()) is not None:
            answers.append([bytes(frame) for frame in frames])
    assert answers == [[b"3", LARGE], [b"4", LARGE]]
    pool.close(1)


def test_what_a_pool_says_last_arrives(router, tmp_path):
    pool = Beside("0.a", str(tmp_path))
    pool.send([b"gone"])
    pool.close(1)
    assert heard(router, 1) == [("0.a", [b"gone"])]
    assert list(router.messages(set(router.descriptors))) == []
    router.send("0.a", [b"too late"])


def test_a_pool_whose_interchange_has_ended(tmp_path):
    transport = BesideTransport(str(tmp_path))
    transport.prepare()
    pool = connected("0.a", {"ipc": str(tmp_path)})
    transport.open().close()
    assert pool.receive() is None
    assert pool.ended == ALONE
    pool.send([b"results"])
    pool.close(1)


def test_a_pool_without_an_interchange(tmp_path):
    with pytest.raises(Unreachable, match="cannot be reached"):
        connected("0.a", {"ipc": str(tmp_path)})


def test_a_transport_that_is_never_opened(tmp_path):
    transport = BesideTransport(str(tmp_path))
    transport.prepare()
    transport.close()
    transport.close()


@pytest.mark.parametrize(
    "junk",
    [
        b"\xff" * 100,
        lead(b"", 0),
        lead(head_of([b""]), 0),
        lead(head_of([b"0.a"]), 0),
        lead(head_of([b"0.b", b"x"]), 1) + b"x",
        lead(head_of([b"n" * 1000]), 0),
        lead(head_of([b"0.b"]), 0) + lead(b"\0\0\0\xff", 0),
    ],
)
def test_a_peer_that_talks_nonsense_is_let_go(router: Router, tmp_path, junk):
    pool = Beside("0.a", str(tmp_path))
    pool.send([b"1"])
    heard(router, 1)
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(str(tmp_path / "interchange.sock"))
    peer.sendall(junk)
    list(router.messages(set(router.descriptors)))
    assert list(router.messages(set(router.descriptors))) == []
    assert router.noise.count == 1
    assert peer.recv(1) == b""
    peer.close()
    pool.send([b"2"])
    assert heard(router, 1) == [("0.a", [b"2"])]
    pool.close(1)


def test_lengths_beyond_all_bounds_are_refused():
    left, right = socket.socketpair()
    stream = Stream(right)
    left.sendall(lead(b"", MAX_PAYLOAD + 1))
    stream.fill()
    with pytest.raises(FrameError, match="bytes"):
        stream.take()
    left.close()
    stream.close()
