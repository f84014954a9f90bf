"""One call: from serialized function and arguments to an outcome. Whatever the function does.

Runs on Python 3.8 and newer; standard library, :mod:`mep.payload` and dill.
"""

import sys
import time
import traceback
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple, Union

from mep import payload
from mep.worker.keep import keep
from mep.worker.memory import address_space, readable

Outcome = Tuple[List[Any], payload.Piece]
"""The fields of one ``results`` item (see :mod:`mep.wire.frames`), and its payload."""

InPieces = Tuple[List[Any], Sequence[payload.Piece]]
"""The same, with the payload in pieces, which may be memory of what the function returned."""

Function = Union[Callable[..., Any], payload.PayloadError]
"""A function that is ready to call, or why it could not be loaded."""


class Terms(NamedTuple):
    """What holds for every task of a worker."""

    result: int
    """Bytes of a result's payload."""
    text: int
    """Characters of a traceback."""
    message: int
    """Characters of a sentence."""
    allowed: Sequence[str] = ()
    """Ids of the serializers that calls may use; empty: all."""
    keep: str = ""
    """Directory for results that are too large; empty: they are lost."""
    submitted: str = ""
    """Version of the Python that calls come from, as ``3.12.3``; empty: not known."""


class Call(NamedTuple):
    """One task as a worker sees it."""

    task_id: str
    function_id: str
    spec: Dict[str, Any]
    arguments: payload.Piece


def load(body: payload.Piece, terms: Terms) -> Function:
    """The function in `body`, or why there is none."""
    try:
        return payload.load_function(body, terms.allowed)
    except payload.PayloadError as error:
        return error
    except BaseException as error:  # noqa: BLE001 - loading runs module-level code of the user
        return payload.PayloadError("function cannot be loaded: %s" % one_line(error))


def run(call: Call, function: Function, terms: Terms) -> InPieces:
    """Run one task. Never raises: whatever the function does becomes an outcome."""
    began = time.time()
    if isinstance(function, payload.PayloadError):
        return failed(call, *unloadable(function, terms.submitted), began, terms)
    try:
        args, kwargs = payload.load_arguments(call.arguments, terms.allowed)
    except BaseException as error:  # noqa: BLE001 - unpickling runs code of the user
        return failed(call, *unloadable(error, terms.submitted), began, terms)
    try:
        value = function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - SystemExit of a function is its result
        return raised(call, error, began, terms)
    return returned(call, value, began, terms)


def returned(call: Call, value: Any, began: float, terms: Terms) -> InPieces:
    """The outcome of a function that returned `value`."""
    ended = time.time()
    try:
        pieces = payload.result_pieces(value, _serializers(call))
    except BaseException as error:  # noqa: BLE001 - pickling runs code of the user
        text = "The function returned a value that cannot be serialized: %s" % plain(error)
        return failed(call, "SERIALIZATION_FAILED", text, began, terms)
    size = sum(map(len, pieces))
    if size > terms.result:
        text = (
            "The result of type %s takes %d bytes serialized; at most %d are accepted. "
            "Return less, or write it to a file and return the path."
        ) % (type(value).__name__, size, terms.result)
        if terms.keep:
            text += " " + keep(terms.keep, call.task_id, pieces)
        return failed(call, "RESULT_TOO_LARGE", text, began, terms)
    return [call.task_id, "success", "", "", "", began, ended], pieces


def _serializers(call: Call) -> Sequence[str]:
    """Those that were asked for, else what suits who wrote the arguments."""
    wanted: Sequence[str] = call.spec.get("serializers", ())
    return wanted or (payload.form_of(call.arguments),)


