"""Simple schemas without importing jsonschema (60 ms of a cold start).

Says only "certainly valid" or "cannot tell": a schema or value out of the ordinary, and every
refusal, is left to jsonschema. A property test holds the two together.
"""

import re
from collections.abc import Callable
from typing import Any, Final

_NOTES: Final = frozenset({"title", "description", "default", "examples", "$comment", "$id"})
_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"


def certainly_valid(value: Any, schema: Any) -> bool:
    """Whether `value` follows `schema` beyond doubt."""
    if schema is True:
        return True
    if not isinstance(schema, dict):
        return False
    return all(_follows(value, rule, wanted, schema) for rule, wanted in schema.items())


def _follows(value: Any, rule: str, wanted: Any, schema: dict[str, Any]) -> bool:
    if rule in _NOTES:
        return True
    if rule == "$schema":
        return bool(wanted == _DRAFT)
    if rule == "additionalProperties":
        return _additional(value, wanted, schema.get("properties", {}))
    check = _RULES.get(rule)
    return check is not None and check(value, wanted)


def _type(value: Any, wanted: Any) -> bool:
    kind = _TYPES.get(wanted) if isinstance(wanted, str) else None
    return (
        kind is not None and isinstance(value, kind) and isinstance(value, bool) <= (kind is bool)
    )


_TYPES: Final[dict[str, Any]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": int | float,
    "boolean": bool,
    "null": type(None),
}


def _properties(value: Any, wanted: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(wanted, dict):
        return False
    if not all(isinstance(schema, dict | bool) for schema in wanted.values()):
        return False
    return all(certainly_valid(value[name], wanted[name]) for name in value if name in wanted)


def _additional(value: Any, wanted: Any, properties: Any) -> bool:
    if wanted is True:
        return True
    if wanted is not False or not isinstance(value, dict) or not isinstance(properties, dict):
        return False
    return all(name in properties for name in value)


def _required(value: Any, wanted: Any) -> bool:
    return isinstance(value, dict) and isinstance(wanted, list) and all(n in value for n in wanted)


def _enum(value: Any, wanted: Any) -> bool:
    return isinstance(value, str) and isinstance(wanted, list) and value in wanted


def _items(value: Any, wanted: Any) -> bool:
    return isinstance(value, list) and all(certainly_valid(item, wanted) for item in value)


def _length(holds: Callable[[int, int], bool]) -> Callable[[Any, Any], bool]:
    return lambda value, wanted: (
        isinstance(value, str) and type(wanted) is int and wanted >= 0 and holds(len(value), wanted)
    )


def _bound(holds: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda value, wanted: type(value) is int and type(wanted) is int and holds(value, wanted)


def _pattern(value: Any, wanted: Any) -> bool:
    if not isinstance(value, str) or not isinstance(wanted, str):
        return False
    try:
        return re.search(wanted, value) is not None
    except re.error:
        return False


_RULES: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "type": _type,
    "properties": _properties,
    "required": _required,
    "enum": _enum,
    "items": _items,
    "minLength": _length(lambda n, bound: n >= bound),
    "maxLength": _length(lambda n, bound: n <= bound),
    "minimum": _bound(lambda value, bound: value >= bound),
    "maximum": _bound(lambda value, bound: value <= bound),
    "pattern": _pattern,
}
