"""Serialized functions, arguments, results and exceptions, in Globus Compute's buffer formats.

A buffer is a two-character id, a newline and a body; buffers are packed as ``length\\nbuffer``,
one after the other, length in characters. Facts as of globus-compute-sdk 4.19 (its
``serialize/concretes.py``), so that either SDK can call what the other registered:

====  ==========================================================================
id    body
====  ==========================================================================
00    data: base64 of ``dill.dumps``
11    data: JSON
13    data: several of the above, packed; the first that loads counts
01    code: base64 of ``dill.dumps`` of the function
02    code: base64 of a pickle; read, never written
03    code: base64 of ``dill.dumps((name, source))``, source by :mod:`inspect`
04    the same, source by :mod:`dill.source`
10    code: several as ``id\\n:body:id\\n:body``; read, never written
12    code: several, packed
st    code: ``name:source``, source by :mod:`inspect`
sd    code: ``name:source``, source by :mod:`dill.source`
====  ==========================================================================

Only the SDK and the worker import this module: everything between carries opaque bytes.
Runs on Python 3.8 and newer; standard library, :mod:`mep.bytecode` and dill (imported when first
needed).
"""

import base64
import binascii
import inspect
import io
import json
import linecache
import pickle
import traceback
import zlib
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from mep.bytecode import is_foreign


class PayloadError(Exception):
    """A buffer that cannot be written or read; the message says which and why."""


class ForeignCode(PayloadError):
    """A function whose code, taken by value, is another Python version's."""


def pack(buffers: Sequence[str]) -> bytes:
    """Several buffers as one."""
    return "".join("%d\n%s" % (len(buffer), buffer) for buffer in buffers).encode()


def unpack(packed: bytes) -> List[str]:
    """The buffers in `packed`.

    Raises:
        PayloadError: lengths that do not add up, or not UTF-8.
    """
    try:
        text = packed.decode()
    except UnicodeDecodeError as error:
        raise PayloadError("payload is not UTF-8") from error
    buffers = []
    at = 0
    while at < len(text):
        end = text.find("\n", at, at + 20)
        if end < 0 or not text[at:end].isdigit():
            raise PayloadError("payload does not begin with a length")
        start = end + 1
        at = start + int(text[at:end])
        if at > len(text):
            raise PayloadError("payload is truncated")
        buffers.append(text[start:at])
    return buffers


# --- data ---------------------------------------------------------------------------------------


def dump_data(value: Any, serializer: str = "00") -> str:
    """One data buffer.

    Args:
        value: anything that the serializer takes.
        serializer: ``00`` (dill), ``11`` (JSON) or ``13`` (both).

    Raises:
        PayloadError: the value cannot be serialized, or the serializer is unknown.
    """
    try:
        write = _DATA_WRITERS[serializer]
    except KeyError:
        raise PayloadError("unknown data serializer %r" % serializer) from None
    try:
        return "%s\n%s" % (serializer, write(value))
    except Exception as error:
        name = type(value).__name__
        raise PayloadError("%s cannot be serialized: %s" % (name, error)) from error


def load_data(buffer: str) -> Any:
    """The value in one data buffer. Executes what a pickle says: only where tasks run.

    Raises:
        PayloadError: unknown id, or a body that cannot be loaded.
    """
    return _load(buffer, _DATA_READERS, "data")


def dump_arguments(args: Sequence[Any], kwargs: Dict[str, Any], serializer: str = "00") -> bytes:
    """The payload of one call: packed ``[args, kwargs]``."""
    return pack([dump_data(tuple(args), serializer), dump_data(kwargs, serializer)])


def load_arguments(
    payload: bytes, allowed: Sequence[str] = ()
) -> Tuple[Sequence[Any], Dict[str, Any]]:
    """Positional and keyword arguments of one call.

    Raises:
        PayloadError: they cannot be loaded, or by a serializer that is not `allowed`.
    """
    buffers = unpack(payload)
    if len(buffers) != 2:
        raise PayloadError("arguments are %d buffers, not 2" % len(buffers))
    for buffer in buffers:
        _check_allowed(buffer, allowed, "arguments")
    return load_data(buffers[0]), load_data(buffers[1])


def dump_result(value: Any, serializers: Sequence[str] = ()) -> bytes:
    """A result: one packed data buffer, by the first serializer that takes the value."""
    wanted = list(serializers) or ["00"]
    for serializer in wanted[:-1]:
        try:
            return pack([dump_data(value, serializer)])
        except PayloadError:
            continue
    return pack([dump_data(value, wanted[-1])])


def load_result(payload: bytes) -> Any:
    """The value of a result, packed (ours) or a bare buffer (Globus Compute's)."""
    if payload[2:3] == b"\n" and not payload[:2].isdigit():
        return load_data(payload.decode())
    try:
        (buffer,) = unpack(payload)
    except (PayloadError, ValueError):
        return load_data(payload.decode())
    return load_data(buffer)


# --- exceptions ---------------------------------------------------------------------------------


