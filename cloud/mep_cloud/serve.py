"""The server process: sockets, TLS, signals, and a shutdown that loses nothing."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import uvicorn

from mep.wire import limits
from mep_cloud.app import make_app
from mep_cloud.connections import Http, WebSockets
from mep_cloud.errors import HomeError, StoreError
from mep_cloud.relay import Relay

SHUTDOWN_S: Final = 2
"""Seconds that open requests have to end; links have said goodbye before."""
KEEP_ALIVE_S: Final = 75
"""An idle connection is kept, since a new one costs its client a TLS handshake."""


@dataclass(frozen=True)
class Listen:
    """Where and how to listen."""

    host: str
    port: int
    """0: the kernel's choice."""
    certificate: Path | None
    key: Path | None
    insecure_http: bool

    def check(self) -> None:
        """Refuse plain HTTP that leaves the machine.

        Raises:
            HomeError: with the remedy.
        """
        if (self.certificate is None) != (self.key is None):
            raise HomeError("--tls-cert and --tls-key go together.")
        if self.certificate is None and not (self.insecure_http or is_loopback(self.host)):
            raise HomeError(
                f"Listening on {self.host} needs TLS: give --tls-cert and --tls-key. Behind a "
                "proxy that ends TLS on a trusted network, --insecure-http serves plain HTTP."
            )

    def check_peers_reach(self, url: str) -> None:
        """Refuse an address that other relay processes cannot or should not use.

        Raises:
            HomeError: with the remedy.
        """
        parts = urlsplit(url)
        if parts.hostname in ("", None, "0.0.0.0", "::"):  # noqa: S104 - nothing is bound here
            raise HomeError(
                f"Other relay processes cannot reach this one at {url}: set url in [cluster], or "
                "listen on one address (--host)."
            )
        if parts.scheme != "https" and not (self.insecure_http or is_loopback(parts.hostname)):
            raise HomeError(
                f"Links would be handed on to {url} without TLS: make url in [cluster] an https:// "
                "one. On a trusted network, --insecure-http allows it."
            )

    @property
    def scheme(self) -> str:
        """Of the relay's URL."""
        return "http" if self.certificate is None else "https"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


async def serve(directory: Path, listen: Listen, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `announce` is told the URL once connections are accepted.

    Raises:
        HomeError: the data directory, the address or the certificate cannot be used.
        StoreError: the database cannot be used, or was lost.
    """
    listen.check()
    with contextlib.closing(_bind(listen)) as bound:
        url = _url(listen, bound)
        unopened = Relay(directory, url)
        if unopened.settings.cluster.enabled:
            listen.check_peers_reach(unopened.peer_url)
        async with unopened as relay:
            server = _Server(_config(relay, listen), lambda: announce(url))
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop.set)
            serving = asyncio.create_task(server.serve(sockets=[bound]))
            stopping = asyncio.create_task(stop.wait())
            ends: list[asyncio.Future[Any]] = [serving, stopping, relay.lost]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            relay.draining = True
            await relay.hub.close()
            server.should_exit = True
            await serving
            if relay.lost.done():
                why = relay.lost.result().removesuffix(".")
                raise StoreError(
                    f"The relay ends: {why}. Nothing that was accepted is lost; "
                    "start it again when the database is back."
                )


class _Server(uvicorn.Server):
    """Says when it listens, and leaves signals to :func:`serve`."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(relay: Relay, listen: Listen) -> uvicorn.Config:
    config = uvicorn.Config(
        make_app(relay),
        http=Http,
        ws=WebSockets,
        ws_max_size=limits.LINK_FRAME,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        server_header=False,
        proxy_headers=bool(relay.settings.identity.proxies),
        forwarded_allow_ips=list(relay.settings.identity.proxies),
        timeout_graceful_shutdown=SHUTDOWN_S,
        ssl_certfile=listen.certificate,
        ssl_keyfile=listen.key,
    )
    try:
        config.load()
    except (OSError, ValueError) as error:
        raise HomeError(f"The TLS certificate or key cannot be used: {error}.") from error
    return config


def _bind(listen: Listen) -> socket.socket:
    try:
        family = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM)[0][0]
        bound = socket.create_server((listen.host, listen.port), family=family, backlog=2048)
    except OSError as error:
        where = f"{listen.host} port {listen.port}"
        raise HomeError(f"The relay cannot listen on {where}: {error}.") from error
    bound.setblocking(False)
    return bound


def _url(listen: Listen, bound: socket.socket) -> str:
    host = f"[{listen.host}]" if ":" in listen.host else listen.host
    return f"{listen.scheme}://{host}:{bound.getsockname()[1]}"
