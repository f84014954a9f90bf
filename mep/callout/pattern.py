r"""The `match` expressions of identity mappings, in time linear in the text.

The subset of regular expressions that Globus Connect Server documents: ``.`` one character that
is no newline, ``?`` and ``*`` on what stands before them, ``|``, groups, and ``\`` before one of
``. ? * | ( ) \ "``. Everything else is literal. An expression matches the whole text or not.

Not Python's `re`: the text is what a user of an identity provider chose, and a backtracking matcher
can be made to run for hours. This one backtracks too, but never takes the same fork at the same
place twice, so its steps are bounded by forks times characters.
"""

from enum import Enum, auto
from typing import Final

_Saved = tuple[int, int, "_Saved"] | None
"""Group boundaries passed on the way: slot, place in the text, and those before."""

_FOLD: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
"""ASCII letters alone: to Unicode, the Kelvin sign is a k."""

ESCAPABLE: Final = '.?*|()\\"'


class PatternError(ValueError):
    """Not an expression of the subset."""


class _Op(Enum):
    CHARACTER = auto()
    """Take this one."""
    ANY = auto()
    """Take one that is no newline."""
    FORK = auto()
    """Go on behind; if that fails, so many steps further."""
    JUMP = auto()
    """Go on so many steps further."""
    SAVE = auto()
    """Remember the place as a boundary of a group."""


_Step = tuple[_Op, int]
_Code = list[_Step]


class Pattern:
    """A compiled expression; `groups` is how many it captures.

    Args:
        text: the expression.
        ignore_case: ASCII letters match in either case.
        literal: no character of `text` is special.

    Raises:
        PatternError: with what is wrong.
    """

    def __init__(self, text: str, *, ignore_case: bool = False, literal: bool = False) -> None:
        self._fold = _FOLD if ignore_case else {}
        self._rest = text.translate(self._fold)[::-1]
        self.groups = 0
        if literal:
            self._code: _Code = [(_Op.CHARACTER, ord(one)) for one in reversed(self._rest)]
            return
        try:
            self._code = self._alternatives()
        except RecursionError as error:
            raise PatternError("groups are nested too deeply") from error
        if self._rest:
            raise PatternError("a ) without its (")

    def match(self, text: str) -> list[str | None] | None:
        """What the groups captured of the whole of `text` (None: took no part), or None."""
        folded = [ord(one) for one in text.translate(self._fold)]
        tried: set[tuple[int, int]] = set()
        ways: list[tuple[int, int, _Saved]] = [(0, 0, None)]
        while ways:
            step, at, saved = ways.pop()
            if step == len(self._code):
                if at == len(text):
                    return self._captured(text, saved)
                continue
            op, value = self._code[step]
            match op:
                case _Op.CHARACTER | _Op.ANY:
                    taken = value if op is _Op.CHARACTER else None
                    if at < len(folded) and _takes(taken, folded[at]):
                        ways.append((step + 1, at + 1, saved))
                case _Op.FORK:
                    if (step, at) not in tried:
                        tried.add((step, at))
                        ways += [(step + value, at, saved), (step + 1, at, saved)]
                case _Op.JUMP:
                    ways.append((step + value, at, saved))
                case _Op.SAVE:
                    ways.append((step + 1, at, (value, at, saved)))
        return None

    def _captured(self, text: str, saved: _Saved) -> list[str | None]:
        found: dict[int, int] = {}
        while saved:
            slot, at, saved = saved
            found.setdefault(slot, at)  # of a repeated group, the last
        return [
            text[found[2 * n] : found[2 * n + 1]] if 2 * n + 1 in found else None
            for n in range(self.groups)
        ]

    # A recursive descent: alternatives of sequences of items.

    def _peek(self) -> str:
        return self._rest[-1:]

    def _take(self) -> str:
        one, self._rest = self._rest[-1:], self._rest[:-1]
        return one

    def _alternatives(self) -> _Code:
        branches = [self._sequence()]
        while self._peek() == "|":
            self._take()
            branches.append(self._sequence())
        code = branches.pop()
        while branches:
            first = branches.pop()
            code = [(_Op.FORK, len(first) + 2), *first, (_Op.JUMP, len(code) + 1), *code]
        return code

    def _sequence(self) -> _Code:
        code: _Code = []
        while self._peek() not in ("", "|", ")"):
            item = self._item()
            match self._peek():
                case "*":
                    self._take()
                    item = [(_Op.FORK, len(item) + 2), *item, (_Op.JUMP, -len(item) - 1)]
                case "?":
                    self._take()
                    item = [(_Op.FORK, len(item) + 1), *item]
            code += item
        return code

    def _item(self) -> _Code:
        match self._take():
            case "*" | "?" as repeat:
                raise PatternError(f"a {repeat} that has nothing to repeat, or follows another")
            case "(":
                return self._group()
            case ".":
                return [(_Op.ANY, 0)]
            case "\\":
                escaped = self._take()
                if not escaped or escaped not in ESCAPABLE:
                    raise PatternError(f"\\{escaped} is no escape; these can be: {ESCAPABLE}")
                return [(_Op.CHARACTER, ord(escaped))]
            case one:
                return [(_Op.CHARACTER, ord(one))]

    def _group(self) -> _Code:
        number = self.groups
        self.groups += 1
        body = self._alternatives()
        if self._take() != ")":
            raise PatternError("a ( without its )")
        return [(_Op.SAVE, 2 * number), *body, (_Op.SAVE, 2 * number + 1)]


def _takes(wanted: int | None, found: int) -> bool:
    return found != ord("\n") if wanted is None else found == wanted
