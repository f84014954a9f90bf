"""Strict decoding of configuration: a setting is declared once, as a field of a Struct.

The declaration carries type, default and description (``Annotated[..., Meta(description=...)]``);
unknown keys are refused with the nearest known one.
"""

import difflib
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


class SettingsError(ValueError):
    """A configuration that cannot be used; the message is a sentence for its author."""


def convert(raw: Any, to: type[T], where: str) -> T:
    """`raw` (plain data from YAML or JSON) as an instance of the Struct `to`.

    `where` names the file or section in messages. ``a-b`` keys are not accepted for ``a_b``.

    Raises:
        SettingsError: an unknown key (with the nearest known one), a wrong type, a missing key.
    """
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise SettingsError(f"{where} must be a mapping of settings, not {type(raw).__name__}")
    known = [field.encode_name for field in msgspec.structs.fields(to)]  # type: ignore[arg-type]
    for key in raw:
        if key not in known:
            raise SettingsError(f"{where} has an unknown setting {key!r}{nearest(str(key), known)}")
    try:
        return msgspec.convert(raw, to, strict=True)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{where}: {error}") from error


def nearest(word: str, known: list[str]) -> str:
    """A hint for the end of a sentence: the nearest known word, or all of them."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(sorted(known))}"
