"""A bounded memory that pool and worker keep in step without telling each other.

Both touch the same keys in the same order, so both forget the same one: the pool knows which
functions a worker still has, and sends a body again only when it has been forgotten.
"""

from collections import OrderedDict
from typing import Generic, Optional, TypeVar

V = TypeVar("V")

FUNCTIONS = 512
"""Functions that a worker keeps ready to call."""


class Recent(Generic[V]):
    """The `bound` keys that were touched last, each with a value."""

    def __init__(self, bound: int = FUNCTIONS) -> None:
        self._bound = bound
        self._values: "OrderedDict[str, V]" = OrderedDict()

    def touch(self, key: str) -> Optional[V]:
        """The value of `key`, now the latest; None where it is not known (any more)."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: str, value: V) -> None:
        """Keep `value`, and forget what was touched longest ago if that is one too many."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._bound:
            self._values.popitem(last=False)
