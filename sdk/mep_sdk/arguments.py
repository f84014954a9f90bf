"""What users give an executor, checked when they give it."""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any


def positional_and_named(
    given: tuple[Any, ...], args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of `submit_to_registered_function`."""
    doubled = (given and args is not None) or (len(given) > 1 and kwargs is not None)
    if len(given) > 2 or doubled:
        raise TypeError("pass the arguments as one tuple: args=(...), kwargs={...}")
    if args is not None and not isinstance(args, (tuple, list)):
        raise TypeError(f"args= is the tuple of arguments, not a {type(args).__name__}")
    named = dict((given[1] if len(given) > 1 else kwargs) or {})
    if not given:
        return tuple(args or ()), named
    if given[0] is None:
        return (), named
    return given[0] if isinstance(given[0], tuple) else (given[0],), named


def json_object(value: Mapping[str, Any] | None, name: str) -> str:
    """The value as JSON text, which no later change of it can reach; empty for None.

    Raises:
        TypeError, ValueError: JSON cannot say it.
    """
    if value is None:
        return ""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is a dictionary, not a {type(value).__name__}")
    if not all(isinstance(key, str) for key in value):
        raise TypeError(f"the keys of {name} must be strings")
    try:
        return json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise type(error)(f"{name} must consist of what JSON can say: {error}") from error


def shown(text: str) -> Mapping[str, Any] | None:
    """What :func:`json_object` has read, for reading only."""
    return MappingProxyType(json.loads(text)) if text else None
