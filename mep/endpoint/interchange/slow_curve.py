"""Whether CURVE is as fast here as it can be: some builds of libsodium are 25 times slower.

The wheel of pyzmq 27.2.0 carries one. That is measured, not looked up: distributions build their
own. One MiB through a CURVE connection takes about 2 ms with a good build.
"""

import logging
import threading
import time
from typing import Final

import zmq

log = logging.getLogger(__name__)

SLOW_S: Final = 0.01
"""For one MiB: five times what a good build takes."""
_PIECE: Final = 128 * 1024
_ROUNDS: Final = 4
_LIMIT_MS: Final = 2000


def warn_soon() -> None:
    """Measure in a thread of its own, and log a warning if it is slow."""
    threading.Thread(target=_warn, name="slow-curve", daemon=True).start()


def seconds_per_mib() -> float:
    """The best of a few tries, in a context of its own."""
    context = zmq.Context()
    server, client = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    try:
        for sock in (server, client):
            sock.setsockopt(zmq.LINGER, 0)
            sock.setsockopt(zmq.RCVTIMEO, _LIMIT_MS)
            sock.setsockopt(zmq.SNDTIMEO, _LIMIT_MS)
        public, server.curve_secretkey = zmq.curve_keypair()
        server.curve_publickey = public
        server.curve_server = True
        client.curve_serverkey = public
        client.curve_publickey, client.curve_secretkey = zmq.curve_keypair()
        port = server.bind_to_random_port("tcp://127.0.0.1")
        client.connect(f"tcp://127.0.0.1:{port}")
        _exchange(client, server)
        return min(_exchange(client, server) for _ in range(_ROUNDS)) * 1024 * 1024 / _PIECE
    finally:
        server.close()
        client.close()
        context.term()


def _exchange(client: "zmq.Socket[bytes]", server: "zmq.Socket[bytes]") -> float:
    began = time.perf_counter()
    client.send(bytes(_PIECE))
    server.recv()
    return time.perf_counter() - began


def _warn() -> None:
    try:
        took_s = seconds_per_mib()
    except zmq.ZMQError as error:
        log.warning("the speed of CURVE cannot be measured: %s", error)
        return
    if took_s > SLOW_S:
        log.warning(
            "encryption between node pools and this endpoint is slow here: %.0f ms for one MiB, "
            "where about 2 are usual. pyzmq %s has a libsodium that was built without its fast "
            "code; install another (27.3.0 or later)",
            took_s * 1000,
            zmq.__version__,
        )
