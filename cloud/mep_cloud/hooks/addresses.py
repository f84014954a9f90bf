"""Which URLs a webhook may have, and which addresses the relay connects to for one.

The relay stands where its users do not: without these rules a webhook would let them send requests
into its network. A name is resolved for each request, every address that it has must be allowed,
and the connection goes to the very address that was looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

MAX_URL: Final = 2048
_PLAIN: Final = {"http": 80, "https": 443}


class AddressRefused(Exception):
    """The URL or address may not be used; the message is fit for the webhook's owner."""


@dataclass(frozen=True)
class Target:
    """A URL in parts."""

    host: str
    port: int
    path: str
    """With the query."""
    tls: bool

    @property
    def authority(self) -> str:
        """For the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (
            host if self.port == _PLAIN["https" if self.tls else "http"] else f"{host}:{self.port}"
        )


def target(url: str, *, http_to_loopback: bool) -> Target:
    """The URL of a webhook, checked.

    Raises:
        AddressRefused: not one that may be registered.
    """
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise AddressRefused(f"A webhook's URL has at most {MAX_URL} printable ASCII characters.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise AddressRefused(f"{url[:80]!r} is not a URL: {error}.") from None
    if parts.scheme not in _PLAIN or not host:
        raise AddressRefused("A webhook's URL begins with https:// and names a host.")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise AddressRefused("A webhook's URL has no user, password or fragment.")
    plain_allowed = http_to_loopback and is_loopback(host)
    if parts.scheme == "http" and not plain_allowed:
        raise AddressRefused("A webhook's URL begins with https://: plain HTTP can be read.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(host, port or _PLAIN[parts.scheme], path, parts.scheme == "https")


def is_loopback(host: str) -> bool:
    """Whether `host`, an address, is this machine; a name is not trusted to be."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class Networks:
    """Which addresses may be connected to: public ones, and what the operator allows."""

    def __init__(self, allowed: Sequence[str], *, loopback: bool) -> None:
        self._allowed: list[IPv4Network | IPv6Network] = [ip_network(each) for each in allowed]
        self._loopback = loopback

    def check(self, addresses: Sequence[str]) -> str:
        """The address to connect to, of those that a name has.

        Raises:
            AddressRefused: there is none, or one of them is not allowed.
        """
        for each in addresses:
            if not self.allows(each):
                raise AddressRefused(
                    "The webhook's host has an address that is not public; the relay's operator "
                    "may allow it under allowed_networks."
                )
        if not addresses:
            raise AddressRefused("The webhook's host has no address.")
        return addresses[0]

    def allows(self, text: str) -> bool:
        """Whether an address is public, or allowed."""
        address = ip_address(text.partition("%")[0])
        if isinstance(address, IPv6Address):
            # What a translator would turn into IPv4 is judged as that.
            inner = address.ipv4_mapped or address.sixtofour
            if address in _NAT64:
                inner = ip_address(int(address) & 0xFFFFFFFF)  # type: ignore[assignment]
            if inner is not None:
                return self.allows(str(inner))
        if any(address in network for network in self._allowed):
            return True
        if address.is_loopback:
            return self._loopback
        if isinstance(address, IPv6Address) and address.is_site_local:
            return False  # which Python takes for global
        return address.is_global and not address.is_multicast and not address.is_reserved


_NAT64: Final = IPv6Network("64:ff9b::/96")
