"""``provider:`` of an engine: which there are, and the one on the endpoint's own machine."""

import importlib.util
from typing import Annotated, Any, ClassVar, Final, TypeVar

from msgspec import Meta

from mep.endpoint.engines.cloud_settings import (
    AWSProviderSettings,
    AzureProviderSettings,
    GoogleCloudProviderSettings,
    KubernetesProviderSettings,
)
from mep.endpoint.engines.launcher_settings import LAUNCHERS, ONE_NODE, LauncherSettings
from mep.endpoint.engines.scheduler_settings import (
    CondorProviderSettings,
    GridEngineProviderSettings,
    LSFProviderSettings,
    PBSProProviderSettings,
    ProviderSettings,
    SlurmProviderSettings,
    TorqueProviderSettings,
)
from mep.endpoint.engines.section import NO_EFFECT
from mep.wire.settings import SettingsError, convert, nearest

T = TypeVar("T")


class LocalProviderSettings(ProviderSettings, frozen=True):
    """Node pools on the endpoint's own machine."""

    packages: ClassVar[tuple[str, ...]] = ()

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


AnyProvider = (
    LocalProviderSettings
    | SlurmProviderSettings
    | PBSProProviderSettings
    | TorqueProviderSettings
    | LSFProviderSettings
    | GridEngineProviderSettings
    | CondorProviderSettings
    | KubernetesProviderSettings
    | AWSProviderSettings
    | AzureProviderSettings
    | GoogleCloudProviderSettings
)

PROVIDERS: Final[dict[str, type[AnyProvider]]] = {
    kind.name(): kind
    for kind in (
        LocalProviderSettings,
        SlurmProviderSettings,
        PBSProProviderSettings,
        TorqueProviderSettings,
        LSFProviderSettings,
        GridEngineProviderSettings,
        CondorProviderSettings,
        KubernetesProviderSettings,
        AWSProviderSettings,
        AzureProviderSettings,
        GoogleCloudProviderSettings,
    )
}
GONE: Final = {
    "CobaltProvider": "is no more, as Cobalt's sites have moved to PBS Professional: use "
    "PBSProProvider",
    "AdHocProvider": "is no more: use LocalProvider, or a batch system's provider",
    "FluxProvider": "does not exist, as Parsl has none: use LocalProvider, or a batch system's "
    "provider",
}
_ONE_MACHINE: Final = {
    "LocalProvider": "the LocalProvider's machine is one node",
    "KubernetesProvider": "a block of the KubernetesProvider is one pod",
    "AzureProvider": "a block of the AzureProvider is one virtual machine",
    "GoogleCloudProvider": "a block of the GoogleCloudProvider is one instance",
}
LOCAL_LAUNCHERS: Final = ("SingleNodeLauncher", "SimpleLauncher")


def read_provider(raw: dict[str, Any]) -> AnyProvider:
    """The ``provider:`` section as settings.

    Raises:
        SettingsError: an unknown type or key (with the nearest known one), a value of the wrong
            type, or a launcher that cannot be of use there.
    """
    where = "engine.provider"
    to = PROVIDERS[_type(raw, where, PROVIDERS, "LocalProvider")]
    section = _given(raw)
    if "launcher" in section:
        section["launcher"] = _launcher(section["launcher"], f"{where}.launcher")
    settings = _convert(section, to, where)
    if settings.min_blocks > settings.max_blocks:
        raise SettingsError(f"{where}.min_blocks is greater than max_blocks")
    if settings.init_blocks > settings.max_blocks:
        raise SettingsError(f"{where}.init_blocks is greater than max_blocks")
    if isinstance(settings, LocalProviderSettings):
        _check_local(settings, where)
    return settings


def check_packages(settings: AnyProvider) -> None:
    """See whether what the provider needs is installed, without importing it.

    Raises:
        SettingsError: it is not.
    """
    missing = [name for name in settings.packages if not _installed(name)]
    if missing:
        raise SettingsError(
            f"engine.provider.type {settings.name()!r} needs the Python package "
            f"{' and '.join(missing)}, which the endpoint's installation does not have; its "
            f"administrator can add it there (pip install {' '.join(missing)})"
        )


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _launcher(raw: Any, where: str) -> dict[str, Any]:
    """The section as it is, once it has been found to be good."""
    if not isinstance(raw, dict):
        raise SettingsError(f"{where} must be a mapping of settings, not {type(raw).__name__}")
    name = _type(raw, where, LAUNCHERS, "SingleNodeLauncher")
    section = _given(raw)
    _convert(section, LAUNCHERS[name], where)
    return {**section, "type": name}


def _given(raw: dict[str, Any]) -> dict[str, Any]:
    """What is said of it: a key without a value is what a template makes of an empty variable."""
    return {key: value for key, value in raw.items() if key != "type" and value is not None}


def _convert(raw: dict[str, Any], to: type[T], where: str) -> T:
    """As :func:`mep.wire.settings.convert`, with words for a value that could do harm."""
    try:
        return convert(raw, to, where)
    except SettingsError as error:
        if "matching regex" not in str(error):
            raise
        path = str(error).rpartition("`$")[2].rstrip("`")
        raise SettingsError(
            f"{where}{path} has characters that this setting cannot have: it becomes part of a "
            "job script or of a scheduler's command"
        ) from error


def _type(raw: dict[str, Any], where: str, known: dict[str, Any], default: str) -> str:
    name = raw.get("type", default)
    if isinstance(name, str) and name in GONE:
        raise SettingsError(f"{where}.type {name!r} {GONE[name]}")
    if not isinstance(name, str) or name not in known:
        raise SettingsError(f"{where}.type {name!r} is unknown{nearest(str(name), [*known])}")
    return name


def _check_local(settings: LocalProviderSettings, where: str) -> None:
    launcher = settings.launcher
    if launcher is not None and launcher.name() not in LOCAL_LAUNCHERS:
        raise SettingsError(
            f"{where}.launcher.type {launcher.name()!r} is not for one local machine: "
            f"use one of {', '.join(LOCAL_LAUNCHERS)}, or leave the launcher out"
        )


def check_nodes(settings: AnyProvider, nodes: int, where: str) -> None:
    """See whether the provider can have blocks of so many nodes.

    Raises:
        SettingsError: it cannot.
    """
    what = _ONE_MACHINE.get(settings.name())
    if nodes != 1 and what is not None:
        raise SettingsError(
            f"{where}.nodes_per_block is {nodes}, but {what}: set it to 1 or remove it"
        )


def pools_of(settings: AnyProvider, nodes: int) -> int:
    """How many nodes of a block its launcher starts a node pool on."""
    launcher = getattr(settings, "launcher", None)
    return 1 if launcher is not None and launcher.name() in ONE_NODE else nodes
