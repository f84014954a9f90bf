"""The example of every file under ``/etc/mep/NAME``, as ``mep configure`` writes them.

The files are ``configs/`` at the top of the source tree. A wheel carries them as
``mep/cli/configs``; an editable install finds them where they are.
"""

from pathlib import Path
from typing import Final

NAMES: Final = (
    "policy.toml",
    "config.yaml",
    "identity_mapping.json",
    "user_config_template.yaml.j2",
    "user_config_schema.json",
    "user_environment.yaml",
)
"""Files that an administrator edits; ``parent.json`` and the secrets are generated."""


def text(name: str) -> str:
    """The example of one of :data:`NAMES`.

    Raises:
        FileNotFoundError: there is no such example.
    """
    return (_directory() / name).read_text(encoding="utf-8")


def _directory() -> Path:
    in_wheel = Path(__file__).with_name("configs")
    return in_wheel if in_wheel.is_dir() else Path(__file__).parents[2] / "configs"
