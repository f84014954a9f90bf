"""The user's options against reserved words and the administrator's JSON Schema (2020-12)."""

import json
from typing import Any, Final

from mep.endpoint.errors import OptionsRefused, TemplateFailed
from mep.endpoint.template import quick

RESERVED_WORDS: Final = ("parent_config", "user_runtime", "mapped_identity", "_GC")
_SHOWN: Final = 200
"""Characters of a value or rule in a message."""


def check(options: Any, schema: Any) -> None:
    """Let `options` pass, or say what is wrong with them.

    Args:
        options: decoded ``user_endpoint_config``.
        schema: decoded ``user_config_schema.json``; None where there is none.

    Raises:
        OptionsRefused: reserved word, no object, or against the schema: JSON pointer, value, rule.
        TemplateFailed: the schema itself is not one.
    """
    if not isinstance(options, dict):
        raise OptionsRefused("user_endpoint_config must be an object of options")
    for word in RESERVED_WORDS:
        if word in options:
            raise OptionsRefused(f"user_endpoint_config sets {word!r}, which is a reserved word")
    if schema is None or quick.certainly_valid(options, schema):
        return
    _check_schema(options, schema)


def _check_schema(options: dict[str, Any], schema: Any) -> None:
    from jsonschema import Draft202012Validator, exceptions, validators
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    try:
        kind = validators.validator_for(schema, default=Draft202012Validator)
        kind.check_schema(schema)
        # A registry of its own: nothing that a schema refers to is fetched.
        found = exceptions.best_match(kind(schema, registry=Registry()).iter_errors(options))
    except (exceptions.SchemaError, Unresolvable, TypeError) as error:
        message = getattr(error, "message", str(error))
        raise TemplateFailed(f"the site's option schema is not valid: {message}") from error
    if found is not None:
        raise OptionsRefused(_sentence(found))


def _sentence(error: Any) -> str:
    """JSON pointer, value and rule of one violation."""
    rule = str(error.validator)
    path = list(error.absolute_path)
    if rule in {"additionalProperties", "unevaluatedProperties"}:
        known = sorted(error.schema.get("properties", {}))
        extra = [name for name in error.instance if name not in known]
        if len(extra) == 1:
            value = _short(error.instance[extra[0]])
            return (
                f"the option {_pointer([*path, extra[0]])} (value {value}) is not one that the "
                f"site's schema knows (rule {rule}); known here: {', '.join(known) or 'none'}"
            )
    if rule == "required":
        return f"user_endpoint_config at {_pointer(path)}: {error.message} (rule required)"
    return (
        f"the option {_pointer(path)} has the value {_short(error.instance)}, which the site's "
        f"schema does not allow (rule {rule}: {_short(error.validator_value)})"
    )


def _pointer(path: list[Any]) -> str:
    """RFC 6901; the whole document is written as ``/``."""
    parts = [str(part).replace("~", "~0").replace("/", "~1") for part in path]
    return "/" + "/".join(parts)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
