"""One HTTP request to a receiver: to a checked address, without redirects, bounded."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Mapping
from typing import Final

from mep import __version__
from mep_cloud.hooks.addresses import Networks, Target

_STATUS_LINE: Final = 1024


class NotDelivered(Exception):
    """The receiver did not take it; the message is fit for the webhook's owner."""


async def addresses_of(target: Target) -> list[str]:
    """Addresses of the target's host.

    Raises:
        NotDelivered: its name is not known.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise NotDelivered("The host's name is not known.") from None
    return list(dict.fromkeys(str(each[4][0]) for each in found))


async def post(
    target: Target,
    networks: Networks,
    context: ssl.SSLContext,
    headers: Mapping[str, str],
    body: bytes,
) -> None:
    """Send `body`; done once the receiver answered 2xx.

    The caller bounds the time.

    Raises:
        NotDelivered: no connection, or another answer.
        AddressRefused: the host's address is none that may be connected to.
    """
    address = networks.check(await addresses_of(target))
    try:
        reader, writer = await asyncio.open_connection(
            address,
            target.port,
            ssl=context if target.tls else None,
            server_hostname=target.host if target.tls else None,
            limit=_STATUS_LINE,
        )
    except (OSError, ssl.SSLError) as error:
        raise NotDelivered(f"No connection: {type(error).__name__}.") from error
    try:
        writer.write(_request(target, headers, body))
        await writer.drain()
        _judge(await reader.readline())
    except (OSError, ValueError, asyncio.IncompleteReadError) as error:
        raise NotDelivered(f"The connection broke: {type(error).__name__}.") from error
    finally:
        # No more is said or heard: to close TLS, the receiver would have to do its part.
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _request(target: Target, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [
        f"POST {target.path} HTTP/1.1",
        f"Host: {target.authority}",
        f"User-Agent: mep-relay/{__version__}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def _judge(line: bytes) -> None:
    """Raises:
    NotDelivered: the status line is not that of a success.
    """
    version, _, rest = line.partition(b" ")
    status = rest[:3]
    if not version.startswith(b"HTTP/1.") or not status.isdigit():
        raise NotDelivered("The receiver does not answer in HTTP.")
    if not 200 <= int(status) < 300:
        raise NotDelivered(f"The receiver answered {int(status)}.")
