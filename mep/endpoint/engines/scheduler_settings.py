"""``provider:`` of a batch system, with Parsl's names, keys and defaults."""

import re
from typing import Annotated, ClassVar

from msgspec import Meta

from mep.endpoint.engines.launcher_settings import (
    AprunLauncherSettings,
    LauncherSettings,
    SingleNodeLauncherSettings,
)
from mep.endpoint.engines.section import Blocks, Count, Expression, Gigabytes, Named, OneLine, Word
from mep.wire.settings import SettingsError

Walltime = Annotated[
    str | int,
    Meta(
        description="What a block is granted, HH:MM:SS. (YAML reads 10:00:00 without quotes as a "
        "number of seconds; that is taken for what it was meant to be.)"
    ),
]
_WALLTIME = re.compile(r"(\d{1,4}):([0-5]\d):([0-5]\d)")

InitBlocks = Annotated[Blocks, Meta(description="Blocks to start at once.")]
MinBlocks = Annotated[Blocks, Meta(description="Blocks to keep when idle.")]
MaxBlocks = Annotated[Count, Meta(description="Blocks at most.")]
Parallelism = Annotated[
    float, Meta(ge=0, le=1, description="Workers to provide per task that waits or runs.")
]
WorkerInit = Annotated[
    str, Meta(description="Shell lines (bash) to run before the node pool is started.")
]
NodesPerBlock = Annotated[
    Count | None,
    Meta(description="Nodes of a block; 1 if not given here or as the engine's nodes_per_block."),
]
Options = Annotated[
    str,
    Meta(
        description="Lines for the job script, such as more directives. They are the "
        "administrator's: leave none of them to users unless the schema narrows what they may say."
    ),
]
Timeout = Annotated[Count, Meta(description="Seconds that a scheduler's command may take.")]
Account = Annotated[Word | None, Meta(description="Account or project to be charged.")]
Queue = Annotated[Word | None, Meta(description="Queue to ask for blocks.")]
Launcher = Annotated[LauncherSettings, Meta(description="What starts a node pool on each node.")]


class ProviderSettings(Named, frozen=True):
    """What all providers have."""

    packages: ClassVar[tuple[str, ...]] = ("parsl",)
    """Python packages that it needs, beside the endpoint's own."""

    init_blocks: InitBlocks = 1
    min_blocks: MinBlocks = 0
    max_blocks: MaxBlocks = 1
    parallelism: Parallelism = 1.0
    worker_init: WorkerInit = ""
    nodes_per_block: NodesPerBlock = None

    @property
    def walltime_s(self) -> float | None:
        """What a block is granted, in seconds; None: it has no end."""
        return None


class BatchSettings(ProviderSettings, frozen=True):
    """What all batch systems have."""

    scheduler_options: Options = ""
    walltime: Walltime = "00:10:00"
    launcher: Launcher = SingleNodeLauncherSettings()

    def __post_init__(self) -> None:
        check_walltime(self.walltime)

    @property
    def walltime_s(self) -> float:
        """What a block is granted, in seconds."""
        return walltime_seconds(self.walltime)


def walltime_seconds(written: str | int) -> float:
    """Seconds of a walltime.

    Raises:
        ValueError: it is none.
    """
    if isinstance(written, int):
        return float(written)
    match = _WALLTIME.fullmatch(written)
    if match is None:
        raise ValueError(f"walltime {written!r} is not of the form HH:MM:SS")
    hours, minutes, seconds = map(int, match.groups())
    return float(hours * 3600 + minutes * 60 + seconds)


def check_walltime(written: str | int) -> None:
    """See whether blocks can have it.

    Raises:
        ValueError: it is no walltime, or too short a one.
    """
    if walltime_seconds(written) < 60:
        raise ValueError("walltime must be one minute at least")


def walltime_text(seconds: float) -> str:
    """The walltime that has so many seconds."""
    whole = int(seconds)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"


