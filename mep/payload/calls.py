"""Arguments, results and exceptions of calls."""

import traceback
from typing import Any, Dict, List, Optional, Sequence, Tuple

from mep.payload import raw
from mep.payload.buffers import check_allowed, pack, unloadable, unpack
from mep.payload.data import RAW, cannot_dump, dump_data, load_data
from mep.payload.errors import PayloadError
from mep.payload.pickles import gathered
from mep.payload.raw import Piece


def form_of(payload: Piece) -> str:
    """The serializer to answer with: raw for who sent raw arguments, else what everybody reads."""
    return RAW if raw.is_raw(payload) else "00"


def dump_arguments(args: Sequence[Any], kwargs: Dict[str, Any], serializer: str = "00") -> bytes:
    """The payload of one call: packed ``[args, kwargs]``, or both in one raw payload.

    Raises:
        PayloadError: they cannot be serialized, or the serializer is unknown.
    """
    if serializer == RAW:
        return b"".join(_raw_pieces((tuple(args), kwargs)))
    return pack([dump_data(tuple(args), serializer), dump_data(kwargs, serializer)])


def load_arguments(
    payload: Piece, allowed: Sequence[str] = ()
) -> Tuple[Sequence[Any], Dict[str, Any]]:
    """Positional and keyword arguments of one call.

    Arrays in them may lie in the memory of `payload`, where that can be written to.

    Raises:
        PayloadError: they cannot be loaded, or by a serializer that is not `allowed`.
    """
    if raw.is_raw(payload):
        check_allowed(RAW, allowed, "arguments")
        both = _load_raw(payload)
        if type(both) is not tuple or len(both) != 2:
            raise PayloadError("raw arguments are a %s" % type(both).__name__)
        return both
    buffers = unpack(payload)
    if len(buffers) != 2:
        raise PayloadError("arguments are %d buffers, not 2" % len(buffers))
    for buffer in buffers:
        check_allowed(buffer[:2], allowed, "arguments")
    return load_data(buffers[0]), load_data(buffers[1])


def result_pieces(value: Any, serializers: Sequence[str] = ()) -> List[Piece]:
    """A result by the first serializer that takes the value: one packed buffer, or raw.

    In pieces, which may be memory of the value itself: they are to be written one after the other
    before anything is changed.

    Raises:
        PayloadError: no serializer takes it.
    """
    wanted = list(serializers) or ["00"]
    for serializer in wanted[:-1]:
        try:
            return _pieces(value, serializer)
        except PayloadError:
            continue
    return _pieces(value, wanted[-1])


def dump_result(value: Any, serializers: Sequence[str] = ()) -> bytes:
    """The same, as one."""
    return b"".join(result_pieces(value, serializers))


def load_result(payload: Piece) -> Any:
    """The value of a result: raw, packed (ours) or a bare buffer (Globus Compute's).

    Raises:
        PayloadError: it cannot be loaded.
    """
    if raw.is_raw(payload):
        return _load_raw(payload)
    if payload[2:3] == b"\n" and not bytes(payload[:2]).isdigit():
        return load_data(str(payload, "utf-8"))
    try:
        (buffer,) = unpack(payload)
    except (PayloadError, ValueError):
        return load_data(str(payload, "utf-8"))
    return load_data(buffer)


def dump_exception(error: BaseException, serializer: str = "00") -> Tuple[bytes, str]:
    """A remote exception: its payload (empty when it cannot be serialized) and its traceback.

    The traceback leaves out the frames of the machinery that called the function.
    """
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    bare = error.with_traceback(None)
    try:
        packed = dump_result(bare, [serializer])
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


def _pieces(value: Any, serializer: str) -> List[Piece]:
    return _raw_pieces(value) if serializer == RAW else [pack([dump_data(value, serializer)])]


def _raw_pieces(value: Any) -> List[Piece]:
    try:
        return gathered(value)
    except Exception as error:
        raise cannot_dump(value, error) from error


def _load_raw(payload: Piece) -> Any:
    try:
        return raw.loads(payload)
    except PayloadError:
        raise
    except Exception as error:
        raise unloadable("data", error) from error
