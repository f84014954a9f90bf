"""What the settings come down to: numbers, commands and environments. Pure."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mep.endpoint.engines.base import Surroundings
from mep.endpoint.engines.container_settings import container
from mep.endpoint.engines.provider_settings import AnyProvider, LocalProviderSettings, pools_of
from mep.endpoint.engines.settings import (
    ComputeEngineSettings,
    EngineSettings,
    MPIEngineSettings,
)
from mep.endpoint.engines.transport import Transport
from mep.endpoint.interchange.blocks import Bounds
from mep.endpoint.private_file import RESULTS
from mep.wire import limits
from mep.wire.node import workers_of
from mep.wire.strategies import allowed_ids

MAX_PREFETCH: Final = 64
"""Of a pool whose prefetch is learnt: enough that no worker waits for the interchange."""
FOREVER_S: Final = 10.0 * 365 * 24 * 3600
DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class Account:
    """What functions expect to know about the account that they run as."""

    name: str
    home: str
    shell: str


@dataclass(frozen=True)
class Spread:
    """Of an engine whose tasks take whole nodes."""

    nodes: int
    """Of a block."""
    workers: int
    """Tasks of a block at once."""
    max_passes: int
    """See :mod:`mep.endpoint.interchange.packing`."""


@dataclass(frozen=True)
class Plan:
    """What the settings come down to."""

    directory: str
    """The user endpoint's own."""
    workers: int
    """Of one block, as far as is known before one is up."""
    prefetch: int | None
    """Tasks beyond its workers that a node pool may hold; None: learnt."""
    mpi: Spread | None
    """None: a task takes one worker."""
    retries: int
    bounds: Bounds
    block_walltime_s: float | None
    """What a block is granted; None: it has no end."""
    heartbeat_period: float
    heartbeat_threshold: float
    max_idle_s: float
    """Seconds after which an idle block is ended."""
    drain_period: float | None
    """Seconds after which a node pool takes no more tasks; None: it takes them for good."""
    command: Sequence[str]
    """Starts a node pool; the path of its settings is to be appended."""
    outlives: bool
    """Whether node pools may outlive this process, and wait for the next."""
    transport: Transport
    """How node pools reach the interchange."""
    pool_settings: Mapping[str, Any]
    """Of node pools, without what differs from block to block."""
    environment: Mapping[str, str]
    """Of node pools, and so of functions."""


