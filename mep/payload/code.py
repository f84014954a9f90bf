"""Code buffers: functions."""

import base64
import inspect
import linecache
import pickle
import zlib
from typing import Any, Callable, Dict, List, Sequence, Tuple

from mep.bytecode import is_foreign
from mep.payload.buffers import check_allowed, first_that_loads, load, pack, unpack
from mep.payload.errors import ForeignCode, PayloadError
from mep.payload.pickles import dilled, undilled
from mep.payload.raw import Piece


def dump_function(function: Callable[..., Any], serializer: str = "") -> bytes:
    """The packed body of a function.

    Without a serializer: dill, which writes a function of an importable module by reference. The
    SDK chooses better (:mod:`mep_sdk.serialize`); workers write no functions.

    Raises:
        PayloadError: no strategy takes the function, or the serializer is unknown.
    """
    return pack([_dump_code(function, serializer or "01")])


def dump_source(name: str, source: str) -> bytes:
    """The packed body of a function given as source text; module-level code runs once a worker."""
    return pack(["st\n%s:%s" % (name, source)])


def load_function(body: Piece, allowed: Sequence[str] = ()) -> Callable[..., Any]:
    """The function in a packed body.

    Args:
        body: one packed buffer.
        allowed: ids of the serializers to accept; empty: all.

    Raises:
        ForeignCode: it is another Python version's.
        PayloadError: unknown or refused id, or code that cannot be loaded; the message says why.
    """
    buffers = unpack(body)
    if len(buffers) != 1:
        raise PayloadError("a function is %d buffers, not 1" % len(buffers))
    check_allowed(buffers[0][:2], allowed, "function")
    function = load(buffers[0], _CODE_READERS, "function")
    if not callable(function):
        raise PayloadError("the registered function is a %s" % type(function).__name__)
    return function  # type: ignore[no-any-return]


def _dump_code(function: Callable[..., Any], serializer: str) -> str:
    try:
        write = _CODE_WRITERS[serializer]
    except KeyError:
        raise PayloadError("unknown code serializer %r" % serializer) from None
    try:
        return "%s\n%s" % (serializer, write(function))
    except Exception as error:
        name = getattr(function, "__name__", type(function).__name__)
        raise PayloadError("function %s cannot be serialized: %s" % (name, error)) from error


def _own_code(function: Any) -> Any:
    if is_foreign(function):
        raise ForeignCode("its bytecode is another Python version's")
    return function


def _inspected(function: Callable[..., Any]) -> Tuple[str, str]:
    return function.__name__, inspect.getsource(function)


def _dill_source(function: Callable[..., Any]) -> Tuple[str, str]:
    import dill.source

    return function.__name__, dill.source.getsource(function, lstrip=True)


def _define(name: str, source: str) -> Any:
    namespace: Dict[str, Any] = {"__name__": "__mep_function__"}
    filename = "<function %s %08x>" % (name, zlib.crc32(source.encode()))
    # Where tracebacks look for lines: users find their own in the text of a remote exception.
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    exec(compile(source, filename, "exec"), namespace)
    return namespace[name]


def _combined(body: str) -> List[str]:
    """Parts of a ``10`` buffer: ``id\\n:body:id\\n:body``; a body may hold colons of its own."""
    parts = body.split(":")
    buffers: List[str] = []
    for piece in parts:
        if len(piece) == 3 and piece[2] == "\n" and piece[:2] in _CODE_READERS:
            buffers.append(piece)
        elif buffers:
            joint = "" if len(buffers[-1]) == 3 else ":"
            buffers[-1] += joint + piece
    return buffers


def _all_code(function: Callable[..., Any]) -> str:
    parts = []
    for serializer in ("st", "sd", "01"):
        try:
            parts.append(_dump_code(function, serializer))
        except PayloadError:
            continue
    if not parts:
        raise PayloadError("neither its source nor dill could be used")
    return pack(parts).decode()


_CODE_WRITERS: Dict[str, Callable[[Callable[..., Any]], str]] = {
    "01": dilled,
    "03": lambda function: dilled(_inspected(function)),
    "04": lambda function: dilled(_dill_source(function)),
    "12": _all_code,
    "st": lambda function: ":".join(_inspected(function)),
    "sd": lambda function: ":".join(_dill_source(function)),
}

_CODE_READERS: Dict[str, Callable[[str], Any]] = {
    "01": lambda body: _own_code(undilled(body)),
    "02": lambda body: _own_code(pickle.loads(base64.b64decode(body))),
    "03": lambda body: _define(*undilled(body)),
    "04": lambda body: _define(*undilled(body)),
    "10": lambda body: first_that_loads(_combined(body), _CODE_READERS, "function"),
    "12": lambda body: first_that_loads(unpack(body.encode()), _CODE_READERS, "function"),
    "st": lambda body: _define(*body.split(":", 1)),
    "sd": lambda body: _define(*body.split(":", 1)),
}
