"""From the ``engine:`` section of a configuration to an engine."""

import os
import pwd
import socket
from typing import Any

from mep.endpoint.engines.base import Callbacks, Engine, Surroundings
from mep.endpoint.engines.engine import PoolEngine
from mep.endpoint.engines.plan import Account, plan, pool_environment
from mep.endpoint.engines.settings import read
from mep.endpoint.providers.local import LocalProvider


def build(raw: Any, surroundings: Surroundings, callbacks: Callbacks) -> Engine:
    """The engine that the ``engine:`` section `raw` describes; nothing is started yet.

    Raises:
        mep.wire.settings.SettingsError: see :func:`mep.endpoint.engines.settings.read`.
    """
    settings = read(raw)
    provider = LocalProvider(surroundings.directory)
    environment = pool_environment(os.environ, _account(), socket.gethostname())
    cores = len(os.sched_getaffinity(0))
    memory_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    planned = plan(settings, surroundings, environment, cores, memory_gb, provider.lifeline())
    return PoolEngine(planned, provider, callbacks)


def _account() -> Account:
    entry = pwd.getpwuid(os.getuid())
    return Account(entry.pw_name, entry.pw_dir, entry.pw_shell or "/bin/sh")
