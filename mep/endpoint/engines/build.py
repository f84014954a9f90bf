"""From the ``engine:`` section of a configuration to an engine."""

import hashlib
import logging
import os
import pwd
import socket
from collections.abc import Mapping
from typing import Any

import msgspec

from mep.endpoint.engines.base import Callbacks, Engine, Surroundings
from mep.endpoint.engines.engine import PoolEngine
from mep.endpoint.engines.network_settings import (
    NOT_FOLLOWED,
    PROBE_S,
    crosses_network,
    is_local,
    ports,
)
from mep.endpoint.engines.plan import Account, plan, pool_environment
from mep.endpoint.engines.provider_settings import LocalProviderSettings, check_packages
from mep.endpoint.engines.settings import ComputeEngineSettings, EngineSettings, read
from mep.endpoint.engines.transport import Beside, Transport
from mep.endpoint.providers.base import Provider
from mep.endpoint.providers.local import LocalProvider

log = logging.getLogger(__name__)


def build(raw: Any, surroundings: Surroundings, callbacks: Callbacks) -> Engine:
    """The engine that the ``engine:`` section `raw` describes; nothing is started yet.

    Raises:
        mep.wire.settings.SettingsError: see :func:`mep.endpoint.engines.settings.read`.
        mep.endpoint.engines.base.EngineError: this machine has not the address that is asked for.
    """
    settings = read(raw)
    environment = pool_environment(os.environ, _account(), socket.gethostname())
    provider = provider_of(settings, surroundings, environment)
    cores = len(os.sched_getaffinity(0))
    memory_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    transport = transport_of(settings, surroundings)
    lifeline = provider.lifeline()
    planned = plan(settings, surroundings, environment, cores, memory_gb, lifeline, transport)
    return PoolEngine(planned, provider, callbacks)


def provider_of(
    settings: EngineSettings, surroundings: Surroundings, environment: Mapping[str, str]
) -> Provider:
    """Where blocks come from.

    Raises:
        SettingsError: a Python package that it needs is not installed.
        EngineError: the endpoint's directory has a name that job scripts cannot bear, or
            ``runtime_dir`` leads nowhere.
    """
    wanted = getattr(settings, "provider", None)
    if wanted is None or isinstance(wanted, LocalProviderSettings):
        return LocalProvider(surroundings.directory)
    from mep.endpoint.providers.batch import BatchProvider
    from mep.endpoint.runtime.runtime import DEFAULT_DIRECTORY, Runtime

    check_packages(wanted)
    nodes = settings.nodes if isinstance(settings, ComputeEngineSettings) else 1
    fingerprint = hashlib.sha256(msgspec.json.encode(settings)).hexdigest()
    runtime = Runtime(getattr(settings, "runtime_dir", DEFAULT_DIRECTORY))
    return BatchProvider(wanted, nodes, surroundings.directory, environment, fingerprint, runtime)


def transport_of(settings: EngineSettings, surroundings: Surroundings) -> Transport:
    """How node pools are to reach the interchange.

    Raises:
        mep.endpoint.engines.base.EngineError: this machine has not the address that is asked for.
    """
    if not isinstance(settings, ComputeEngineSettings) or not crosses_network(settings):
        return Beside(surroundings.directory)
    from mep.endpoint.interchange.network import Network, reach

    encrypted = settings.encrypted
    if not encrypted and not surroundings.unencrypted_allowed:
        log.warning(NOT_FOLLOWED)
        encrypted = True
    where = reach(
        settings.address,
        local=is_local(settings),
        loopback=settings.loopback_address,
        ports=ports(settings),
        probe_s=settings.address_probe_timeout or PROBE_S,
    )
    return Network(surroundings.directory, where, encrypted)


def _account() -> Account:
    entry = pwd.getpwuid(os.getuid())
    return Account(entry.pw_name, entry.pw_dir, entry.pw_shell or "/bin/sh")
