"""The interchange's socket where node pools are on other machines.

Who speaks on a connection is what the gate (:mod:`mep.endpoint.interchange.zap`) has found out from
its key: a node pool may only bear a name that begins with its own block. Connections come and go;
the lines (:mod:`mep.wire.line`) stay.
"""

import logging
import time
from collections.abc import Iterator, Sequence, Set
from typing import Any, Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from mep.endpoint.interchange.noise import GARBAGE, Noise
from mep.endpoint.interchange.zap import Gate, Guests
from mep.wire import line
from mep.wire.frames import FrameError, Piece
from mep.wire.line import Line

log = logging.getLogger(__name__)

_STRANGE: Final = "a handshake with the interchange failed"
_NAME: Final = 512
"""Characters of a pool's name."""
_EVENTS: Final = zmq.EVENTS
_READABLE: Final = int(zmq.POLLIN)
_NOW: Final = int(zmq.NOBLOCK)
_MORE: Final = _NOW | int(zmq.SNDMORE)
"""Plain numbers: arithmetic of enums takes longer than asking the socket."""
_FAILED: Final = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL


class _Peer:
    def __init__(self, name: str, block_id: str, connection: bytes) -> None:
        self.name = name
        self.block_id = block_id
        self.connection: bytes | None = connection
        self.line = Line()


