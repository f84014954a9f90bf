"""Which of the endpoint's addresses answers: all are tried at once, the first that does is taken.

An answer is a completed handshake, with CURVE: proof that whoever answers holds the endpoint's key.
Another service at the same address of another network is none. Names are looked up in threads, for
ZeroMQ would wait for a name server that does not answer and try nothing else meanwhile.
"""

import socket
import struct
import time
from typing import Any, Dict, List, NamedTuple, Optional

import zmq

from mep.wire import line
from mep.worker.names import Names, is_ip

_EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_DISCONNECTED
_EVENT = struct.Struct("=Hi")
"""Kind, value."""
_OPTIONS = {
    "IMMEDIATE": 1,
    "RECONNECT_IVL": 100,
    "RECONNECT_IVL_MAX": 2000,
    "CONNECT_TIMEOUT": 5000,
}
"""Of the end that connects; milliseconds."""
_LOOK_S = 2.0
"""To find out why an address did not answer."""


class NobodyAnswers(Exception):
    """No address works; the message is a sentence that names each, and why."""


class Answer(NamedTuple):
    """A connected socket."""

    context: "zmq.Context[zmq.Socket[bytes]]"
    socket: "zmq.Socket[bytes]"
    monitor: "zmq.Socket[bytes]"
    """Tells when the connection breaks, and when there is another."""


def next_event(monitor: "zmq.Socket[bytes]") -> int:
    """The kind of the next event of a monitor, see zmq_socket_monitor(3).

    pyzmq's own module for this imports asyncio, for which every node pool would pay.
    """
    kind: int = _EVENT.unpack(monitor.recv_multipart()[0])[0]
    return kind


class _Try:
    def __init__(
        self, context: "zmq.Context[zmq.Socket[bytes]]", address: str, connect: Dict[str, Any]
    ) -> None:
        self.address = address
        self.refused = False
        self.socket = context.socket(zmq.DEALER)
        _prepare(self.socket, connect)
        self.monitor = self.socket.get_monitor_socket(_EVENTS)
        self.socket.connect("tcp://%s:%d" % (bracketed(address), connect["port"]))

    def succeeded(self) -> bool:
        """Take in one event."""
        event = next_event(self.monitor)
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self.refused = True
        return bool(event == zmq.EVENT_HANDSHAKE_SUCCEEDED)

    def drop(self) -> None:
        self.socket.disable_monitor()
        self.monitor.close(linger=0)
        self.socket.close(linger=0)


class _Probe:
    def __init__(self, connect: Dict[str, Any]) -> None:
        self.context: "zmq.Context[zmq.Socket[bytes]]" = zmq.Context()
        self.tries: List[_Try] = []
        self.failures: Dict[str, str] = {}
        """Of names that could not be looked up, yet or at all."""
        self._connect = connect
        self._poller = zmq.Poller()
        self._names = Names()
        self._poller.register(self._names.fileno(), zmq.POLLIN)
        for address in connect["addresses"]:
            if is_ip(address):
                self._try(address)
            else:
                self.failures[address] = "no name server has answered"
                self._names.ask(address)

    def first(self, until: float) -> Optional[_Try]:
        """The first to answer, of several at once the first in the list; None: nobody."""
        while True:
            left_s = until - time.monotonic()
            if left_s <= 0:
                return None
            ready = dict(self._poller.poll(int(left_s * 1000) + 1))
            for one in self.tries:
                if one.monitor in ready and one.succeeded():
                    return one
            if self._names.fileno() in ready:
                self._take_name()

    def close(self, but: Optional[_Try]) -> None:
        for one in self.tries:
            if one is not but:
                one.drop()
        self._names.close()
        if but is None:
            self.context.term()

    def _take_name(self) -> None:
        name, addresses, failure = self._names.answer()
        self.failures[name] = failure
        tried = [one.address for one in self.tries]
        for address in addresses:
            if address not in tried:
                self._try(address)

    def _try(self, address: str) -> None:
        one = _Try(self.context, address, self._connect)
        self.tries.append(one)
        self._poller.register(one.monitor, zmq.POLLIN)


def probe(connect: Dict[str, Any]) -> Answer:
    """Try the addresses of `connect`, see :mod:`mep.worker.connect`.

    Raises:
        NobodyAnswers: within ``probe_timeout`` seconds.
    """
    probing = _Probe(connect)
    chosen = probing.first(time.monotonic() + connect["probe_timeout"])
    probing.close(chosen)
    if chosen is None:
        raise NobodyAnswers(_why(probing, connect))
    return Answer(probing.context, chosen.socket, chosen.monitor)


def bracketed(address: str) -> str:
    """An address as it stands before a port."""
    return "[%s]" % address if ":" in address else address


def _prepare(sock: "zmq.Socket[bytes]", connect: Dict[str, Any]) -> None:
    for name, value in {**line.SOCKET_OPTIONS, **_OPTIONS}.items():
        sock.setsockopt(getattr(zmq, name), value)
    if "server_key" in connect:
        sock.curve_serverkey = connect["server_key"].encode()
        sock.curve_publickey = connect["public_key"].encode()
        sock.curve_secretkey = connect["secret_key"].encode()
    else:
        sock.plain_username = connect["username"].encode()
        sock.plain_password = connect["password"].encode()


def _why(probing: _Probe, connect: Dict[str, Any]) -> str:
    port = connect["port"]
    tried = ["%s:%d (%s)" % (bracketed(t.address), port, _reason(t, port)) for t in probing.tries]
    tried += ["%s (%s)" % (name, why) for name, why in probing.failures.items() if why]
    return (
        "no address of the endpoint answers within %g seconds from %s; tried %s. Set the engine's "
        "address to one that compute nodes reach, and let its port (worker_port, "
        "worker_port_range) through firewalls."
        % (connect["probe_timeout"], socket.gethostname(), ", ".join(tried))
    )


def _reason(one: _Try, port: int) -> str:
    if one.refused:
        return "it refuses this block's key: the block or its endpoint has ended"
    try:
        socket.create_connection((one.address, port), _LOOK_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return "something answers that is not this endpoint"
