"""Strict decoding of configuration: a setting is declared once, as a field of a Struct.

The declaration carries type, default and description (``Annotated[..., Meta(description=...)]``);
unknown keys are refused with the nearest known one.
"""

import difflib
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

T = TypeVar("T")


class SettingsError(ValueError):
    """A configuration that cannot be used; the message is a sentence for its author."""


def convert(raw: Any, to: type[T], where: str) -> T:
    """`raw` (plain data from YAML or JSON) as an instance of the Struct `to`.

    `where` names the file or section in messages. ``a-b`` keys are not accepted for ``a_b``.

    Raises:
        SettingsError: an unknown key (with the nearest known one), a value that is none of those
            that there are (with these), a wrong type, a missing key.
    """
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise SettingsError(f"{where} must be a mapping of settings, not {type(raw).__name__}")
    _look_through(raw, to, where)
    try:
        return msgspec.convert(raw, to, strict=True)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{where}: {error}") from error


def _look_through(raw: dict[Any, Any], to: Any, where: str) -> None:
    """See whether all keys and all named values are known, in the sections within too."""
    kinds = {field.encode_name: field.type for field in msgspec.structs.fields(to)}
    for key, value in raw.items():
        if key not in kinds:
            raise SettingsError(
                f"{where} has an unknown setting {key!r}{nearest(str(key), [*kinds])}"
            )
        _look_at(value, [*_alternatives(kinds[key])], f"{where}.{key}")


def _look_at(value: Any, kinds: list[Any], where: str) -> None:
    sections = [kind for kind in kinds if _is_section(kind)]
    if isinstance(value, dict) and len(sections) == 1:
        _look_through(value, sections[0], where)
    names = [name for kind in kinds if get_origin(kind) is Literal for name in get_args(kind)]
    if names and isinstance(value, str) and value not in names and str not in kinds:
        known = ", ".join(str(name) for name in names if name is not None)
        raise SettingsError(f"{where} {value!r} is unknown; known here: {known}")


def _alternatives(kind: Any) -> Iterator[Any]:
    """The types that a type is a union of; itself, if it is none."""
    if get_origin(kind) is Annotated:
        yield from _alternatives(get_args(kind)[0])
    elif get_origin(kind) in (Union, types.UnionType):
        for each in get_args(kind):
            yield from _alternatives(each)
    else:
        yield kind


def _is_section(kind: Any) -> bool:
    is_struct = isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    return is_struct and kind.__struct_config__.forbid_unknown_fields


def nearest(word: str, known: list[str]) -> str:
    """A hint for the end of a sentence: the nearest known word, or all of them."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(sorted(known))}"
