"""``container_*`` of an engine: what fits together, and what the node pool is told of it."""

import shlex
from typing import Any, Final, Protocol

from mep.wire.settings import SettingsError, nearest

WITH_IMAGE: Final = ("docker", "podman", "podman-hpc", "apptainer", "singularity")
CUSTOM: Final = "custom"
PODS: Final = ("AWSProvider", "GoogleCloudProvider", "KubernetesProvider")
"""Providers whose blocks are images, as Globus Compute has it."""
LAUNCH: Final = "{EXECUTOR_LAUNCH_CMD}"


class ContainerSettings(Protocol):
    """Settings of an engine that has containers."""

    @property
    def container_type(self) -> str | None:
        """One of WITH_IMAGE, or CUSTOM."""

    @property
    def container_uri(self) -> str | None:
        """The image."""

    @property
    def container_cmd_options(self) -> str | None:
        """Words of a shell."""


def check_container(settings: ContainerSettings, provider: str) -> None:
    """Refuse what does not fit together.

    Args:
        settings: of an engine.
        provider: the type of its provider.

    Raises:
        SettingsError: which setting, and what to do.
    """
    kind = settings.container_type
    if kind and provider in PODS:
        raise SettingsError(
            f"engine.container_type does not go with {provider}, which runs images itself: name "
            "the image in the provider's settings, and remove container_type and container_uri"
        )
    if kind in WITH_IMAGE:
        _check_image(kind, settings.container_uri or "")
    elif kind == CUSTOM:
        _check_custom(settings.container_cmd_options or "")
    elif kind:
        known = [*WITH_IMAGE, CUSTOM]
        raise SettingsError(
            f"engine.container_type {kind!r} is unknown{nearest(kind, known)}: "
            f"it is one of {', '.join(known)}"
        )
    elif settings.container_uri or settings.container_cmd_options:
        raise SettingsError(
            "engine.container_type is missing, without which container_uri and "
            "container_cmd_options have no effect: set it, or remove them"
        )
    _check_words(settings.container_cmd_options or "")


def container(settings: Any) -> dict[str, str] | None:
    """What the node pool is told, see ``mep.worker.containers``; None: workers run beside it."""
    kind = getattr(settings, "container_type", None)
    if not kind:
        return None
    return {
        "type": kind,
        "uri": settings.container_uri or "",
        "options": settings.container_cmd_options or "",
    }


def _check_image(kind: str, uri: str) -> None:
    if not uri:
        raise SettingsError(
            f"engine.container_uri is missing: container_type {kind} needs an image to run"
        )
    if uri.startswith("-") or uri.split() != [uri]:
        raise SettingsError(
            f"engine.container_uri {uri!r} is no image: it is one word and begins with no '-'; "
            "options belong into container_cmd_options"
        )


def _check_custom(options: str) -> None:
    if LAUNCH not in options:
        raise SettingsError(
            "engine.container_cmd_options of container_type custom is the whole command that "
            f"starts the container; it must have {LAUNCH} where what runs in it belongs"
        )
    if options.split()[0].startswith(LAUNCH):
        raise SettingsError(
            f"engine.container_cmd_options begins with {LAUNCH}: the command that starts the "
            "container is missing before it"
        )


def _check_words(options: str) -> None:
    try:
        shlex.split(options)
    except ValueError as error:
        raise SettingsError(
            f"engine.container_cmd_options cannot be split into words ({error}): close its quotes"
        ) from error
