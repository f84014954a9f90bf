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
rd    data: base64 of a raw payload; ours (:mod:`mep.payload.raw`)
st    code: ``name:source``, source by :mod:`inspect`
sd    code: ``name:source``, source by :mod:`dill.source`
====  ==========================================================================

Only the SDK and the worker import this package: everything between carries opaque bytes.
Runs on Python 3.8 and newer; standard library, :mod:`mep.bytecode` and dill (imported when first
needed).
"""

from mep.payload.buffers import pack, unpack
from mep.payload.calls import (
    dump_arguments,
    dump_exception,
    dump_result,
    form_of,
    load_arguments,
    load_exception,
    load_result,
    result_pieces,
)
from mep.payload.code import dump_function, dump_source, load_function
from mep.payload.data import RAW, dump_data, load_data
from mep.payload.errors import ForeignCode, PayloadError
from mep.payload.raw import Piece

__all__ = [
    "RAW",
    "ForeignCode",
    "PayloadError",
    "Piece",
    "dump_arguments",
    "dump_data",
    "dump_exception",
    "dump_function",
    "dump_result",
    "dump_source",
    "form_of",
    "load_arguments",
    "load_data",
    "load_exception",
    "load_function",
    "load_result",
    "pack",
    "result_pieces",
    "unpack",
]