def plan(
    settings: EngineSettings,
    surroundings: Surroundings,
    environment: Mapping[str, str],
    cores: int,
    memory_gb: float,
    lifeline: int | None,
    transport: Transport,
) -> Plan:
    """The plan for these settings where nodes have so many usable cores and so much memory."""
    pools = 1
    if isinstance(settings, ComputeEngineSettings):
        prefetch = settings.prefetch_capacity
        provider = settings.provider
        bounds = Bounds(
            provider.init_blocks,
            provider.min_blocks,
            provider.max_blocks,
            provider.parallelism,
            settings.scales,
        )
        period, threshold = settings.heartbeat_period, settings.heartbeat_threshold
        max_idle_s = settings.job_status_kwargs.max_idletime
        drain_period = settings.drain_period
        walltime_s = provider.walltime_s
        init, python = provider.worker_init, settings.worker_python
        shell = init
        if not isinstance(provider, LocalProviderSettings):
            shell = ""  # it goes into the job's script
            pools = pools_of(provider, settings.nodes)
            cores = cores_of(provider) or cores
    else:
        prefetch, bounds, init, python = None, Bounds(1, 1, 1, 1.0), "", ""
        shell = ""
        period, threshold, max_idle_s = 30.0, 120.0, FOREVER_S
        drain_period = None
        walltime_s = None
    spread = None
    if isinstance(settings, MPIEngineSettings):
        spread = Spread(settings.nodes, settings.workers, settings.max_passes)
        prefetch = 0
    node = node_settings(settings)
    told = {
        "directory": surroundings.directory,
        "mode": "thread" if settings.type == "ThreadPoolEngine" else "process",
        **node,
        "mpi": settings.mpi_launcher if isinstance(settings, MPIEngineSettings) else None,
        "prefetch": MAX_PREFETCH if prefetch is None else prefetch,
        "terms": {
            "result": surroundings.max_result,
            "text": limits.FAILURE_TEXT,
            "message": limits.USER_MESSAGE,
            "allowed": allowed_ids(settings.allowed_serializers or ()),
            "keep": os.path.join(surroundings.directory, RESULTS),
            "submitted": surroundings.submitted,
        },
        "working_dir": os.path.join(surroundings.directory, settings.working_dir),
        "run_in_sandbox": settings.run_in_sandbox,
        "worker_python": python,
        "path_before": environment.get("PATH", DEFAULT_PATH) if init.strip() else None,
        "container": container(settings),
        "lifeline": lifeline,
        "heartbeat_period": period,
        "heartbeat_threshold": threshold,
        "block_walltime": walltime_s,
    }
    return Plan(
        directory=surroundings.directory,
        workers=spread.nodes if spread else pools * expected_workers(node, cores, memory_gb),
        prefetch=prefetch,
        mpi=spread,
        retries=settings.max_retries_on_system_failure,
        bounds=bounds,
        block_walltime_s=walltime_s,
        heartbeat_period=period,
        heartbeat_threshold=threshold,
        max_idle_s=max_idle_s,
        drain_period=drain_period,
        command=pool_command(shell),
        outlives=lifeline is None,
        transport=transport,
        pool_settings=told,
        environment=environment,
    )


def cores_of(provider: AnyProvider) -> int | None:
    """Cores of a node, as far as the settings say."""
    for name in ("cores_per_node", "cpus_per_node", "cores_per_slot"):
        if cores := getattr(provider, name, None):
            return int(cores)
    return None


def node_settings(settings: EngineSettings) -> dict[str, Any]:
    """What decides how many workers a node has, and what each gets; see the node pool's layout."""
    if isinstance(settings, MPIEngineSettings):
        return _workers(settings.workers, None)
    if isinstance(settings, ComputeEngineSettings):
        return {
            "max_workers": settings.max_workers_per_node,
            "cores_per_worker": settings.cores_per_worker,
            "mem_per_worker": settings.mem_per_worker,
            "cpu_affinity": settings.cpu_affinity,
            "accelerators": settings.available_accelerators,
        }
    return _workers(settings.max_workers, None if settings.max_workers else 1.0)


def _workers(most: int | None, cores_per_worker: float | None) -> dict[str, Any]:
    return {
        "max_workers": most,
        "cores_per_worker": cores_per_worker,
        "mem_per_worker": None,
        "cpu_affinity": "none",
        "accelerators": None,
    }


def expected_workers(node: Mapping[str, Any], cores: int, memory_gb: float) -> int:
    """Of one node; it says itself when it is up."""
    accelerators = node["accelerators"] or 0
    return workers_of(
        cores,
        memory_gb,
        accelerators if isinstance(accelerators, int) else len(accelerators),
        node["max_workers"],
        node["cores_per_worker"],
        node["mem_per_worker"],
    )


def pool_command(worker_init: str) -> list[str]:
    """The command of a node pool, but for the path of its settings.

    `worker_init` is the administrator's shell text; everything else reaches bash as arguments, not
    as text.
    """
    pool = [sys.executable, "-I", "-m", "mep.worker.pool"]
    if not worker_init.strip():
        return pool
    return ["bash", "-c", f'{worker_init}\nexec "$@"', "bash", *pool]


def pool_environment(own: Mapping[str, str], account: Account, hostname: str) -> dict[str, str]:
    """The endpoint's environment, with what functions may count on added where it is missing."""
    expected = {
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "SHELL": account.shell,
        "PATH": DEFAULT_PATH,
    }
    return {**expected, **own, "HOSTNAME": hostname}
