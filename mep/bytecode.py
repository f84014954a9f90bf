"""Whether this Python can run the code of a function that came by value.

A pickled code object carries no version, and loading one from another version mostly succeeds; what
it does when it is called is anybody's guess. So its instructions are looked at before.
Runs on Python 3.8 and newer; standard library only.
"""

import opcode
import sys
from types import CodeType, FunctionType
from typing import Any, Dict, Iterator, List, Union

_HAS_CACHES = sys.version_info >= (3, 11)
_BEFORE_RESUME = ("CACHE", "COPY_FREE_VARS", "MAKE_CELL", "RETURN_GENERATOR", "POP_TOP")


def is_foreign(function: Any) -> bool:
    """Whether `function`, or a function within it, has instructions that this Python has not."""
    if not isinstance(function, FunctionType):
        return False
    return any(not _fits(code) for code in _codes(function.__code__))


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _fits(code: CodeType) -> bool:
    """Every instruction is known, has the room behind it that it needs, and RESUME comes first."""
    words = code.co_code
    names = []
    at = 0
    while at < len(words):
        operation = words[at]
        end = at + 2 + 2 * _CACHES.get(operation, 0)
        if operation not in _KNOWN or end > len(words) or any(words[at + 2 : end]):
            return False
        names.append(opcode.opname[operation])
        at = end
    first = next((name for name in names if name not in _BEFORE_RESUME), "")
    return first == "RESUME" or not _HAS_CACHES


def _caches() -> Dict[int, int]:
    """Words that follow an instruction, empty in a fresh code object; by its number."""
    table: Union[Dict[str, int], List[int]] = getattr(opcode, "_inline_cache_entries", {})
    if isinstance(table, dict):  # Python 3.13
        return {opcode.opmap[name]: words for name, words in table.items() if name in opcode.opmap}
    return dict(enumerate(table))


_KNOWN = {number for name, number in opcode.opmap.items() if name != "CACHE"}
_CACHES = _caches()
