"""Pickles as dill writes and reads them, and faster where the data is built-in."""

import binascii
import io
import pickle
from typing import Any, List

from mep.payload.raw import PROTOCOL, Gathered, Piece


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


def dilled(value: Any) -> str:
    """As dill would write it, in base64.

    Raises:
        Exception: whatever the objects in it raise when they are pickled.
    """
    file = io.BytesIO()
    try:
        _PlainPickler(file, pickle.DEFAULT_PROTOCOL).dump(value)
        pickled = file.getvalue()
    except (_NotPlain, RecursionError):
        import dill

        pickled = dill.dumps(value)
    return binascii.b2a_base64(pickled).decode()


def undilled(body: str) -> Any:
    """What :func:`dilled` wrote, or dill.

    Raises:
        Exception: whatever the objects in it raise when they are made.
    """
    pickled = binascii.a2b_base64(body)
    try:
        return _PlainUnpickler(io.BytesIO(pickled)).load()
    except _NotPlain:
        import dill

        return dill.loads(pickled)


def gathered(value: Any) -> List[Piece]:
    """The pieces of a raw payload, to be written before anything in `value` is changed.

    Raises:
        Exception: whatever the objects in it raise when they are pickled.
    """
    file = Gathered()
    try:
        _PlainPickler(file, PROTOCOL, buffer_callback=file.out_of_band).dump(value)
        return file.pieces(dill=False)
    except (_NotPlain, RecursionError):
        import dill

    file = Gathered()
    dill.Pickler(file, PROTOCOL, buffer_callback=file.out_of_band).dump(value)
    return file.pieces(dill=True)
