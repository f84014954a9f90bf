"""The ``engine:`` section of a user endpoint's configuration, with Globus Compute's keys.

A setting is declared once: type, default, description. ``extra={"version": "later"}`` marks one
that this version knows and does not have yet: it is accepted at its default and refused, with a
sentence, at any other value. ``"no effect"`` marks one that published templates carry and that has
nothing to do here.
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from mep.wire.settings import SettingsError, convert, nearest
from mep.wire.strategies import allowed_ids

LATER: Final = {"version": "later"}
NO_EFFECT: Final = {"version": "no effect"}

Count = Annotated[int, Meta(ge=1)]
Blocks = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0)]
Gigabytes = Annotated[float, Meta(gt=0)]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class LauncherSettings(_Section, frozen=True):
    """``launcher:`` of a provider."""

    type: str = "SingleNodeLauncher"


class LocalProviderSettings(_Section, frozen=True):
    """``provider:`` of type ``LocalProvider``: node pools on the endpoint's own machine."""

    type: str = "LocalProvider"
    init_blocks: Annotated[Blocks, Meta(description="Blocks to start at once.")] = 1
    min_blocks: Annotated[Blocks, Meta(description="Blocks to keep when idle.")] = 0
    max_blocks: Annotated[Count, Meta(description="Blocks at most.")] = 1
    nodes_per_block: Annotated[
        int | None, Meta(description="1: the local machine is one node.")
    ] = None
    parallelism: Annotated[
        float, Meta(ge=0, le=1, description="Workers to provide per task that waits or runs.")
    ] = 1.0
    worker_init: Annotated[
        str, Meta(description="Shell lines (bash) to run before the node pool is started.")
    ] = ""
    launcher: Annotated[
        LauncherSettings | None,
        Meta(description="SingleNodeLauncher or SimpleLauncher.", extra=NO_EFFECT),
    ] = None
    cmd_timeout: Annotated[
        float, Meta(description="No command is run, so nothing times out.", extra=NO_EFFECT)
    ] = 30
    move_files: Annotated[
        bool | None, Meta(description="Files are where they are.", extra=NO_EFFECT)
    ] = None


class ScalingSettings(_Section, frozen=True):
    """``job_status_kwargs:`` of an engine."""

    max_idletime: Annotated[
        Seconds, Meta(description="Seconds after which an idle block is ended.")
    ] = 120.0
    strategy: Annotated[str | None, Meta(description="As in the engine.", extra=NO_EFFECT)] = None
    strategy_period: Annotated[float, Meta(description="Nothing is polled.", extra=NO_EFFECT)] = 5.0