def raised(call: Call, error: BaseException, began: float, terms: Terms) -> InPieces:
    """The outcome of a function that raised `error`; our own frame is not in its traceback."""
    ended = time.time()
    own = error.__traceback__
    error.__traceback__ = own.tb_next if own else None
    try:
        packed, text = payload.dump_exception(error, payload.form_of(call.arguments))
    except BaseException as second:  # noqa: BLE001 - __str__ of the exception is user code too
        packed, text = b"", "%s, which cannot be shown: %s" % (type(error).__name__, type(second))
    if len(packed) > terms.result:
        packed = b""
    message = printable(one_line(error))[: terms.message]
    text = printable(text)[-terms.text :]
    return [call.task_id, "failed", "USER_EXCEPTION", message, text, began, ended], [packed]


def failed(call: Call, code: str, message: str, began: float, terms: Terms) -> InPieces:
    """The outcome of a task that could not be run to its end."""
    message = printable(message)[: terms.message]
    return [call.task_id, "failed", code, message, "", began, time.time()], []


def one_line(error: BaseException) -> str:
    """``ZeroDivisionError: division by zero``."""
    limit = memory_limit() if isinstance(error, MemoryError) else ""
    try:
        return "".join(traceback.format_exception_only(type(error), error)).strip() + limit
    except BaseException:  # noqa: BLE001 - __str__ of the exception is user code
        return type(error).__name__ + limit


def memory_limit() -> str:
    """What a MemoryError does not say."""
    size = address_space()
    if size is None:
        return ""
    return (
        " (a worker may have %s of address space, by ulimit -v; use less at once or have the limit "
        "raised)"
    ) % readable(size)


def printable(text: str) -> str:
    """`text` without lone surrogates, which names of files may bring and no encoding takes."""
    return text.encode("utf-8", "backslashreplace").decode()


def plain(error: BaseException) -> str:
    """Our own errors are sentences; others need their type."""
    return str(error) if isinstance(error, payload.PayloadError) else one_line(error)


_OWN = "%d.%d.%d" % sys.version_info[:3]
_FOREIGN_SIGNS = ("code()", "marshal", "code expected", "unknown opcode")
"""In the text of an error: no Python but another version's makes such a pickle."""
_SIGNS_BETWEEN_VERSIONS = ("SyntaxError", "is not a package", "Can't get attribute")
"""The same, where the versions are known to differ."""


def unloadable(error: BaseException, submitted: str) -> Tuple[str, str]:
    """Code and sentence for a function or arguments that cannot be loaded, and what to do."""
    reason = plain(error).rstrip(".")
    if _is_mismatch(error, reason, submitted):
        return "ENVIRONMENT_MISMATCH", mismatch(reason, submitted)
    sentence = "The worker (Python %s) could not load the call: %s." % (_OWN, reason)
    if "No module named" in reason:
        sentence += " Install that module where the workers run, or import it elsewhere."
    return "DESERIALIZATION_FAILED", sentence


def _is_mismatch(error: BaseException, reason: str, submitted: str) -> bool:
    if isinstance(error, payload.ForeignCode) or any(sign in reason for sign in _FOREIGN_SIGNS):
        return True
    differ = bool(submitted) and minor(submitted) != minor(_OWN)
    return differ and any(sign in reason for sign in _SIGNS_BETWEEN_VERSIONS)


def mismatch(reason: str, submitted: str) -> str:
    """The sentence about two Pythons that do not understand each other."""
    if submitted and minor(submitted) != minor(_OWN):
        where = "The call was submitted with Python %s, but the worker has Python %s" % (
            submitted,
            _OWN,
        )
        ask = "choose an environment with Python %s for the workers" % minor(submitted)
    else:
        where = "The function is of another Python version than the worker's %s" % _OWN
        ask = "register it again from Python %s" % minor(_OWN)
    return (
        "%s, which cannot load it (%s). Submit from Python %s, %s, "
        "or register the function as source code (register_source_code)."
    ) % (where, reason, minor(_OWN), ask)


def minor(version: str) -> str:
    """``3.12`` of ``3.12.3``."""
    return ".".join(version.split(".")[:2])
