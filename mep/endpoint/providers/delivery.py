"""How a block's settings and its node pool come to the nodes, by kind of provider.

Most batch systems' nodes see the endpoint's directory. A pod does not: its settings are a Secret,
and the image has the node pool. HTCondor puts what a job needs into a directory of the job's own.
"""

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import mep
from mep.endpoint.engines.provider_settings import AnyProvider
from mep.endpoint.runtime.command import command
from mep.endpoint.runtime.runtime import Runtime, carried_command

SECRET_DIRECTORY: Final = "/var/run/secrets/mep"  # noqa: S105 - where one is mounted
POOL_FILE: Final = "pool.json"
_ENCRYPTED: Final = re.compile(
    r"^[ \t]*encrypt_input_files[ \t]*=(.*)$", re.MULTILINE | re.IGNORECASE
)


@dataclass(frozen=True)
class Delivery:
    """One block's."""

    command: str
    """Shell line that starts a node pool on a node."""
    secret: Path | None = None
    """The settings, where the command expects them at :data:`SECRET_DIRECTORY`."""
    transferred: tuple[Path, ...] = ()
    """Files that the command expects in the job's working directory; the settings come first."""


def delivery(settings: AnyProvider, runtime: Runtime, pool_file: Path) -> Delivery:
    """What a block of this provider needs; its files are there when this returns.

    Raises:
        RuntimeUnavailable: what node pools run from cannot be put where it has to be.
    """
    match settings.name():
        case "KubernetesProvider":
            return _to_pod(settings, runtime, pool_file)
        case "CondorProvider":
            carried = runtime.carried(pool_file.parent)
            line = carried_command(carried.name, pool_file.name)
            return Delivery(shlex.join(line), transferred=(pool_file, carried))
        case _:
            return Delivery(shlex.join(runtime.command(str(pool_file))))


def _to_pod(settings: AnyProvider, runtime: Runtime, pool_file: Path) -> Delivery:
    inside = f"{SECRET_DIRECTORY}/{POOL_FILE}"
    if getattr(settings, "persistent_volumes", ()):  # one of them may hold runtime_dir
        line = runtime.command(inside)
    else:
        line = command(sys.executable, mep.__version__, None, inside)
    return Delivery(shlex.join(line), secret=pool_file)


def with_encryption(options: str, settings: str) -> str:
    """HTCondor's submit commands, with which the settings are encrypted on their way to the node.

    Args:
        options: the configuration's, whole lines. Of commands of one name the last counts.
        settings: path of the file.
    """
    theirs = [files.strip() for files in _ENCRYPTED.findall(options)[-1:]]
    return f"{options}encrypt_input_files = {','.join([*theirs, settings])}\n"
