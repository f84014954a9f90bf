"""What the manager reads from ``/etc/mep/NAME``, checked as a whole before it starts.

``policy.toml`` is root's; the manager reads it only to refuse a ``config.yaml`` that promises
something else than what root will do.
"""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from mep.link import Peer
from mep.manager import config
from mep.manager.config import Config
from mep.wire.parent import Parent
from mep.wire.settings import SettingsError

PARENT: Final = "parent.json"
POLICY: Final = "policy.toml"
TOKEN: Final = "manager.token"  # noqa: S105 - a file name

_AGREE: Final = {
    "user_config_template_path": ("template", "user_config_template.yaml.j2"),
    "user_config_schema_path": ("schema", "user_config_schema.json"),
    "identity_mapping_config_path": ("mapping", "identity_mapping.json"),
}
"""Key of config.yaml -> key of policy.toml, and its default."""


@dataclass(frozen=True)
class SiteConfiguration:
    """A consistent configuration."""

    config: Config
    parent: Parent
    token: str
    warnings: tuple[str, ...]

    @property
    def peer(self) -> Peer:
        """The relay."""
        return Peer(self.config.relay_url, self.config.ca_file)


def load(etc: Path) -> SiteConfiguration:
    """Read and check the directory `etc`.

    Raises:
        SettingsError: a file is missing or wrong, or two files disagree.
    """
    read, warnings = config.decode(config.read_text(etc / config.FILE), str(etc / config.FILE))
    check_policy(etc, read)
    parent = load_parent(etc)
    if (parent.relay_url, parent.multi_user) != (read.relay_url, read.multi_user):
        raise SettingsError(
            f"{etc / PARENT} was made from another config.yaml; `mep start` or `mep register` "
            "makes it anew"
        )
    token = config.read_text(etc / TOKEN).strip()
    if not token:
        raise SettingsError(f"{etc / TOKEN} is empty; `mep register` writes it")
    return SiteConfiguration(read, parent, token, warnings)


def load_parent(etc: Path) -> Parent:
    """The ``parent.json`` in `etc`.

    Raises:
        SettingsError: absent (the endpoint is not registered) or not ours.
    """
    path = etc / PARENT
    if not path.exists():
        raise SettingsError(f"{path} does not exist: register the endpoint with `mep register`")
    try:
        return msgspec.json.decode(config.read_text(path), type=Parent)
    except msgspec.DecodeError as error:
        raise SettingsError(f"{path}: {error}; `mep register` makes it anew") from error


def check_policy(etc: Path, read: Config) -> None:
    """Whether what ``config.yaml`` says about root's work is what ``policy.toml`` says.

    Raises:
        SettingsError: they disagree, or ``policy.toml`` cannot be read.
    """
    policy = _policy(etc)
    for key, (name, default) in _AGREE.items():
        said = getattr(read, key)
        decided = policy.get(name, default)
        if said is not None and _real(etc, said) != _real(etc, decided):
            raise _disagreement(etc, f"{key}: {said}", f"{name} = {decided!r}")
    if read.pam is None:
        return
    decided_pam = policy.get("pam", {})
    enable = decided_pam.get("enable", False)
    service = decided_pam.get("service_name", "mep")
    if read.pam.enable != enable or (enable and read.pam.service_name != service):
        said = f"pam: {{enable: {str(read.pam.enable).lower()}, service_name: "
        raise _disagreement(
            etc,
            f"{said}{read.pam.service_name}}}",
            f"[pam] enable = {str(enable).lower()}, service_name = {service!r}",
        )


def _policy(etc: Path) -> dict[str, Any]:
    path = etc / POLICY
    try:
        return tomllib.loads(config.read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error


def _real(etc: Path, name: str) -> str:
    return os.path.realpath(etc / name)


def _disagreement(etc: Path, said: str, decided: str) -> SettingsError:
    return SettingsError(
        f"{etc / config.FILE} says `{said}`, but {POLICY}, which decides, says `{decided}`; make "
        "them agree or remove the first"
    )
