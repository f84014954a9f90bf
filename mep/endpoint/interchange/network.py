"""Node pools that connect over the network: keys, an address, a port; and finding them again.

``interchange.json`` in the user endpoint's directory (0600) keeps port and key pair, so that the
node pools of an earlier process can connect to this one. Each block has a key pair of its own,
which stands in its ``pool.json`` alone.
"""

import json
import logging
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import zmq
from zmq.utils import z85

from mep.endpoint.engines.base import EngineError
from mep.endpoint.interchange import addresses, slow_curve
from mep.endpoint.interchange.lines import Lines
from mep.endpoint.interchange.noise import Noise
from mep.endpoint.interchange.zap import DOMAIN, Guests
from mep.endpoint.private_file import write_private
from mep.wire import line

log = logging.getLogger(__name__)

FILE: Final = "interchange.json"


@dataclass(frozen=True)
class Reach:
    """Where node pools find the interchange."""

    addresses: Sequence[str]
    """They try all of these."""
    host: str
    """What is listened at; empty: every address of this machine."""
    ports: Sequence[int]
    """In the order in which they are tried; empty: any."""
    probe_s: float


class Kept(msgspec.Struct, frozen=True):
    """``interchange.json``."""

    port: int
    public_key: str
    """Z85, as the next."""
    secret_key: str


class Network:
    """A :class:`mep.endpoint.engines.transport.Transport` by TCP.

    Args:
        directory: the user endpoint's own.
        reach: where it listens.
        encrypted: CURVE; without it connections are authenticated by a password of their block that
            anyone on the way can read, with all that follows it.
    """

    def __init__(self, directory: str, reach: Reach, encrypted: bool) -> None:
        self._file = Path(directory, FILE)
        self._reach = reach
        self._encrypted = encrypted
        self._guests = Guests("CURVE" if encrypted else "PLAIN")
        self._listening: socket.socket | None = None
        self._kept = Kept(0, "", "")

    def prepare(self) -> None:
        """Listen, where an earlier process did if possible, and have a key pair.

        Raises:
            EngineError: no port can be had, or the key pair cannot be kept.
        """
        before = self._before()
        public, secret = before.public_key, before.secret_key
        if not public:
            public, secret = (key.decode() for key in zmq.curve_keypair())
        self._listening = self._listen(before.port)
        port = self._listening.getsockname()[1]
        self._kept = Kept(port, public, secret)
        try:
            write_private(self._file, msgspec.to_builtins(self._kept))
        except OSError as error:
            raise EngineError(f"The interchange's keys cannot be kept: {error}") from error

    def admit(self, block_id: str) -> dict[str, Any]:
        """A key for the node pools of a block, and where to go with it."""
        if "." in block_id:
            raise ValueError(f"{block_id!r}: a block's name ends where that of its node begins")
        connect: dict[str, Any] = {
            "addresses": list(self._reach.addresses),
            "port": self._kept.port,
            "probe_timeout": self._reach.probe_s,
        }
        if self._encrypted:
            public, secret = zmq.curve_keypair()
            connect["server_key"] = self._kept.public_key
            connect["public_key"] = public.decode()
            connect["secret_key"] = secret.decode()
        else:
            connect["username"] = block_id
            connect["password"] = secrets.token_urlsafe(32)
        self.admit_again(block_id, connect)
        return connect

    def admit_again(self, block_id: str, connect: dict[str, Any]) -> None:
        """Let the node pools in that were told this."""
        if self._encrypted:
            self._guests.admit(block_id, [z85.decode(connect["public_key"])])
        else:
            credential = connect["username"], connect["password"]
            self._guests.admit(block_id, [one.encode() for one in credential])

    def forget(self, block_id: str) -> None:
        """Its key opens nothing any more."""
        self._guests.forget(block_id)

    def open(self) -> Lines:
        """Take connections."""
        if self._listening is None:
            raise RuntimeError("prepare() comes first")
        context = zmq.Context()
        sock = context.socket(zmq.ROUTER)
        self._set(sock)
        lines = Lines(context, sock, self._guests, Noise(log.warning))
        port = self._kept.port
        sock.setsockopt(zmq.USE_FD, self._listening.detach())
        sock.bind(f"tcp://127.0.0.1:{port}")  # what is bound is the descriptor
        self._listening = None
        log.info("node pools connect to port %d at %s", port, ", ".join(self._reach.addresses))
        if self._encrypted:
            slow_curve.warn_soon()
        return lines

    def close(self) -> None:
        """Listen no more."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None

    def _set(self, sock: "zmq.Socket[bytes]") -> None:
        for name, value in line.SOCKET_OPTIONS.items():
            sock.setsockopt(getattr(zmq, name), value)
        sock.setsockopt(zmq.ROUTER_MANDATORY, 1)
        sock.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
        if self._encrypted:
            sock.curve_server = True
            sock.curve_publickey = self._kept.public_key.encode()
            sock.curve_secretkey = self._kept.secret_key.encode()
        else:
            sock.plain_server = True

    def _listen(self, port: int) -> socket.socket:
        """At the port of before if it is still one of those that may be used, and free."""
        ports = self._reach.ports
        if port and (not ports or port in ports):
            try:
                return addresses.listen(self._reach.host, [port])
            except EngineError as error:
                log.warning("node pools of an earlier process cannot come back: %s", error)
        return addresses.listen(self._reach.host, ports)

    def _before(self) -> Kept:
        nothing = Kept(0, "", "")
        try:
            kept = msgspec.convert(json.loads(self._file.read_bytes()), Kept)
            if zmq.curve_public(kept.secret_key.encode()) == kept.public_key.encode():
                return kept
        except FileNotFoundError:
            return nothing
        except (OSError, ValueError, zmq.ZMQError) as error:
            log.warning("%s cannot be read (%s): keys are made anew", self._file, error)
            return nothing
        log.warning("%s holds no key pair: keys are made anew", self._file)
        return nothing


def reach(how: Any, *, local: bool, loopback: str, ports: Sequence[int], probe_s: float) -> Reach:
    """Where node pools find this machine.

    Args:
        how: the engine's ``address``; None: they try all that are plausible.
        local: whether they run on this machine.
        loopback: the address for those, if `how` says nothing.
        ports: see :class:`Reach`.
        probe_s: seconds for which each address is tried.

    Raises:
        EngineError: there is no such address.
    """
    found = addresses.interfaces()
    if how is not None:
        address = addresses.chosen(how, found)
        host = address if addresses.is_here(address, found) else ""
        return Reach([address], host, ports, probe_s)
    if local:
        return Reach([loopback], loopback, ports, probe_s)
    return Reach(addresses.plausible(found, socket.gethostname()), "", ports, probe_s)
