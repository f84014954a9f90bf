"""Buffers, ``id\\nbody``, and several of them packed as ``length\\nbuffer``."""

from typing import Any, Callable, Dict, List, Sequence

from mep.payload.errors import ForeignCode, PayloadError
from mep.payload.raw import Piece


def pack(buffers: Sequence[str]) -> bytes:
    """Several buffers as one."""
    return "".join("%d\n%s" % (len(buffer), buffer) for buffer in buffers).encode()


def unpack(packed: Piece) -> List[str]:
    """The buffers in `packed`.

    Raises:
        PayloadError: lengths that do not add up, or not UTF-8.
    """
    try:
        text = str(packed, "utf-8")
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


def load(buffer: str, readers: Dict[str, Callable[[str], Any]], what: str) -> Any:
    """What `buffer` holds, by the reader for its id.

    Raises:
        PayloadError: there is none, or it does not succeed.
    """
    identifier, newline, body = buffer[:2], buffer[2:3], buffer[3:]
    if newline != "\n" or identifier not in readers:
        raise PayloadError("unknown %s buffer %r" % (what, buffer[:3]))
    try:
        return readers[identifier](body)
    except PayloadError:
        raise
    except Exception as error:
        raise unloadable(what, error) from error


def unloadable(what: str, error: Exception) -> PayloadError:
    """What to raise when `what` cannot be loaded."""
    return PayloadError("%s cannot be loaded: %s: %s" % (what, type(error).__name__, error))


def first_that_loads(
    parts: Sequence[str], readers: Dict[str, Callable[[str], Any]], what: str
) -> Any:
    """What the first of several buffers holds that can be loaded.

    Raises:
        PayloadError: none can.
    """
    errors: List[PayloadError] = []
    for part in parts:
        try:
            return load(part, readers, what)
        except PayloadError as error:
            errors.append(error)
    foreign = any(isinstance(error, ForeignCode) for error in errors)
    reason = "; ".join(map(str, errors)) or "empty %s buffer" % what
    raise (ForeignCode if foreign else PayloadError)(reason)


def check_allowed(serializer: str, allowed: Sequence[str], what: str) -> None:
    """Refuse what was written by a serializer that is not among `allowed`; empty: all are.

    Raises:
        PayloadError: it is refused.
    """
    if allowed and serializer not in allowed:
        sentence = "the %s came by serializer %r, and the endpoint's configuration allows only %s"
        raise PayloadError(sentence % (what, serializer, ", ".join(allowed)))