class Lines:
    """A :class:`mep.endpoint.interchange.router.Router` to other machines. Nothing here waits.

    Args:
        context: with nothing bound in it.
        sock: a ROUTER of it, with everything set and nothing bound.
        guests: who is let in.
        noise: where trouble with peers is counted.
    """

    def __init__(
        self, context: "zmq.Context[Any]", sock: "zmq.Socket[bytes]", guests: Guests, noise: Noise
    ) -> None:
        self._context = context
        self._socket = sock
        self.noise = noise
        self._gate = Gate(context, guests, noise)
        self._monitor = sock.get_monitor_socket(int(_FAILED))
        self._peers: dict[str, _Peer] = {}
        self._connections: dict[bytes, _Peer] = {}
        self._sockets = (sock, self._gate.socket, self._monitor)
        self._answer_and_count(time.monotonic())
        self.descriptors = tuple(int(each.getsockopt(zmq.FD)) for each in self._sockets)
        """They tell of changes only: what is at hand already must be asked for."""
        self._seldom = frozenset(self.descriptors[1:])

    def pending(self) -> bool:
        """Whether :meth:`messages` has something."""
        return _readable(self._socket)

    def messages(self, ready: Set[int]) -> Iterator[tuple[str, list[Piece]]]:
        """Everything that is at hand: the pool's name, its frames.

        Args:
            ready: those of our descriptors that are readable.
        """
        now = time.monotonic()
        if not self._seldom.isdisjoint(ready):
            self._answer_and_count(now)
        owing: set[_Peer] = set()
        while _readable(self._socket):
            connection, frames = _received(self._socket)
            try:
                peer, message = self._take(connection, frames)
            except FrameError as error:
                self.noise.note(GARBAGE, str(error), now)
                continue
            if peer and message:
                if peer.line.owes:
                    owing.add(peer)
                yield peer.name, message
        for peer in owing:
            if peer.line.owes:
                self._put(peer, [peer.line.control(line.ACK)])

    def send(self, pool_id: str, message: Sequence[Piece]) -> None:
        """Send one message, now or when the pool is connected again."""
        peer = self._peers.get(pool_id)
        if peer is None:
            log.info("node pool %s is gone", pool_id)
            return
        self._put(peer, peer.line.data(message))

    def forget(self, block_id: str) -> None:
        """A block has ended: so have its lines."""
        for peer in [one for one in self._peers.values() if one.block_id == block_id]:
            del self._peers[peer.name]
            self._connections.pop(peer.connection or b"", None)

    def close(self) -> None:
        """Give everything back."""
        self._socket.disable_monitor()
        for sock in self._sockets:
            sock.close(linger=0)
        self._context.term()

    def _take(
        self, connection: bytes, frames: Sequence[zmq.Frame]
    ) -> tuple[_Peer | None, list[Piece] | None]:
        """From whom, and what is for those above; raises FrameError."""
        prefix, rest = line.split(frames[0].bytes)
        if prefix.kind == line.RESUME:
            self._resume(connection, str(frames[0].get("User-Id")), prefix, rest)
            return None, None
        peer = self._connections.get(connection)
        if peer is None:
            raise FrameError("a message before it said who it is")
        if prefix.kind == line.DATA:
            if not peer.line.take(prefix, sum(map(len, frames))):
                return peer, None
            return peer, line.message_of(rest, [frame.buffer for frame in frames[1:]])
        if prefix.kind == line.ASK:
            self._put(peer, [peer.line.control(line.ACK)])
        peer.line.acknowledged(prefix.received)
        return peer, None

    def _resume(self, connection: bytes, block_id: str, prefix: line.Prefix, name: bytes) -> None:
        """A pool says who it is, on a connection that is new to it or to us."""
        pool_id = name[:_NAME].decode("ascii", "replace")
        if not pool_id.startswith(f"{block_id}."):
            raise FrameError(f"block {block_id} calls itself {pool_id}")
        peer = self._peers.get(pool_id)
        if peer is None:
            if prefix.received or prefix.number:
                self._send(connection, [line.PREFIX.pack(line.UNKNOWN, 0, 0)])
                return
            peer = self._peers[pool_id] = _Peer(pool_id, block_id, connection)
        else:
            log.info("node pool %s is connected again", pool_id)
            self._connections.pop(peer.connection or b"", None)
        peer.line.acknowledged(prefix.received)
        peer.connection = connection
        self._connections[connection] = peer
        self._put(peer, [peer.line.control(line.RESUMED)])
        for message in peer.line.again():
            self._put(peer, message)

    def _put(self, peer: _Peer, frames: Sequence[Piece]) -> None:
        if peer.connection is not None and not self._send(peer.connection, frames):
            self._connections.pop(peer.connection, None)
            peer.connection = None

    def _send(self, connection: bytes, frames: Sequence[Piece]) -> bool:
        try:
            _put_all(self._socket, connection, frames)
        except zmq.ZMQError as error:
            log.info("a connection to a node pool is lost: %s", error)
            return False
        return True

    def _answer_and_count(self, now: float) -> None:
        """Until nothing is left: only then their descriptors tell of more."""
        self._gate.answer(now)
        while _readable(self._monitor):
            event = recv_monitor_message(self._monitor)
            self.noise.note(_STRANGE, str(zmq.Event(event["event"]).name), now)


def _readable(sock: "zmq.Socket[bytes]") -> bool:
    """Whether something is at hand."""
    return bool(int(sock.getsockopt(_EVENTS)) & _READABLE)


def _put_all(sock: "zmq.Socket[bytes]", connection: bytes, message: Sequence[Piece]) -> None:
    """Send one message by a ROUTER.

    Raises:
        zmq.ZMQError: that connection is gone.
    """
    sock.send(connection, _MORE)
    for frame in message[:-1]:
        sock.send(frame, _MORE, copy=len(frame) < line.APART_BYTES)
    sock.send(message[-1], _NOW, copy=len(message[-1]) < line.APART_BYTES)


def _received(sock: "zmq.Socket[bytes]") -> tuple[bytes, list[zmq.Frame]]:
    """One message that is at hand, and its connection; recv_multipart() takes three times as long.

    What is large stays where ZeroMQ put it: a view is as good as bytes to whoever passes it on.
    """
    connection = sock.recv(_NOW)
    frames = [sock.recv(_NOW, copy=False)]
    while frames[-1].more:
        frames.append(sock.recv(_NOW, copy=False))
    return connection, frames
