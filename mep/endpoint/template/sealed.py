"""Values as tokens: what a user wrote never stands in a template's output.

A sealed string *contains* a token (private-use characters, which a template may not use itself)
and *behaves* like the text it stands for: comparisons, ``in``, ``len``, slices and methods are the
text's own, and what they return is sealed again. Whatever reads the characters themselves, in C or
in a filter nobody thought of, sees the token: it fails closed. A token that was cut or altered on
the way is noticed when the document is read (:class:`Mangled`).
"""

import enum
import json
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, SupportsIndex

_OPEN: Final = "\uf8f0"
_CLOSE: Final = "\uf8f1"
_ZERO: Final = 0xF8E0
_TOKEN: Final = re.compile(f"{_OPEN}([\uf8e0-\uf8e9]+){_CLOSE}")
RESERVED: Final = re.compile("[\uf8e0-\uf8e9\uf8f0\uf8f1]")
"""Characters that tokens are made of; templates may not contain them."""


class Mangled(ValueError):
    """A template changed text that holds a user's value in a way that cannot be followed."""

    def __init__(self) -> None:
        super().__init__("it cuts or alters text that holds a user's value")


class Spelling(enum.Enum):
    """How a value is written where it is part of a longer text in a block scalar."""

    WORD = "word"
    """As one word of a shell: in double quotes, as JSON, where that is needed. Users' options."""
    BARE = "bare"
    """As it is."""
    SCALAR = "scalar"
    """As it is; and an unquoted YAML scalar of it alone is typed as YAML would type it."""


@dataclass(frozen=True)
class Entry:
    """What one token stands for: text, or a list or dict of plain data."""

    value: Any
    spelling: Spelling

    @property
    def text(self) -> str:
        """The value as part of a longer text."""
        return self.value if isinstance(self.value, str) else json.dumps(self.value)


