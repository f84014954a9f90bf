"""Where node pools on other machines find the interchange: addresses of this one, and a port."""

import contextlib
import ipaddress
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import psutil

from mep.endpoint.engines.base import EngineError

_ELSEWHERE: Final = "192.0.2.1"
"""For documentation (RFC 5737): nothing is sent there, the kernel is asked which way it lies."""
_BACKLOG: Final = 1024
VIRTUAL: Final = ("docker", "br-", "virbr", "veth", "cni", "podman", "lxc", "lxd")
"""Interfaces of containers and virtual machines: nodes have the same, so they are tried last."""

Interfaces = Mapping[str, Sequence[str]]
"""Addresses of each interface that is up."""


def interfaces() -> dict[str, list[str]]:
    """Those of this machine."""
    states = psutil.net_if_stats()
    families = (socket.AF_INET, socket.AF_INET6)
    return {
        name: [one.address for one in addresses if one.family in families]
        for name, addresses in psutil.net_if_addrs().items()
        if name in states and states[name].isup
    }


def plausible(found: Interfaces, hostname: str) -> list[str]:
    """All addresses that another machine might reach, likely ones first. Pure.

    IPv4 before IPv6, real interfaces before virtual ones, the host's name in between; no loopback
    and nothing that is valid on one link alone.
    """
    real: list[str] = []
    virtual: list[str] = []
    for name, addresses in found.items():
        into = virtual if name.startswith(VIRTUAL) else real
        into += [address for address in addresses if _travels(address)]
    versions = (4, 6)
    ordered = [one for v in versions for one in real if _version(one) == v]
    ordered.append(hostname)
    ordered += [one for v in versions for one in virtual if _version(one) == v]
    return list(dict.fromkeys(ordered))


def chosen(how: str | Mapping[str, Any], found: Interfaces) -> str:
    """The one address that the administrator has named, or how to find it.

    Raises:
        EngineError: there is none.
    """
    if isinstance(how, str):
        return how
    if how["type"] == "address_by_interface":
        return _of_interface(how["ifname"], found)
    if how["type"] == "address_by_route":
        return _by_route()
    return _by_hostname(socket.gethostname())


def listen(host: str, ports: Iterable[int]) -> socket.socket:
    """A listening socket at the first of these ports that is free; at any where none is given.

    Args:
        host: one address of this machine; empty: all of them, with IPv6 where there is any.
        ports: in the order in which they are tried.

    Raises:
        EngineError: none is free, or the address is not this machine's.
    """
    tried = list(ports)
    for port in tried or [0]:
        sock = _bound(host, port)
        if sock is not None:
            return sock
    what = f"port {tried[0]} is" if len(tried) == 1 else f"all {len(tried)} ports are"
    raise EngineError(
        f"{what} taken on {socket.gethostname()}, perhaps by another user endpoint: node pools "
        "cannot connect. Ask for a worker_port_range in the endpoint's template that has room for "
        "every user endpoint."
    )


def is_here(address: str, found: Interfaces) -> bool:
    """Whether an address is one that this machine can listen at."""
    return _is_loopback(address) or any(address in addresses for addresses in found.values())


def _bound(host: str, port: int) -> socket.socket | None:
    """None: it is taken."""
    family = socket.AF_INET6 if ":" in host or (not host and _has_ipv6()) else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if host else 0)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == 98:  # EADDRINUSE
            return None
        raise EngineError(
            f"node pools cannot connect: {host or 'this machine'} port {port}: {error.strerror}"
        ) from error
    return sock


def _has_ipv6() -> bool:
    if not socket.has_ipv6:
        return False
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
        sock.bind(("::", 0))
        return True
    return False


def _of_interface(name: str, found: Interfaces) -> str:
    addresses = found.get(name)
    if not addresses:
        known = ", ".join(sorted(found))
        raise EngineError(
            f"the engine's address is that of interface {name!r}, which {socket.gethostname()} "
            f"does not have or has not up; it has {known}"
        )
    return min(addresses, key=_version)


def _by_route() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((_ELSEWHERE, 9))
        except OSError as error:
            raise EngineError(
                f"the engine's address is that of the default route, and {socket.gethostname()} "
                f"has none: {error.strerror}"
            ) from error
        return str(sock.getsockname()[0])


def _by_hostname(hostname: str) -> str:
    try:
        return socket.gethostbyname(hostname)
    except OSError as error:
        raise EngineError(
            f"the engine's address is that of the host's name, and {hostname} has none: {error}"
        ) from error


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def _travels(address: str) -> bool:
    if "%" in address:
        return False
    parsed = ipaddress.ip_address(address)
    return not (parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
