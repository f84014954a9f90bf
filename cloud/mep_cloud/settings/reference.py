"""Every setting for people: what ``mep-relay settings`` prints, from the declarations."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from mep_cloud.identity.settings import Oidc
from mep_cloud.settings.whole import Settings


@dataclass(frozen=True)
class Declared:
    """One setting, for people."""

    table: str
    name: str
    type: str
    default: Any
    value: Any
    description: str


def declared(settings: Settings) -> Iterator[Declared]:
    """Every setting, with its value in `settings`."""
    for table in msgspec.structs.fields(Settings):
        if table.name != "oidc":
            yield from _of_table(table.name, table.type, getattr(settings, table.name))
    for name, issuer in settings.oidc.items() or [("NAME", None)]:
        yield from _of_table(f"oidc.{name}", Oidc, issuer)


def _of_table(table: str, kind: type, section: Any) -> Iterator[Declared]:
    """The settings of one table; without a section, the defaults."""
    schema = msgspec.json.schema(kind)["$defs"][kind.__name__]
    for name, property_ in schema["properties"].items():
        default = property_.get("default")
        value = default if section is None else msgspec.to_builtins(getattr(section, name))
        description = property_.get("description", "")
        yield Declared(table, name, _type(property_), default, value, description)


def _type(schema: dict[str, Any]) -> str:
    """The type in a JSON schema, in a few words."""
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " | ".join(_type(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", "table"))
