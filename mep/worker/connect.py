"""From a node pool to an interchange on another machine: ZeroMQ, encrypted by CURVE."""

import select
import time
from typing import List, Optional, Sequence

import zmq

from mep.wire import line
from mep.wire.frames import Piece, header
from mep.wire.line import Line
from mep.worker.probe import Answer, next_event

_EVENTS = zmq.EVENTS
_READABLE = int(zmq.POLLIN)
_NOW = int(zmq.NOBLOCK)
_MORE = int(zmq.SNDMORE) | _NOW
"""Plain numbers: arithmetic of enums takes longer than asking the socket."""


class Across:
    """The interchange is across a network: connections come and go, see :mod:`mep.wire.line`."""

    def __init__(self, pool_id: str, answer: Answer) -> None:
        self._name = pool_id.encode()
        self._context = answer.context
        self._socket = answer.socket
        self._monitor = answer.monitor
        self._news = select.poll()
        self._news.register(self._monitor.FD, select.POLLIN)
        self._line = Line()
        self._open = False
        self._exhausted = False
        """Nothing was at hand, and the socket has not been used since."""
        self.descriptors = [self._socket.FD, self._monitor.FD]
        """They tell of changes only: what is at hand already must be asked for."""
        self.ended = ""
        """Never: an interchange that is gone may come back."""
        self._resume()
        self._watch()  # a descriptor of ZeroMQ's tells of nothing until there was nothing

    def pending(self) -> bool:
        """Whether :meth:`receive` may have something, whatever its descriptors tell."""
        return not self._exhausted and _has(self._socket)

    def receive(self) -> Optional[List[Piece]]:
        """The next message; None: there is none now."""
        if self._exhausted and self._news.poll(0):
            self._watch()
        self._exhausted = False
        while _has(self._socket):
            frames = _received(self._socket)
            prefix, rest = line.split(frames[0])
            if prefix.kind == line.UNKNOWN:
                return self._begin_anew()
            if prefix.kind != line.DATA:
                self._control(prefix)
            elif self._line.take(prefix, sum(map(len, frames))):
                return line.message_of(rest, frames[1:])
        if self._open and self._line.owes:
            self._put([self._line.control(line.ACK)])
        else:
            self._exhausted = True
        return None

    def send(self, message: Sequence[Piece]) -> None:
        """Send a message, now or when there is a connection; never waits."""
        stamped = self._line.data(message)
        if self._open:
            self._put(stamped)

    def close(self, linger_s: float) -> None:
        """Let go; what has been sent has so many seconds to arrive."""
        if linger_s and not self._line.settled:
            self._settle(linger_s)
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=int(linger_s * 1000))
        self._context.term()

    def _settle(self, within_s: float) -> None:
        """Wait until the other end has said that it has everything."""
        until = time.monotonic() + within_s
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)
        if self._open:
            self._put([self._line.control(line.ASK)])
        while not self._line.settled:
            left_s = until - time.monotonic()
            if left_s <= 0 or not poller.poll(int(left_s * 1000) + 1):
                return
            was_open = self._open
            self._watch()
            while self.receive() is not None:
                pass  # an order that comes too late
            if self._open and not was_open:
                self._put([self._line.control(line.ASK)])

    def _watch(self) -> None:
        """Take in what has become of the connection."""
        while _has(self._monitor):
            event = next_event(self._monitor)
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._resume()
            elif event == zmq.EVENT_DISCONNECTED:
                self._open = False

    def _resume(self) -> None:
        self._open = False
        self._put([self._line.control(line.RESUME, self._name)])

    def _begin_anew(self) -> List[Piece]:
        """Another interchange than before answers: what was said to that one is of no use to it.

        It would ask who this is, if it could.
        """
        self._line = Line()
        self._resume()
        return [header("who")]

    def _control(self, prefix: line.Prefix) -> None:
        self._line.acknowledged(prefix.received)
        if prefix.kind == line.RESUMED:
            self._open = True
            for message in self._line.again():
                self._put(message)

    def _put(self, frames: Sequence[Piece]) -> None:
        self._exhausted = False
        try:
            _send(self._socket, frames)
        except zmq.Again:
            self._open = False  # the connection has just broken; the monitor tells of the next


def _has(sock: "zmq.Socket[bytes]") -> bool:
    """Whether something is at hand."""
    return bool(int(sock.getsockopt(_EVENTS)) & _READABLE)


def _send(sock: "zmq.Socket[bytes]", frames: Sequence[Piece]) -> None:
    for frame in frames[:-1]:
        sock.send(frame, _MORE, copy=len(frame) < line.APART_BYTES)
    sock.send(frames[-1], _NOW, copy=len(frames[-1]) < line.APART_BYTES)


def _received(sock: "zmq.Socket[bytes]") -> List[Piece]:
    """One message that is at hand; recv_multipart() takes three times as long."""
    frame = sock.recv(_NOW, copy=False)
    frames: List[Piece] = [frame.bytes]
    while frame.more:
        frame = sock.recv(_NOW, copy=False)
        frames.append(frame.buffer)
    return frames
