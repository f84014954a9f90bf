"""What the settings come down to: numbers, commands and environments. Pure."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mep.endpoint.engines.base import Surroundings
from mep.endpoint.engines.settings import ComputeEngineSettings, EngineSettings
from mep.endpoint.interchange.blocks import Bounds
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
class Plan:
    """What the settings come down to."""

    directory: str
    """The user endpoint's own."""
    workers: int
    """Of one node pool."""
    prefetch: int | None
    """Tasks beyond its workers that a node pool may hold; None: learnt."""
    retries: int
    bounds: Bounds
    heartbeat_period: float
    heartbeat_threshold: float
    max_idle_s: float
    """Seconds after which an idle block is ended."""
    drain_period: float | None
    """Seconds after which a node pool takes no more tasks; None: it takes them for good."""
    command: Callable[[str], Sequence[str]]
    """The command of a node pool, by the id of its block."""
    environment: Mapping[str, str]
    """Of node pools, and so of functions."""


def plan(
    settings: EngineSettings,
    surroundings: Surroundings,
    environment: Mapping[str, str],
    cores: int,
    memory_gb: float,
    lifeline: int | None,
) -> Plan:
    """The plan for these settings where nodes have so many usable cores and so much memory."""
    if isinstance(settings, ComputeEngineSettings):
        prefetch = settings.prefetch_capacity
        provider = settings.provider
        bounds = Bounds(
            provider.init_blocks, provider.min_blocks, provider.max_blocks, provider.parallelism
        )
        period, threshold = settings.heartbeat_period, settings.heartbeat_threshold
        max_idle_s = settings.job_status_kwargs.max_idletime
        drain_period = settings.drain_period
        init, python = provider.worker_init, settings.worker_python
    else:
        prefetch, bounds, init, python = None, Bounds(1, 1, 1, 1.0), "", ""
        period, threshold, max_idle_s = 30.0, 120.0, FOREVER_S
        drain_period = None
    node = node_settings(settings)
    told = {
        "directory": surroundings.directory,
        "mode": "thread" if settings.type == "ThreadPoolEngine" else "process",
        **node,
        "prefetch": MAX_PREFETCH if prefetch is None else prefetch,
        "terms": {
            "result": surroundings.max_result,
            "text": limits.FAILURE_TEXT,
            "message": limits.USER_MESSAGE,
            "allowed": allowed_ids(settings.allowed_serializers or ()),
            "submitted": surroundings.submitted,
        },
        "working_dir": os.path.join(surroundings.directory, settings.working_dir),
        "run_in_sandbox": settings.run_in_sandbox,
        "worker_python": python,
        "path_before": environment.get("PATH", DEFAULT_PATH) if init.strip() else None,
        "lifeline": lifeline,
        "heartbeat_period": period,
        "heartbeat_threshold": threshold,
    }
    return Plan(
        directory=surroundings.directory,
        workers=expected_workers(node, cores, memory_gb),
        prefetch=prefetch,
        retries=settings.max_retries_on_system_failure,
        bounds=bounds,
        heartbeat_period=period,
        heartbeat_threshold=threshold,
        max_idle_s=max_idle_s,
        drain_period=drain_period,
        command=lambda block_id: pool_command(told, block_id, init),
        environment=environment,
    )


def node_settings(settings: EngineSettings) -> dict[str, Any]:
    """What decides how many workers a node has, and what each gets; see the node pool's layout."""
    if isinstance(settings, ComputeEngineSettings):
        return {
            "max_workers": settings.max_workers_per_node,
            "cores_per_worker": settings.cores_per_worker,
            "mem_per_worker": settings.mem_per_worker,
            "cpu_affinity": settings.cpu_affinity,
            "accelerators": settings.available_accelerators,
        }
    return {
        "max_workers": settings.max_workers,
        "cores_per_worker": None if settings.max_workers else 1.0,
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


def pool_command(told: Mapping[str, object], block_id: str, worker_init: str) -> list[str]:
    """The command of the node pool of a local block.

    `worker_init` is the administrator's shell text; everything else reaches bash as arguments, not
    as text.
    """
    settings = json.dumps({**told, "pool_id": f"{block_id}.0", "block_id": block_id})
    pool = [sys.executable, "-I", "-m", "mep.worker.pool", settings]
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