class Vault:
    """The tokens of one rendering."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def seal(self, value: Any, spelling: Spelling) -> "Sealed":
        """A token for text or plain data."""
        digits = "".join(chr(_ZERO + int(digit)) for digit in str(len(self._entries)))
        self._entries.append(Entry(value, spelling))
        return Sealed(f"{_OPEN}{digits}{_CLOSE}", self)

    def seal_all(self, value: Any, spelling: Spelling) -> Any:
        """`value` with every string in it sealed, keys too."""
        match value:
            case Sealed():
                return value
            case str():
                return self.seal(value, spelling)
            case list():
                return [self.seal_all(item, spelling) for item in value]
            case tuple():
                return tuple(self.seal_all(item, spelling) for item in value)
            case dict():
                return {
                    self.seal_all(key, spelling): self.seal_all(item, spelling)
                    for key, item in value.items()
                }
        return value

    def lift(self, value: Any) -> Any:
        """Text that contains tokens becomes sealed again; anything else is returned as it is."""
        if isinstance(value, str) and not isinstance(value, Sealed) and _OPEN in value:
            return Sealed(str(value), self)
        return value

    def split(self, text: str) -> list[str | Entry]:
        """The template's own text and the tokens' entries, in order.

        Raises:
            Mangled: part of a token remains.
        """
        pieces: list[str | Entry] = []
        for at, piece in enumerate(_TOKEN.split(text)):
            if at % 2:
                number = int("".join(str(ord(digit) - _ZERO) for digit in piece))
                if number >= len(self._entries):
                    raise Mangled
                pieces.append(self._entries[number])
            elif RESERVED.search(piece):
                raise Mangled
            elif piece:
                pieces.append(piece)
        return pieces

    def text(self, tokens: str) -> str:
        """What the whole text stands for."""
        return "".join(
            piece if isinstance(piece, str) else piece.text for piece in self.split(tokens)
        )


def unseal(value: Any) -> Any:
    """`value` with every sealed string in it replaced by the text it stands for."""
    match value:
        case Sealed():
            return value._native
        case list():
            return [unseal(item) for item in value]
        case tuple():
            return tuple(unseal(item) for item in value)
        case dict():
            return {unseal(key): unseal(item) for key, item in value.items()}
    return value


class Sealed(str):
    """A string whose characters are tokens and whose behaviour is the native text's."""

    _vault: Vault

    def __new__(cls, tokens: str, vault: Vault) -> "Sealed":
        """`tokens` is text of the template's own and tokens of `vault`."""
        self = super().__new__(cls, tokens)
        self._vault = vault
        return self

    @property
    def _native(self) -> str:
        return self._vault.text(str(self))

    @property
    def _only(self) -> Entry | None:
        """The entry, where this is exactly one token."""
        pieces = self._vault.split(str(self))
        return pieces[0] if len(pieces) == 1 and isinstance(pieces[0], Entry) else None

    def _again(self, result: Any, unquoted: bool = False) -> Any:
        """A result that derives from this text, sealed like it."""
        only = self._only
        spelling = only.spelling if only and not unquoted else Spelling.BARE
        return self._vault.seal_all(result, spelling)

    # Comparisons are native. Published templates for Globus Compute compare with the JSON spelling
    # (== '"test"'), since there an option *is* its JSON text.

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str):
            return NotImplemented
        native, text = self._native, unseal(other)
        if native == text:
            return True
        only = self._only
        return only is not None and only.spelling is Spelling.WORD and json.dumps(native) == text

    def __ne__(self, other: object) -> bool:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    def __hash__(self) -> int:
        return hash(self._native)

    def __lt__(self, other: str) -> bool:
        return self._native < str(unseal(other))

    def __le__(self, other: str) -> bool:
        return self._native <= str(unseal(other))

    def __gt__(self, other: str) -> bool:
        return self._native > str(unseal(other))

    def __ge__(self, other: str) -> bool:
        return self._native >= str(unseal(other))

    def __len__(self) -> int:
        return len(self._native)

    def __contains__(self, part: object) -> bool:
        return operator.contains(self._native, unseal(part))

    def __iter__(self) -> Iterator[str]:
        return iter([self._again(character) for character in self._native])

    def __getitem__(self, key: SupportsIndex | slice) -> Any:
        # [1:-1] is how published templates take the JSON quotes off.
        only = self._only
        if key == slice(1, -1) and only is not None and only.spelling is Spelling.WORD:
            return self._vault.seal(only.value, Spelling.BARE)
        return self._again(self._native[key])

    def __add__(self, other: str) -> "Sealed":
        return Sealed(str(self) + str(other), self._vault)

    def __radd__(self, other: str) -> "Sealed":
        return Sealed(str(other) + str(self), self._vault)

    def __mul__(self, times: SupportsIndex) -> "Sealed":
        return Sealed(str(self) * times, self._vault)

    __rmul__ = __mul__

    def __mod__(self, values: Any) -> Any:
        return self._again(self._native % unseal(values))

    def __format__(self, spec: str) -> Any:
        return self._again(format(self._native, unseal(spec))) if spec else self

    def __repr__(self) -> Any:
        return self._again(repr(self._native))

    def encode(self, *_: Any, **__: Any) -> bytes:
        """Bytes would not be sealed."""
        raise TypeError("a user's value cannot be encoded in a template")


def _native_method(name: str) -> Callable[..., Any]:
    def method(self: Sealed, *args: Any, **kwargs: Any) -> Any:
        native_args = unseal(args)
        result = getattr(self._native, name)(*native_args, **unseal(kwargs))
        # .strip('"') and .replace('"', "") take the JSON quotes off in published templates.
        return self._again(result, unquoted='"' in native_args)

    method.__name__ = name
    return method


_METHODS: Final[Sequence[str]] = (
    *("capitalize", "casefold", "center", "count", "endswith", "expandtabs", "find", "index"),
    *("isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower"),
    *("isnumeric", "isprintable", "isspace", "istitle", "isupper", "join", "ljust", "lower"),
    *("lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rjust"),
    *("rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase"),
    *("title", "translate", "upper", "zfill"),
)
for _name in _METHODS:
    setattr(Sealed, _name, _native_method(_name))
