"""``launcher:`` of a provider, with Parsl's names and keys: what starts a pool on each node."""

from typing import Annotated, Final

from msgspec import Meta

from mep.endpoint.engines.section import Arguments, Named, Word

Debug = Annotated[bool, Meta(description="Write what the launcher finds to the job's output.")]
Overrides = Annotated[Arguments, Meta(description="More arguments of the launcher's command.")]


class SimpleLauncherSettings(Named, frozen=True):
    """The command as it is: on the first node of a block."""

    debug: Debug = True


class WrappedLauncherSettings(Named, frozen=True):
    """The command after another one."""

    prepend: Annotated[Arguments, Meta(description="Command that is given the pool's command.")]
    debug: Debug = True


class SingleNodeLauncherSettings(Named, frozen=True):
    """The command in a shell that waits for it."""

    debug: Debug = True
    fail_on_any: Annotated[
        bool, Meta(description="The job fails if any of its commands does, not only if all do.")
    ] = False


class SrunLauncherSettings(Named, frozen=True):
    """Slurm's ``srun``, once on each node."""

    debug: Debug = True
    overrides: Overrides = ""


class SrunMPILauncherSettings(Named, frozen=True):
    """Slurm's ``srun``, in a step of its own for each node."""

    debug: Debug = True
    overrides: Overrides = ""


class AprunLauncherSettings(Named, frozen=True):
    """Cray's ``aprun``."""

    debug: Debug = True
    overrides: Overrides = ""


class JsrunLauncherSettings(Named, frozen=True):
    """IBM's ``jsrun``."""

    debug: Debug = True
    overrides: Overrides = ""


class GnuParallelLauncherSettings(Named, frozen=True):
    """GNU parallel, over ssh."""

    debug: Debug = True


class MpiExecLauncherSettings(Named, frozen=True):
    """``mpiexec``, over the nodes of ``$PBS_NODEFILE``."""

    debug: Debug = True
    bind_cmd: Annotated[
        Annotated[str, Meta(pattern=r"\A--?[A-Za-z][A-Za-z-]*\Z")],
        Meta(description="The option that binds ranks; it is given the value none."),
    ] = "--bind-to"
    overrides: Overrides = ""


class MpiRunLauncherSettings(Named, frozen=True):
    """``mpirun``."""

    debug: Debug = True
    bash_location: Annotated[Word, Meta(description="The shell that runs the command.")] = (
        "/bin/bash"
    )
    overrides: Overrides = ""


LauncherSettings = (
    SimpleLauncherSettings
    | WrappedLauncherSettings
    | SingleNodeLauncherSettings
    | SrunLauncherSettings
    | SrunMPILauncherSettings
    | AprunLauncherSettings
    | JsrunLauncherSettings
    | GnuParallelLauncherSettings
    | MpiExecLauncherSettings
    | MpiRunLauncherSettings
)

LAUNCHERS: Final[dict[str, type[LauncherSettings]]] = {
    kind.name(): kind
    for kind in (
        SimpleLauncherSettings,
        WrappedLauncherSettings,
        SingleNodeLauncherSettings,
        SrunLauncherSettings,
        SrunMPILauncherSettings,
        AprunLauncherSettings,
        JsrunLauncherSettings,
        GnuParallelLauncherSettings,
        MpiExecLauncherSettings,
        MpiRunLauncherSettings,
    )
}
ONE_NODE: Final = ("SingleNodeLauncher", "SimpleLauncher", "WrappedLauncher")
"""Launchers that start one pool, whatever the block."""
