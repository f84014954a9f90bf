"""The ``engine:`` section of a user endpoint's configuration, with Globus Compute's keys.

A setting is declared once: type, default, description. ``extra={"version": "later"}`` marks one
that this version knows and does not have yet: it is accepted at its default and refused, with a
sentence, at any other value. ``"no effect"`` marks one that published templates carry and that has
nothing to do here.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from mep.endpoint.engines import mpi_settings, network_settings
from mep.endpoint.engines.container_settings import check_container
from mep.endpoint.engines.mpi_settings import MAX_PASSES, MOST_PASSES, Launcher
from mep.endpoint.engines.provider_settings import (
    AnyProvider,
    LocalProviderSettings,
    check_nodes,
    read_provider,
)
from mep.endpoint.engines.scheduler_settings import nodes_of
from mep.endpoint.engines.section import NO_EFFECT, Blocks, Count, Gigabytes, Seconds, Section
from mep.wire.settings import SettingsError, convert, nearest
from mep.wire.strategies import allowed_ids

LATER: Final = {"version": "later"}


Strategy = Literal["simple", "htex_auto_scale", "none", None]


class ScalingSettings(Section, frozen=True):
    """``job_status_kwargs:`` of an engine."""

    max_idletime: Annotated[
        Seconds, Meta(description="Seconds after which an idle block is ended.")
    ] = 120.0
    strategy: Annotated[Strategy, Meta(description="As in the engine.")] = None
    strategy_period: Annotated[
        float, Meta(description="Demand is acted on at once.", extra=NO_EFFECT)
    ] = 5.0


class _Common(Section, frozen=True):
    type: str = "GlobusComputeEngine"
    label: Annotated[
        str | None, Meta(description="A name for people to read.", extra=NO_EFFECT)
    ] = None
    max_retries_on_system_failure: Annotated[
        int, Meta(ge=0, description="How often a task that lost its worker or node is run again.")
    ] = 0
    working_dir: Annotated[
        str,
        Meta(description="Where functions run; relative to the user endpoint's own directory."),
    ] = "tasks_working_dir"
    run_in_sandbox: Annotated[
        bool, Meta(description="Each task in a directory of its own below working_dir.")
    ] = False
    allowed_serializers: Annotated[
        list[str] | None,
        Meta(
            description="Serializers that functions and arguments may come by, by Globus Compute's "
            "names (globus_compute_sdk.*Code for all of functions, *Data of data); all if empty."
        ),
    ] = None


class PoolEngineSettings(_Common, frozen=True):
    """``ThreadPoolEngine`` and ``ProcessPoolEngine``."""

    max_workers: Annotated[
        Count | None, Meta(description="Workers; the cores that may be used if not given.")
    ] = None


class ComputeEngineSettings(_Common, frozen=True):
    """``GlobusComputeEngine``."""

    provider: Annotated[AnyProvider, Meta(description="Where blocks come from.")] = (
        LocalProviderSettings()
    )
    max_workers_per_node: Annotated[
        Count | None,
        Meta(description="Workers on a node; the cores that may be used if not given."),
    ] = None
    worker_python: Annotated[
        str,
        Meta(
            description="Command of the workers' Python, 3.8 or newer with nothing installed. If "
            "not given: the python3 that worker_init puts first on PATH, else the endpoint's own."
        ),
    ] = ""
    runtime_dir: Annotated[
        str,
        Meta(
            description="Where node pools on other machines find what they run from: a directory "
            "of the user's that the endpoint and the nodes see alike. ~ and variables are replaced."
        ),
    ] = "~/.mep/runtime"
    nodes_per_block: Annotated[
        Count | None, Meta(description="As in the provider; one of the two places suffices.")
    ] = None
    prefetch_capacity: Annotated[
        Blocks | None,
        Meta(
            description="Tasks that a node holds beyond its workers; learnt from how long tasks "
            "take if not given. Those with large arguments wait at the endpoint, beyond 16 MiB.",
        ),
    ] = None
    heartbeat_period: Annotated[Seconds, Meta(description="Seconds between heartbeats.")] = 30
    heartbeat_threshold: Annotated[
        Seconds, Meta(description="Seconds of silence after which a node counts as lost.")
    ] = 120
    job_status_kwargs: Annotated[ScalingSettings, Meta(description="When blocks come and go.")] = (
        ScalingSettings()
    )
    transport: Annotated[
        Literal["ipc", "tcp"] | None,
        Meta(
            description="How nodes connect: by a private Unix socket (ipc: the LocalProvider's "
            "default, and for it alone) or by TCP. What follows about addresses, ports and "
            "encryption is of TCP."
        ),
    ] = None
    encrypted: Annotated[
        bool,
        Meta(
            description="CURVE, with a key pair for each block. False becomes true, with a "
            "warning, unless allow_unencrypted_pools is set in config.yaml."
        ),
    ] = True
    address: Annotated[
        str | dict[str, Any] | None,
        Meta(
            description="Where nodes find this machine: a name or an IP address, or type: "
            "address_by_interface (with ifname), address_by_hostname or address_by_route. If not "
            "given, they try all addresses that this machine has."
        ),
    ] = None
    loopback_address: Annotated[
        str, Meta(description="As address, for nodes of the LocalProvider.")
    ] = "127.0.0.1"
    worker_debug: Annotated[bool, Meta(extra=NO_EFFECT, description="More logging.")] = False
    poll_period: Annotated[int, Meta(extra=NO_EFFECT, description="Nothing is polled.")] = 10
    strategy: Annotated[
        Strategy,
        Meta(
            description="none: init_blocks are started, and none comes or goes after that. All "
            "else: blocks come with demand and go when idle."
        ),
    ] = None
    container_type: Annotated[
        str | None,
        Meta(
            description="Run workers in a container: docker, podman, podman-hpc, apptainer, "
            "singularity or custom.",
        ),
    ] = None
    container_uri: Annotated[
        str | None,
        Meta(description="Its image, as the runtime names it; needs a Python 3.8 or newer."),
    ] = None
    container_cmd_options: Annotated[
        str | None,
        Meta(
            description="Options of the runtime's run command; of custom the whole command, with "
            "{EXECUTOR_LAUNCH_CMD} where what runs in the container belongs. {EXECUTOR_RUNDIR} is "
            "the directory that it must see."
        ),
    ] = None
    cores_per_worker: Annotated[
        float, Meta(gt=0, description="Cores of a node for each worker; may be a fraction.")
    ] = 1.0
    mem_per_worker: Annotated[
        Gigabytes | None, Meta(description="GB of a node's memory for each worker.")
    ] = None
    cpu_affinity: Annotated[
        str,
        Meta(
            pattern=r"^(none|block|block-reverse|alternating|list:[0-9]+(-[0-9]+)?([,:][0-9]+"
            r"(-[0-9]+)?)*)$",
            description="Cores that each worker is bound to: none, block, block-reverse, "
            "alternating, or a list by worker as in list:0-3:4-7.",
        ),
    ] = "none"
    available_accelerators: Annotated[
        Count | list[str] | None,
        Meta(
            description="Accelerators of a node, one for each worker: how many, or their names. "
            "CUDA_VISIBLE_DEVICES, ROCR_VISIBLE_DEVICES and ZE_AFFINITY_MASK are set."
        ),
    ] = None
    drain_period: Annotated[
        Seconds | None,
        Meta(
            description="Seconds after which a node takes no more tasks, ends those that it runs, "
            "and is replaced if there is demand: set it shorter than the walltime of its block.",
        ),
    ] = None
    worker_port: Annotated[
        int | None,
        Meta(description="The port that nodes connect to; any that is free if not given."),
    ] = None
    worker_ports: Annotated[
        list[int] | None, Meta(description="As worker_port: a list of one port.")
    ] = None
    worker_port_range: Annotated[
        list[int] | None,
        Meta(description="Ports of which one is chosen: the first, and the last plus one."),
    ] = None
    interchange_port_range: Annotated[
        list[int] | None, Meta(description="As worker_port_range, which comes first.")
    ] = None
    address_probe_timeout: Annotated[
        Seconds | None,
        Meta(description="Seconds after which a node that no address answers gives up; 30."),
    ] = None
    worker_logdir_root: Annotated[
        str | None, Meta(description="Where workers log.", extra=LATER)
    ] = None

    @property
    def nodes(self) -> int:
        """Of a block."""
        return nodes_of(self.nodes_per_block, self.provider.nodes_per_block)

    @property
    def scales(self) -> bool:
        """Whether blocks come and go with demand."""
        return "none" not in (self.strategy, self.job_status_kwargs.strategy)


class MPIEngineSettings(ComputeEngineSettings, frozen=True):
    """``GlobusMPIEngine``: tasks have whole nodes of a block, by their resource_specification."""

    mpi_launcher: Annotated[
        Launcher,
        Meta(description="Starts MPI programs: srun, mpiexec (MPICH or Open MPI), aprun, flux."),
    ] = "mpiexec"
    max_workers_per_block: Annotated[
        Count | None, Meta(description="Tasks of a block at once; one for each node if not given.")
    ] = None
    max_passes: Annotated[
        int,
        Meta(
            ge=0,
            le=MOST_PASSES,
            description="How often tasks that came later may begin before a task because they fit "
            "where it does not; after that nodes are kept for it.",
        ),
    ] = MAX_PASSES

    @property
    def workers(self) -> int:
        """Tasks of a block at once."""
        return min(self.max_workers_per_block or self.nodes, self.nodes)


EngineSettings = ComputeEngineSettings | MPIEngineSettings | PoolEngineSettings

ENGINES: Final[dict[str, type[EngineSettings]]] = {
    "GlobusComputeEngine": ComputeEngineSettings,
    "GlobusMPIEngine": MPIEngineSettings,
    "ThreadPoolEngine": PoolEngineSettings,
    "ProcessPoolEngine": PoolEngineSettings,
}


def read(raw: Any) -> EngineSettings:
    """The ``engine:`` section as settings.

    Raises:
        SettingsError: an unknown key, type or provider (with the nearest known one), a value of the
            wrong type, or something that this version does not have.
    """
    section = {} if raw is None else raw
    if not isinstance(section, dict):
        raise SettingsError(f"engine must be a mapping of settings, not {type(raw).__name__}")
    to = _known(section.get("type", "GlobusComputeEngine"), ENGINES, "engine.type")
    provider = section.get("provider")
    if provider is not None and "provider" in to.__struct_fields__:
        if not isinstance(provider, dict):
            kind = type(provider).__name__
            raise SettingsError(f"engine.provider must be a mapping of settings, not {kind}")
        rest = {key: value for key, value in section.items() if key != "provider"}
        settings = msgspec.structs.replace(
            convert(rest, to, "engine"), provider=read_provider(provider)
        )
    else:
        settings = convert(section, to, "engine")
    _refuse_later(settings)
    if isinstance(settings, ComputeEngineSettings):
        _check_compute(settings)
        check_container(settings, settings.provider.name())
    if isinstance(settings, MPIEngineSettings):
        mpi_settings.check(settings)
    try:
        allowed_ids(settings.allowed_serializers or ())
    except ValueError as error:
        raise SettingsError(f"engine.allowed_serializers: {error}") from error
    if settings.run_in_sandbox and settings.type == "ThreadPoolEngine":
        raise SettingsError(
            "engine.run_in_sandbox: the threads of a ThreadPoolEngine share one directory; "
            "remove it or use a ProcessPoolEngine"
        )
    return settings


def _known(name: Any, known: dict[str, type[EngineSettings]], where: str) -> type[EngineSettings]:
    if not isinstance(name, str) or name not in known:
        raise SettingsError(f"{where} {name!r} is unknown{nearest(str(name), [*known])}")
    return known[name]


def _refuse_later(settings: EngineSettings) -> None:
    for setting in msgspec.inspect.type_info(type(settings)).fields:  # type: ignore[attr-defined]
        marks = getattr(setting.type, "extra", None) or {}
        if marks == LATER and getattr(settings, setting.name) != setting.default:
            raise SettingsError(
                f"engine.{setting.name} is a setting that this version of MEP does not have yet; "
                "remove it"
            )


def _check_compute(settings: ComputeEngineSettings) -> None:
    where = "engine" if settings.nodes_per_block else "engine.provider"
    check_nodes(settings.provider, settings.nodes, where)
    if settings.heartbeat_threshold <= settings.heartbeat_period:
        raise SettingsError("engine.heartbeat_threshold must be greater than heartbeat_period")
    network_settings.check(settings)