class SlurmProviderSettings(BatchSettings, frozen=True):
    """Slurm."""

    partition: Annotated[Word | None, Meta(description="Partition to ask for blocks.")] = None
    account: Account = None
    qos: Annotated[Word | None, Meta(description="Quality of service.")] = None
    constraint: Annotated[Expression | None, Meta(description="Features of nodes.")] = None
    clusters: Annotated[Word | None, Meta(description="Clusters of a federation.")] = None
    cores_per_node: Annotated[Count | None, Meta(description="Cores of each node.")] = None
    mem_per_node: Annotated[Count | None, Meta(description="GB of memory of each node.")] = None
    gpus_per_node: Annotated[Count | None, Meta(description="GPUs of each node.")] = None
    gres: Annotated[Word | None, Meta(description="Generic resources.")] = None
    exclusive: Annotated[bool, Meta(description="Share nodes with nobody.")] = True
    regex_job_id: Annotated[
        str, Meta(description="Finds the group 'id' in what sbatch prints.")
    ] = r"Submitted batch job (?P<id>\S*)"
    cmd_timeout: Timeout = 10
    status_batch_size: Annotated[Count, Meta(description="Jobs to one question at most.")] = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            groups = re.compile(self.regex_job_id).groupindex
        except re.error as error:
            raise ValueError(f"regex_job_id is no regular expression: {error}") from error
        if "id" not in groups:
            raise ValueError("regex_job_id has no group named id")


class TorqueProviderSettings(BatchSettings, frozen=True):
    """Torque, and what has its commands."""

    account: Account = None
    queue: Queue = None
    walltime: Walltime = "00:20:00"
    launcher: Launcher = AprunLauncherSettings()
    cmd_timeout: Timeout = 120


class PBSProProviderSettings(BatchSettings, frozen=True):
    """PBS Professional and OpenPBS."""

    account: Account = None
    queue: Queue = None
    walltime: Walltime = "00:20:00"
    select_options: Annotated[
        Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.:=,/+-]*\Z")],
        Meta(description="More of the select statement, such as ngpus=4."),
    ] = ""
    cpus_per_node: Annotated[Count, Meta(description="Cores of each node.")] = 1
    cmd_timeout: Timeout = 120


class LSFProviderSettings(BatchSettings, frozen=True):
    """IBM Spectrum LSF."""

    project: Account = None
    queue: Queue = None
    cores_per_block: Annotated[
        Count | None, Meta(description="Cores of a block, where request_by_nodes is false.")
    ] = None
    cores_per_node: Annotated[
        Count | None, Meta(description="Cores of each node, where request_by_nodes is false.")
    ] = None
    bsub_redirection: Annotated[bool, Meta(description="Submit by bsub < script.")] = False
    request_by_nodes: Annotated[bool, Meta(description="Ask for nodes, not for cores.")] = True
    cmd_timeout: Timeout = 120

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.request_by_nodes and None in (self.cores_per_block, self.cores_per_node):
            raise ValueError(
                "request_by_nodes: false needs both cores_per_block and cores_per_node"
            )


class GridEngineProviderSettings(BatchSettings, frozen=True):
    """Grid Engine and its descendants."""

    queue: Queue = None
    cmd_timeout: Timeout = 60


class CondorProviderSettings(BatchSettings, frozen=True):
    """HTCondor."""

    cores_per_slot: Annotated[Count | None, Meta(description="Cores of each slot.")] = None
    mem_per_slot: Annotated[Gigabytes | None, Meta(description="GB of memory of each slot.")] = None
    environment: Annotated[
        dict[Word, Annotated[str, Meta(pattern=r"\A[^\r\n\x00\"']*\Z")]] | None,
        Meta(description="Variables of the job."),
    ] = None
    project: Annotated[
        Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.@%+=:,/-]*\Z")],
        Meta(description="Project to be charged."),
    ] = ""
    transfer_input_files: Annotated[
        tuple[Word, ...], Meta(description="More files for the job to find in its directory.")
    ] = ()
    requirements: Annotated[OneLine, Meta(description="What machines must have.")] = ""
    cmd_timeout: Timeout = 60
    cmd_chunk_size: Annotated[Count, Meta(description="Jobs to one command at most.")] = 100


def nodes_of(engine: int | None, provider: int | None) -> int:
    """Nodes of a block, as the two places where templates have them say.

    Raises:
        SettingsError: they disagree.
    """
    if engine is not None and provider is not None and engine != provider:
        raise SettingsError(
            f"engine.nodes_per_block is {engine}, but engine.provider.nodes_per_block is "
            f"{provider}; remove one of them"
        )
    return engine or provider or 1