def dump_exception(error: BaseException) -> Tuple[bytes, str]:
    """A remote exception: its packed form (empty when it cannot be serialized) and its traceback.

    The traceback leaves out the frames of the machinery that called the function.
    """
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    bare = error.with_traceback(None)
    try:
        packed = pack([dump_data(bare)])
        load_result(packed)
    except Exception:  # noqa: BLE001 - an exception class may do anything when it is copied
        packed = b""
    return packed, text


def load_exception(payload: bytes) -> Optional[BaseException]:
    """The exception of a failed task, or None where it could not be carried over."""
    if not payload:
        return None
    try:
        error = load_result(payload)
    except Exception:  # noqa: BLE001 - its class may not exist here; the caller has the text
        return None
    return error if isinstance(error, BaseException) else None


# --- code ---------------------------------------------------------------------------------------


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


def load_function(body: bytes, allowed: Sequence[str] = ()) -> Callable[..., Any]:
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
    _check_allowed(buffers[0], allowed, "function")
    function = _load(buffers[0], _CODE_READERS, "function")
    if not callable(function):
        raise PayloadError("the registered function is a %s" % type(function).__name__)
    return function  # type: ignore[no-any-return]


def _check_allowed(buffer: str, allowed: Sequence[str], what: str) -> None:
    if allowed and buffer[:2] not in allowed:
        sentence = "the %s came by serializer %r, and the endpoint's configuration allows only %s"
        raise PayloadError(sentence % (what, buffer[:2], ", ".join(allowed)))


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


def _load(buffer: str, readers: Dict[str, Callable[[str], Any]], what: str) -> Any:
    identifier, newline, body = buffer[:2], buffer[2:3], buffer[3:]
    if newline != "\n" or identifier not in readers:
        raise PayloadError("unknown %s buffer %r" % (what, buffer[:3]))
    try:
        return readers[identifier](body)
    except PayloadError:
        raise
    except Exception as error:
        reason = "%s: %s" % (type(error).__name__, error)
        raise PayloadError("%s cannot be loaded: %s" % (what, reason)) from error


class _NotPlain(Exception):
    """More than built-in data: dill's own ways are needed."""


class _PlainPickler(pickle.Pickler):
    """Writes built-in data as dill would, at the speed of C."""

    def reducer_override(self, obj: Any) -> Any:
        raise _NotPlain


class _PlainUnpickler(pickle.Unpickler):
    """Reads built-in data as dill would, at the speed of C."""

    def find_class(self, module: str, name: str) -> Any:
        raise _NotPlain


def _dill(value: Any) -> str:
    file = io.BytesIO()
    try:
        _PlainPickler(file, pickle.DEFAULT_PROTOCOL).dump(value)
        pickled = file.getvalue()
    except (_NotPlain, RecursionError):
        import dill

        pickled = dill.dumps(value)
    return binascii.b2a_base64(pickled).decode()


def _undill(body: str) -> Any:
    pickled = binascii.a2b_base64(body)
    try:
        return _PlainUnpickler(io.BytesIO(pickled)).load()
    except _NotPlain:
        import dill

        return dill.loads(pickled)


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


def _first_that_loads(
    parts: Sequence[str], readers: Dict[str, Callable[[str], Any]], what: str
) -> Any:
    errors: List[PayloadError] = []
    for part in parts:
        try:
            return _load(part, readers, what)
        except PayloadError as error:
            errors.append(error)
    foreign = any(isinstance(error, ForeignCode) for error in errors)
    reason = "; ".join(map(str, errors)) or "empty %s buffer" % what
    raise (ForeignCode if foreign else PayloadError)(reason)


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


_DATA_WRITERS: Dict[str, Callable[[Any], str]] = {
    "00": _dill,
    "11": json.dumps,
    "13": lambda value: pack(
        [part for part in (_try_data(value, "11"), _try_data(value, "00")) if part]
    ).decode(),
}


def _try_data(value: Any, serializer: str) -> str:
    try:
        return dump_data(value, serializer)
    except PayloadError:
        return ""


_DATA_READERS: Dict[str, Callable[[str], Any]] = {
    "00": _undill,
    "11": json.loads,
    "13": lambda body: _first_that_loads(unpack(body.encode()), _DATA_READERS, "data"),
}

_CODE_WRITERS: Dict[str, Callable[[Callable[..., Any]], str]] = {
    "01": _dill,
    "03": lambda function: _dill(_inspected(function)),
    "04": lambda function: _dill(_dill_source(function)),
    "12": _all_code,
    "st": lambda function: ":".join(_inspected(function)),
    "sd": lambda function: ":".join(_dill_source(function)),
}

_CODE_READERS: Dict[str, Callable[[str], Any]] = {
    "01": lambda body: _own_code(_undill(body)),
    "02": lambda body: _own_code(pickle.loads(base64.b64decode(body))),
    "03": lambda body: _define(*_undill(body)),
    "04": lambda body: _define(*_undill(body)),
    "10": lambda body: _first_that_loads(_combined(body), _CODE_READERS, "function"),
    "12": lambda body: _first_that_loads(unpack(body.encode()), _CODE_READERS, "function"),
    "st": lambda body: _define(*body.split(":", 1)),
    "sd": lambda body: _define(*body.split(":", 1)),
}
