"""What holds for the settings of a ``GlobusMPIEngine`` and of no other engine."""

from typing import Any, Final, Literal

from mep.endpoint.engines.launcher_settings import ONE_NODE
from mep.endpoint.interchange.backlog import MOST_PASSES
from mep.endpoint.interchange.packing import MAX_PASSES
from mep.wire.settings import SettingsError

__all__ = ["MAX_PASSES", "MOST_PASSES", "Launcher", "check"]

Launcher = Literal["srun", "mpiexec", "aprun", "flux"]

_OF_WORKERS: Final = {
    "max_workers_per_node": "set max_workers_per_block, the tasks of a block at once",
    "cores_per_worker": "a task has all cores of its nodes",
    "mem_per_worker": "a task has all memory of its nodes",
    "cpu_affinity": "give the launcher options to bind ranks (launcher_options)",
    "available_accelerators": "a task has all accelerators of its nodes",
    "prefetch_capacity": "no task waits at a block",
    "container_type": "launchers work outside of containers; name the container in the command",
}


def check(settings: Any) -> None:
    """See whether settings of a ``GlobusMPIEngine`` go together.

    Raises:
        SettingsError: one that means nothing here, or a launcher of more than one node pool.
    """
    for name, remedy in _OF_WORKERS.items():
        default = next(f.default for f in _fields(settings) if f.name == name)
        if getattr(settings, name) not in (default, None, 0):
            raise SettingsError(f"engine.{name} is not for a GlobusMPIEngine: {remedy}; remove it")
    most = settings.max_workers_per_block
    if most is not None and most > settings.nodes:
        raise SettingsError(
            f"engine.max_workers_per_block is {most}, but a task has at least one of the "
            f"{settings.nodes} nodes of a block; set it to {settings.nodes} or remove it"
        )
    launcher = getattr(settings.provider, "launcher", None)
    if launcher is not None and launcher.name() not in ONE_NODE:
        raise SettingsError(
            f"engine.provider.launcher.type {launcher.name()!r} would start a node pool on every "
            "node, but a GlobusMPIEngine has one for each block, and MPI's own launcher does the "
            "rest (mpi_launcher): set launcher to {type: SimpleLauncher}"
        )


def _fields(settings: Any) -> Any:
    import msgspec

    return msgspec.structs.fields(settings)
