"""Raw payloads: a pickle as it is, and beside it the memory that objects hold, uncopied.

=========  ====================================================================================
bytes
=========  ====================================================================================
0          NUL, where Globus Compute's payloads have a digit or the id of a buffer
1          version of this layout
2-3        1: the pickle is dill's; 0: it needs pickle alone
4-7        count of buffers out of band, n
8-         length of the pickle, and of each of the n buffers, 8 bytes each
then       the pickle, and the buffers; each begins at a multiple of 16, filled up with NULs
=========  ====================================================================================

Numbers are little-endian. The pickle is of protocol 5; the buffers are what its objects gave away
(arrays do, see :pep:`574`), from 4 KiB on. Where only text can go, a raw payload is spelled as a
buffer of id ``rd``: base64 of all this (:func:`mep.wire.strategies.as_text`).
"""

import pickle
import struct
from typing import Any, List, Tuple, Union

from mep.payload.errors import PayloadError

Piece = Union[bytes, bytearray, memoryview]

MARK = b"\0"
"""How a raw payload begins."""
_VERSION = 1
PROTOCOL = 5
"""Of the pickle."""
_OUT_OF_BAND = 4096
_HEAD = struct.Struct("<BBHIQ")
"""Up to the length of the pickle."""
_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 16


class Gathered:
    """The file that a pickler of protocol 5 writes to; large pieces are kept, not copied."""

    def __init__(self) -> None:
        self._stream: List[Piece] = []
        self._buffers: List[memoryview] = []
        self.write = self._stream.append

    def out_of_band(self, buffer: pickle.PickleBuffer) -> bool:
        """The pickler's `buffer_callback`: whether this buffer goes into the pickle after all."""
        view = buffer.raw()
        # Of no more than one byte there is one object in all of Python: the pickler would take the
        # next such bytes for this buffer.
        if 1 < view.nbytes < _OUT_OF_BAND:
            return True
        self._buffers.append(view)
        return False

    def pieces(self, dill: bool) -> List[Piece]:
        """The payload, to be written one piece after the other before anything is changed."""
        length = sum(map(len, self._stream))
        head = _HEAD.pack(0, _VERSION, dill, len(self._buffers), length)
        if not self._buffers:
            return [head, *self._stream]
        lengths = [view.nbytes for view in self._buffers]
        head += b"".join(map(_LENGTH.pack, lengths))
        pieces = [head + _padding(len(head)), *self._stream]
        for before, view in zip([length, *lengths], self._buffers):  # noqa: B905 - Python 3.9
            pieces += [_padding(before), view]
        return pieces


def is_raw(payload: Piece) -> bool:
    """Whether it begins as raw payloads do."""
    return len(payload) > 0 and payload[0] == MARK[0]


def loads(payload: Piece) -> Any:
    """What a raw payload holds; where its memory can be written to, arrays lie in it.

    Raises:
        PayloadError: it is none, or cut off.
        Exception: whatever the objects in it raise when they are made.
    """
    view = memoryview(payload)
    dill, stream, buffers = _taken_apart(view)
    if buffers and view.readonly:  # arrays shall be as their owner had them: open to changes
        buffers = [bytearray(buffer) for buffer in buffers]
    if dill:
        from dill import Unpickler

        return Unpickler(_Reader(stream), buffers=buffers).load()
    return pickle.loads(stream, buffers=buffers)


class _Reader:
    """A file over memory that is not copied; what an unpickler needs of one."""

    def __init__(self, view: memoryview) -> None:
        self._view = view

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end."""
        data = bytes(self._view[:size])
        self._view = self._view[size:]
        return data

    def readinto(self, target: memoryview) -> int:
        """Fill `target` as far as there is something; how far."""
        piece = self._view[: len(target)]
        target[: len(piece)] = piece
        self._view = self._view[len(target) :]
        return len(piece)

    def readline(self) -> bytes:
        """Up to and with the next newline."""
        line, newline, _ = bytes(self._view).partition(b"\n")
        return self.read(len(line) + len(newline))


def _taken_apart(view: memoryview) -> Tuple[bool, memoryview, List[Piece]]:
    """Whether dill is needed, the pickle, and the buffers."""
    if len(view) < _HEAD.size:
        raise PayloadError("raw payload is truncated")
    mark, version, flags, count, length = _HEAD.unpack_from(view)
    if mark != MARK[0] or version != _VERSION or flags > 1:
        raise PayloadError("raw payload is of a newer version than this, which reads %d" % _VERSION)
    at = _HEAD.size + count * _LENGTH.size
    if not count and at + length == len(view):
        return bool(flags), view[at:], []
    if at > len(view):
        raise PayloadError("raw payload is truncated")
    lengths = [each for (each,) in _LENGTH.iter_unpack(view[_HEAD.size : at])] if count else []
    pieces: List[memoryview] = []
    for each in (length, *lengths):
        at += -at % _ALIGNMENT
        pieces.append(view[at : at + each])
        at += each
    if at != len(view):
        raise PayloadError("raw payload has %d bytes, and says that it has %d" % (len(view), at))
    stream, *buffers = pieces
    return bool(flags), stream, list(buffers)


def _padding(length: int) -> bytes:
    return bytes(-length % _ALIGNMENT)
