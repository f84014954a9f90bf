"""Functions and arguments to the payloads of :mod:`mep.payload`."""

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from mep import payload
from mep.payload.raw import PROTOCOL, Gathered, Piece
from mep.wire import codes
from mep.wire.strategies import strategy_id
from mep_sdk.errors import SerializationError


@dataclass(frozen=True)
class Serializer:
    """How functions and data are written; ids or names of Globus Compute's strategies.

    Left empty, each value gets what suits it: a function its source where that says everything
    about it, else itself by value; data a pickle, with the user's own classes by value.
    """

    code: str = ""
    data: str = ""

    def __post_init__(self) -> None:
        for value in filter(None, (self.code, self.data)):
            strategy_id(value)

    def function(self, function: Callable[..., Any]) -> bytes:
        """The packed body of a function.

        Raises:
            SerializationError: it cannot be written; the message says why.
        """
        return dump_function(function, strategy_id(self.code) if self.code else "")

    def arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """The packed arguments of one call.

        Raises:
            SerializationError: something among them cannot be written.
        """
        data = strategy_id(self.data) if self.data else ""
        return dump_arguments(args, kwargs, data)


def dump_function(function: Callable[..., Any], serializer: str = "") -> bytes:
    """The packed body of a function; see :class:`Serializer` for the choice left open."""
    from mep_sdk.shell import ShellFunction

    try:
        if isinstance(function, ShellFunction):
            function = function.as_function()
        if serializer:
            return payload.dump_function(function, serializer)
        from mep_sdk.source import plain_source

        if (source := plain_source(function)) is not None:
            return payload.dump_source(function.__name__, source)
        from mep_sdk.by_value import dumps

        return payload.pack(["01\n" + dumps(function)])
    except Exception as error:
        name = getattr(function, "__name__", None) or type(function).__name__
        raise SerializationError(
            f"function {name} cannot be serialized: {error}", codes.SERIALIZATION_FAILED
        ) from error


def dump_arguments(args: Sequence[Any], kwargs: Mapping[str, Any], serializer: str = "") -> bytes:
    """The packed arguments of one call; a raw payload unless a serializer is asked for."""
    try:
        if serializer:
            return payload.dump_arguments(tuple(args), dict(kwargs), serializer)
        return b"".join(_raw((tuple(args), dict(kwargs))))
    except Exception as error:
        raise SerializationError(
            f"the arguments cannot be serialized: {error}", codes.SERIALIZATION_FAILED
        ) from error


class _UsersOwnError(Exception):
    """Something of the user's own is among the data: it goes by value."""


class _PlainPickler(pickle.Pickler):
    """The fast pickler of the standard library, as long as it meets only what is installed."""

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is FunctionType or issubclass(kind, type):
            from mep_sdk.by_value import is_users_own

            if is_users_own(obj.__module__):
                raise _UsersOwnError
        return NotImplemented


def _raw(value: Any) -> list[Piece]:
    """A pickle that every worker can load; by dill where that is needed."""
    file = Gathered()
    try:
        _PlainPickler(file, PROTOCOL, buffer_callback=file.out_of_band).dump(value)
        return file.pieces(dill=False)
    except Exception:  # noqa: BLE001 - dill takes more; what it refuses too is reported then
        from mep_sdk.by_value import gathered

        return gathered(value)
