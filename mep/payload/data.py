"""Data buffers: arguments and results."""

import base64
import json
from typing import Any, Callable, Dict

from mep.payload.buffers import first_that_loads, load, pack, unpack
from mep.payload.errors import PayloadError
from mep.payload.pickles import dilled, gathered, undilled
from mep.payload.raw import loads

RAW = "rd"
"""Of raw payloads (:mod:`mep.payload.raw`), and of the buffers that spell them as text."""


def dump_data(value: Any, serializer: str = "00") -> str:
    """One data buffer.

    Args:
        value: anything that the serializer takes.
        serializer: ``00`` (dill), ``11`` (JSON), ``13`` (both) or ``rd`` (a raw payload as text).

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
        raise cannot_dump(value, error) from error


def cannot_dump(value: Any, error: Exception) -> PayloadError:
    """What to raise when `value` cannot be serialized."""
    return PayloadError("%s cannot be serialized: %s" % (type(value).__name__, error))


def load_data(buffer: str) -> Any:
    """The value in one data buffer. Executes what a pickle says: only where tasks run.

    Raises:
        PayloadError: unknown id, or a body that cannot be loaded.
    """
    return load(buffer, _DATA_READERS, "data")


_DATA_WRITERS: Dict[str, Callable[[Any], str]] = {
    "00": dilled,
    "11": json.dumps,
    "13": lambda value: pack(
        [part for part in (_try_data(value, "11"), _try_data(value, "00")) if part]
    ).decode(),
    RAW: lambda value: base64.b64encode(b"".join(gathered(value))).decode(),
}


def _try_data(value: Any, serializer: str) -> str:
    try:
        return dump_data(value, serializer)
    except PayloadError:
        return ""


_DATA_READERS: Dict[str, Callable[[str], Any]] = {
    "00": undilled,
    "11": json.loads,
    "13": lambda body: first_that_loads(unpack(body.encode()), _DATA_READERS, "data"),
    RAW: lambda body: loads(bytearray(base64.b64decode(body))),
}