class _Common(_Section, frozen=True):
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

    provider: Annotated[LocalProviderSettings, Meta(description="Where blocks come from.")] = (
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
    nodes_per_block: Annotated[
        int | None, Meta(description="As in the provider; one of the two places suffices.")
    ] = None
    prefetch_capacity: Annotated[
        Blocks | None,
        Meta(
            description="Tasks that a node holds beyond its workers; learnt from how long tasks "
            "take if not given.",
        ),
    ] = None
    heartbeat_period: Annotated[Seconds, Meta(description="Seconds between heartbeats.")] = 30
    heartbeat_threshold: Annotated[
        Seconds, Meta(description="Seconds of silence after which a node counts as lost.")
    ] = 120
    job_status_kwargs: Annotated[ScalingSettings, Meta(description="When blocks come and go.")] = (
        ScalingSettings()
    )
    encrypted: Annotated[
        bool, Meta(description="Local nodes use a private Unix socket.", extra=NO_EFFECT)
    ] = True
    address: Annotated[
        str | dict[str, Any] | None,
        Meta(description="Local nodes have no network address.", extra=NO_EFFECT),
    ] = None
    loopback_address: Annotated[str, Meta(extra=NO_EFFECT, description="As address.")] = "127.0.0.1"
    worker_debug: Annotated[bool, Meta(extra=NO_EFFECT, description="More logging.")] = False
    poll_period: Annotated[int, Meta(extra=NO_EFFECT, description="Nothing is polled.")] = 10
    strategy: Annotated[
        str | None, Meta(description="simple: blocks come and go with demand.", extra=NO_EFFECT)
    ] = None
    container_type: Annotated[str | None, Meta(description="Containers.", extra=LATER)] = None
    container_uri: Annotated[str | None, Meta(description="Containers.", extra=LATER)] = None
    container_cmd_options: Annotated[str | None, Meta(description="Containers.", extra=LATER)] = (
        None
    )
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
    worker_port: Annotated[int | None, Meta(description="Port.", extra=LATER)] = None
    worker_ports: Annotated[list[int] | None, Meta(description="Ports.", extra=LATER)] = None
    worker_port_range: Annotated[
        list[int] | None, Meta(description="Ports to choose from.", extra=LATER)
    ] = None
    interchange_port_range: Annotated[
        list[int] | None, Meta(description="Ports to choose from.", extra=LATER)
    ] = None
    address_probe_timeout: Annotated[
        int | None, Meta(description="Seconds to try each address.", extra=LATER)
    ] = None
    worker_logdir_root: Annotated[
        str | None, Meta(description="Where workers log.", extra=LATER)
    ] = None


EngineSettings = ComputeEngineSettings | PoolEngineSettings

ENGINES: Final[dict[str, type[EngineSettings]]] = {
    "GlobusComputeEngine": ComputeEngineSettings,
    "ThreadPoolEngine": PoolEngineSettings,
    "ProcessPoolEngine": PoolEngineSettings,
}
LATER_ENGINES: Final = ("GlobusMPIEngine",)
LATER_PROVIDERS: Final = (
    "SlurmProvider", "PBSProProvider", "TorqueProvider", "LSFProvider", "GridEngineProvider",
    "CobaltProvider", "CondorProvider", "KubernetesProvider", "AWSProvider", "AzureProvider",
    "GoogleCloudProvider", "FluxProvider",
)  # fmt: skip
LAUNCHERS: Final = ("SingleNodeLauncher", "SimpleLauncher")


def read(raw: Any) -> EngineSettings:
    """The ``engine:`` section as settings.

    Raises:
        SettingsError: an unknown key, type or provider (with the nearest known one), a value of the
            wrong type, or something that this version does not have.
    """
    section = {} if raw is None else raw
    if not isinstance(section, dict):
        raise SettingsError(f"engine must be a mapping of settings, not {type(raw).__name__}")
    to = _known(section.get("type", "GlobusComputeEngine"), ENGINES, LATER_ENGINES, "engine.type")
    provider = section.get("provider")
    if isinstance(provider, dict) and to is ComputeEngineSettings:
        name = provider.get("type", "LocalProvider")
        _known(name, {"LocalProvider": to}, LATER_PROVIDERS, "engine.provider.type")
        _local_provider(provider)
    settings = convert(section, to, "engine")
    _refuse_later(settings)
    if isinstance(settings, ComputeEngineSettings):
        _check_compute(settings)
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


def _local_provider(section: dict[str, Any]) -> None:
    settings = convert(section, LocalProviderSettings, "engine.provider")
    launcher = settings.launcher
    if launcher is not None and launcher.type not in LAUNCHERS:
        raise SettingsError(
            f"engine.provider.launcher.type {launcher.type!r} is not for one local machine: "
            f"use one of {', '.join(LAUNCHERS)}, or leave the launcher out"
        )


def _known(
    name: Any, known: dict[str, type[EngineSettings]], later: tuple[str, ...], where: str
) -> type[EngineSettings]:
    if name in later:
        raise SettingsError(
            f"{where} {name!r}: this version of MEP runs tasks on the endpoint's own machine only; "
            f"use {' or '.join(known)}"
        )
    if not isinstance(name, str) or name not in known:
        raise SettingsError(f"{where} {name!r} is unknown{nearest(str(name), [*known, *later])}")
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
    provider = settings.provider
    for where, nodes in (
        ("engine", settings.nodes_per_block),
        ("engine.provider", provider.nodes_per_block),
    ):
        if nodes not in (None, 1):
            raise SettingsError(
                f"{where}.nodes_per_block is {nodes}, but the LocalProvider's machine is one node: "
                "set it to 1 or remove it"
            )
    for low, high in (("min_blocks", "max_blocks"), ("init_blocks", "max_blocks")):
        if getattr(provider, low) > getattr(provider, high):
            raise SettingsError(f"engine.provider.{low} is greater than {high}")
    if settings.heartbeat_threshold <= settings.heartbeat_period:
        raise SettingsError("engine.heartbeat_threshold must be greater than heartbeat_period")
