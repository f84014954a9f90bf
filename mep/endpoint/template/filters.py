"""Jinja's filters on sealed text.

A filter works on the native text and its result is sealed again; filters that only pass items on
(``list``, ``sort``, ``map``...) work as they are; ``indent`` and ``join`` keep tokens in place, so
that what a template wrote around a user's value stays the template's.
"""

import functools
import json
import shlex
from collections.abc import Callable
from typing import Any, Final

from jinja2 import filters as builtin

from mep.endpoint.template.sealed import Sealed, Spelling, Vault, unseal

Filter = Callable[..., Any]

_PASS_ITEMS: Final = (
    *("attr", "batch", "count", "d", "default", "dictsort", "first", "groupby", "items"),
    *("join", "last", "length", "list", "map", "max", "min", "random", "reject", "rejectattr"),
    *("reverse", "safe", "select", "selectattr", "slice", "sort", "string", "sum", "unique"),
)
_ON_TEXT: Final = (
    *("abs", "capitalize", "center", "e", "escape", "filesizeformat", "float", "forceescape"),
    *("int", "lower", "pprint", "replace", "round", "striptags", "title", "truncate"),
    *("upper", "urlencode", "urlize", "wordcount", "wordwrap", "xmlattr"),
)
CONCATENATE: Final = "_concatenate"
"""What ``~`` compiles to."""
SEARCHABLE: Final = "_searchable"
"""What the right side of ``in`` passes through."""


class _Text:
    """A template's own text on the right side of ``in``: finds native text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __contains__(self, part: object) -> bool:
        return isinstance(part, str) and unseal(part) in self._text


def for_vault(vault: Vault) -> dict[str, Filter]:
    """All filters of one rendering, by name."""
    made: dict[str, Filter] = {}
    for name in _PASS_ITEMS:
        made[name] = _passing(builtin.FILTERS[name], vault)
    for name in _ON_TEXT:
        made[name] = _on_text(builtin.FILTERS[name], vault)
    made["indent"] = _on_tokens(builtin.FILTERS["indent"], vault)
    made["trim"] = _trim(builtin.FILTERS["trim"], vault)
    made["format"] = functools.partial(printf, vault)
    made["tojson"] = lambda value: vault.seal(plain(value), Spelling.WORD)
    made["shell_escape"] = functools.partial(shell_escape, vault)
    made[CONCATENATE] = lambda parts: vault.lift("".join(map(str, parts)))
    made[SEARCHABLE] = _searchable
    return made


def _searchable(value: Any) -> Any:
    return _Text(value) if isinstance(value, str) and not isinstance(value, Sealed) else value


def _passing(function: Filter, vault: Vault) -> Filter:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return vault.lift(function(*map(vault.lift, args), **kwargs))

    return wrapped


def _on_tokens(function: Filter, vault: Vault) -> Filter:
    @functools.wraps(function)
    def wrapped(value: Any, *args: Any, **kwargs: Any) -> Any:
        tokens = str(value) if isinstance(value, Sealed) else value
        return vault.lift(function(tokens, *unseal(args), **unseal(kwargs)))

    return wrapped


def _trim(function: Filter, vault: Vault) -> Filter:
    """A user's value is trimmed itself; around several, only what the template wrote is."""
    on_tokens, on_text = _on_tokens(function, vault), _on_text(function, vault)

    @functools.wraps(function)
    def wrapped(value: Any, *args: Any, **kwargs: Any) -> Any:
        value = vault.lift(value)
        mixed = isinstance(value, Sealed) and value._only is None
        return (on_tokens if mixed else on_text)(value, *args, **kwargs)

    return wrapped


def _on_text(function: Filter, vault: Vault) -> Filter:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        args = tuple(map(vault.lift, args))
        sealed = next((arg for arg in (*args, *kwargs.values()) if isinstance(arg, Sealed)), None)
        if sealed is None:
            return function(*args, **kwargs)
        native = unseal(args)
        result = function(*native, **unseal(kwargs))
        if isinstance(result, str):
            result = str(result)  # Markup has escaping of its own
        return sealed._again(result, unquoted='"' in native[1:])

    return wrapped


def printf(vault: Vault, template: str, *args: Any, **kwargs: Any) -> Sealed:
    """``template % values``; always sealed, because ``%c`` makes characters out of numbers."""
    return sealed_text(vault, unseal(template) % unseal(kwargs or args), template, args, kwargs)


def sealed_text(vault: Vault, text: str, *made_of: Any) -> Sealed:
    """Seal formatted text: it stays a string if a user's text is in it."""
    return vault.seal(text, Spelling.BARE if _holds_sealed(made_of) else Spelling.SCALAR)


def _holds_sealed(value: Any) -> bool:
    match value:
        case Sealed():
            return True
        case list() | tuple():
            return any(map(_holds_sealed, value))
        case dict():
            return any(map(_holds_sealed, value.items()))
    return False


def shell_escape(vault: Vault, value: Any) -> Any:
    """A string as one word of a shell; anything else as it is (as in Globus Compute)."""
    value = vault.lift(value)
    if not isinstance(value, str):
        return value
    quoted = shlex.quote(unseal(value))
    return vault.seal(quoted, Spelling.BARE) if isinstance(value, Sealed) else quoted


def plain(value: Any) -> Any:
    """Unsealed plain data.

    Raises:
        TypeError: something that is no YAML value.
    """
    value = unseal(value)
    json.dumps(value)
    return value
