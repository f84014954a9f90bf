"""Lines that outlive their connections: whatever is cut where, all arrives once and in order."""

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mep.wire import line
from mep.wire.frames import FrameError
from mep.wire.line import APART_BYTES, Line, message_of, split


class Wire:
    """One direction of a connection; what is on it when it breaks is lost."""

    def __init__(self):
        self.frames = deque()


class End:
    """A line with what an owner of a socket does around it."""

    def __init__(self, out):
        self.line = Line()
        self.out = out
        self.open = False
        self.got = []

    def say(self, text):
        message = self.line.data([text])
        if self.open:
            self.out.frames.append(message)

    def hear(self, message):
        prefix, rest = split(message[0])
        if prefix.kind == line.DATA:
            if self.line.take(prefix, len(rest)):
                self.got += message_of(rest, message[1:])
            return
        self.line.acknowledged(prefix.received)
        if prefix.kind == line.RESUME:
            self.out.frames.append([self.line.control(line.RESUMED)])
        if prefix.kind in (line.RESUME, line.RESUMED):
            self.open = True
            self.out.frames.extend(self.line.again())


class Both:
    def __init__(self):
        up, down = Wire(), Wire()
        self.pool, self.interchange = End(up), End(down)
        self.wires = {up: self.interchange, down: self.pool}

    def connect(self):
        self.cut()
        self.pool.out.frames.append([self.pool.line.control(line.RESUME, b"0.n.1")])

    def cut(self):
        for wire in self.wires:
            wire.frames.clear()
        self.pool.open = self.interchange.open = False

    def deliver(self, count):
        for _ in range(count):
            for wire, end in self.wires.items():
                if wire.frames:
                    end.hear(wire.frames.popleft())

    def settle(self):
        self.connect()
        while any(wire.frames for wire in self.wires):
            self.deliver(1)


STEPS = st.lists(
    st.one_of(
        st.sampled_from(["pool", "interchange", "cut", "connect"]),
        st.integers(1, 5),
    ),
    max_size=60,
)


@given(STEPS)
@settings(max_examples=300, deadline=None)
def test_all_arrives_once_and_in_order_wherever_it_is_cut(steps):
    both = Both()
    said = {"pool": [], "interchange": []}
    for step in steps:
        if isinstance(step, int):
            both.deliver(step)
        elif step in said:
            said[step].append(b"%d" % len(said[step]))
            getattr(both, step).say(said[step][-1])
        else:
            getattr(both, step)()
    both.settle()
    assert both.interchange.got == said["pool"]
    assert both.pool.got == said["interchange"]
    both.settle()
    assert both.pool.line.settled
    assert both.interchange.line.settled


def test_messages_are_kept_until_the_other_end_has_them():
    mine, theirs = Line(), Line()
    first, second = mine.data([b"a", b"x"]), mine.data([b"b"])
    assert not mine.settled
    assert theirs.take(split(first[0])[0], 1)
    assert mine.again() == [first, second]
    mine.acknowledged(split(theirs.control(line.ACK))[0].received)
    assert mine.again() == [second]
    assert mine.there == 1


def test_an_acknowledgement_is_owed_after_many_messages_or_many_bytes():
    mine, theirs = Line(), Line()
    for number in range(line.OWED_MESSAGES):
        assert not theirs.owes, number
        theirs.take(split(mine.data([b""])[0])[0], 1)
    assert theirs.owes
    theirs.data([b"anything says it"])
    assert not theirs.owes
    theirs.take(split(mine.data([b""])[0])[0], line.OWED_BYTES)
    assert theirs.owes


def test_what_comes_twice_is_noticed_and_what_is_missing_too():
    mine, theirs = Line(), Line()
    messages = [split(mine.data([b"%d" % n])[0])[0] for n in range(3)]
    assert theirs.take(messages[0], 1)
    assert not theirs.take(messages[0], 1)
    with pytest.raises(FrameError, match="message 3 after 1"):
        theirs.take(messages[2], 1)


def test_what_was_never_sent_cannot_be_acknowledged():
    mine = Line()
    mine.data([b"a"])
    with pytest.raises(FrameError, match="more than there were"):
        mine.acknowledged(2)


SIZES = st.lists(st.sampled_from([0, 1, 40, APART_BYTES - 1, APART_BYTES, 3 * APART_BYTES]))


@given(SIZES)
@settings(deadline=None)
def test_a_message_is_its_frames_however_they_travel(sizes):
    message = [b'["tasks"]', *(bytes([size % 251]) * size for size in sizes)]
    first, *apart = Line().data(message)
    assert apart == [piece for piece in message if len(piece) >= APART_BYTES]
    assert message_of(split(first)[1], apart) == message


COUNT_1 = b"\0\0\0\1"
BYTES_2 = b"\0" * 7 + b"\2"
LARGE = b"\0" * 5 + b"\1\0\0"


@pytest.mark.parametrize(
    ("rest", "apart"),
    [
        (b"", []),
        (b"\0" * 4, []),
        (b"\xff" * 12, []),
        (COUNT_1 + BYTES_2 + b"a", []),
        (COUNT_1 + BYTES_2 + b"abc", []),
        (COUNT_1 + BYTES_2 + b"ab", [b"more"]),
        (COUNT_1 + LARGE, []),
        (COUNT_1 + LARGE, [b"short"]),
        (COUNT_1 + LARGE, [bytes(APART_BYTES), b"more"]),
    ],
)
def test_what_is_no_message(rest, apart):
    with pytest.raises(FrameError):
        message_of(rest, apart)


@pytest.mark.parametrize("frame", [b"", b"\x01" * 16, b"\x00" * 17, b"\x07" * 17, b"\xff" * 40])
def test_what_has_no_prefix(frame):
    with pytest.raises(FrameError):
        split(frame)
