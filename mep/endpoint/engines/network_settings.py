"""What the ``engine:`` section says about the network between nodes and endpoint. Pure."""

import random
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from mep.endpoint.engines.provider_settings import LocalProviderSettings
from mep.wire.settings import SettingsError, nearest

if TYPE_CHECKING:
    from mep.endpoint.engines.settings import ComputeEngineSettings

NOT_FOLLOWED: Final = (
    "encrypted: false is not followed: connections of node pools are encrypted unless the site's "
    "administrator sets allow_unencrypted_pools in config.yaml"
)
PROBE_S: Final = 30
_ADDRESS: Final = re.compile(r"[A-Za-z0-9_.:%-]{1,255}")
_HOW: Final = {
    "address_by_hostname": (),
    "address_by_interface": ("ifname",),
    "address_by_route": (),
    "address_by_query": (),
}
"""Globus Compute's ways to name an address, and the arguments of each."""


def crosses_network(settings: "ComputeEngineSettings") -> bool:
    """Whether node pools connect by TCP."""
    if settings.transport is not None:
        return settings.transport == "tcp"
    return not is_local(settings)


def is_local(settings: "ComputeEngineSettings") -> bool:
    """Whether node pools run on the endpoint's own machine."""
    return isinstance(settings.provider, LocalProviderSettings)


def ports(settings: "ComputeEngineSettings") -> list[int]:
    """The ports that may be listened at, in the order in which they are tried; empty: any.

    A range begins anywhere, so that endpoints beside each other seldom collide.
    """
    if settings.worker_port is not None:
        return [settings.worker_port]
    if settings.worker_ports is not None:
        return list(settings.worker_ports)
    given = settings.worker_port_range or settings.interchange_port_range
    if given is None:
        return []
    low, high = given
    first = random.randrange(low, high)  # noqa: S311 - to spread, not to hide
    return [*range(first, high), *range(low, first)]


def check(settings: "ComputeEngineSettings") -> None:
    """Raise SettingsError for what cannot be meant."""
    if settings.transport == "ipc" and not is_local(settings):
        raise SettingsError(
            "engine.transport: ipc reaches node pools of the LocalProvider alone; remove it"
        )
    if settings.worker_ports is not None and len(settings.worker_ports) != 1:
        raise SettingsError(
            "engine.worker_ports: tasks and results share one port here; set worker_port to it"
        )
    for name in ("worker_port_range", "interchange_port_range"):
        _check_range(f"engine.{name}", getattr(settings, name))
    for port in (settings.worker_port, *(settings.worker_ports or ())):
        if port is not None and not 0 < port < 65536:
            raise SettingsError(f"engine.worker_port: {port} is no TCP port (1 to 65535)")
    _check_address("engine.loopback_address", settings.loopback_address)
    if isinstance(settings.address, str):
        _check_address("engine.address", settings.address)
    elif settings.address is not None:
        _check_how(settings.address)


def _check_range(where: str, given: Sequence[int] | None) -> None:
    if given is None:
        return
    if len(given) != 2 or not 0 < given[0] < given[1] <= 65536:
        raise SettingsError(
            f"{where}: {list(given)} is not [first port, last port + 1] of TCP, as [54000, 55000]"
        )


def _check_address(where: str, address: str) -> None:
    if not _ADDRESS.fullmatch(address):
        raise SettingsError(f"{where}: {address!r} is neither a host name nor an IP address")


def _check_how(address: Mapping[str, Any]) -> None:
    kind = address.get("type")
    if not isinstance(kind, str) or kind not in _HOW:
        raise SettingsError(f"engine.address.type {kind!r} is unknown{nearest(str(kind), [*_HOW])}")
    if kind == "address_by_query":
        raise SettingsError(
            "engine.address: address_by_query would ask a service on the internet for this "
            "machine's address; name the address, or use address_by_interface"
        )
    for name in _HOW[kind]:
        if not isinstance(address.get(name), str):
            raise SettingsError(f"engine.address: {kind} needs {name!r}, the name of an interface")
    unknown = address.keys() - {"type", *_HOW[kind]}
    if unknown:
        raise SettingsError(f"engine.address: {kind} has no argument {min(unknown)!r}")
