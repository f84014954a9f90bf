"""``relay.toml``, read: unknown keys are refused with the nearest known one."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from mep.wire.settings import SettingsError, convert, nearest
from mep_cloud.errors import HomeError
from mep_cloud.identity.settings import Oidc
from mep_cloud.settings.limits import with_preset
from mep_cloud.settings.whole import Settings


def load(path: Path) -> Settings:
    """The settings in the file; all defaults where there is none.

    Raises:
        HomeError: unreadable, no TOML, an unknown key (with the nearest known one), a wrong value.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return Settings()
    except (OSError, UnicodeDecodeError) as error:
        raise HomeError(f"{path} cannot be read: {error}.") from error
    try:
        return from_tables(tomllib.loads(text), str(path))
    except tomllib.TOMLDecodeError as error:
        raise HomeError(f"{path} is no TOML: {error}.") from error
    except SettingsError as error:
        wrong = str(error).removesuffix(".")
        end = "" if wrong.endswith("?") else "."
        raise HomeError(f"{wrong}{end} `mep-relay settings` prints all that can be set.") from error


def from_tables(raw: dict[str, Any], where: str) -> Settings:
    """Decoded TOML as settings.

    Raises:
        SettingsError: an unknown key, or a wrong value.
    """
    known = {field.name: field.type for field in msgspec.structs.fields(Settings)}
    for table in raw:
        if table not in known:
            raise SettingsError(f"{where} has an unknown table [{table}]{nearest(table, [*known])}")
    tables = {**raw, "limits": with_preset(raw.get("limits", {}))}
    oidc = tables.pop("oidc", {})
    if not isinstance(oidc, dict):
        raise SettingsError(f"{where} [oidc] must be tables [oidc.NAME]")
    read = {
        name: convert(table, known[name], f"{where} [{name}]") for name, table in tables.items()
    }
    issuers = {name: convert(each, Oidc, f"{where} [oidc.{name}]") for name, each in oidc.items()}
    try:
        return Settings(**read, oidc=issuers)
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from error
