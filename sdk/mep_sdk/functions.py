"""Functions that an executor has seen: each is serialized once, and registered once.

By identity: a function whose globals or closure change later keeps the values of its first submit.
"""

import hashlib
import inspect
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mep.wire.rest import FUNCTION_DESCRIPTION
from mep_sdk.serialize import Serializer


@dataclass
class Known:
    """A function on its way to an id, or one that has it."""

    body: bytes = b""
    name: str = ""
    description: str | None = None
    function_id: str = ""
    """Empty until it is registered."""

    @property
    def digest(self) -> bytes:
        """The same for two functions that cannot be told apart once serialized."""
        return hashlib.sha256(self.name.encode() + b"\0" + self.body).digest()


def known(function: Callable[..., Any], serializer: Serializer) -> Known:
    """The function, serialized.

    Raises:
        SerializationError: it cannot be.
    """
    name = getattr(function, "__name__", None) or type(function).__name__
    text = (inspect.getdoc(function) or "")[:FUNCTION_DESCRIPTION]
    return Known(serializer.function(function), name, text or None)


class Functions:
    """What one executor knows, by identity of the function object."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Callable[[], Any], Known]] = {}

    def get(self, function: Callable[..., Any]) -> Known | None:
        """What is known of this very object."""
        found = self._kept.get(id(function))
        return found[1] if found is not None and found[0]() is function else None

    def keep(self, function: Callable[..., Any], value: Known) -> Known:
        """Remember it as long as the function lives."""
        key = id(function)
        try:
            reference: Callable[[], Any] = weakref.ref(function, lambda _: self._drop(key))
        except TypeError:  # an object without weak references cannot be told when it is gone
            return value
        self._kept[key] = (reference, value)
        return value

    def forget_bodies(self) -> None:
        """Forget all but ids: what was serialized is to be written in another way."""
        self._kept = {key: held for key, held in self._kept.items() if not held[1].body}

    def _drop(self, key: int) -> None:
        held = self._kept.get(key)
        if held is not None and held[0]() is None:
            del self._kept[key]
