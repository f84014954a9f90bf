"""The worker: takes one task at a time from its channel, runs it, sends the result.

Nothing that a function does to its process may be taken for a result: a worker that cannot go on
ends, and the node pool reports how. Runs on Python 3.8 and newer; standard library,
:mod:`mep.payload` and dill.
"""

import fcntl
import os
import signal
import site
import socket
import sys
import time
import traceback
from typing import Any, Callable, Dict, List, NamedTuple, NoReturn, TextIO, Tuple, Union

from mep import payload
from mep.wire.frames import header
from mep.worker.channel import Channel
from mep.worker.recent import Recent

PROTOCOL_DESCRIPTOR = 200
"""The channel's descriptor is at least this: out of the way of code that closes low numbers."""

CANNOT_SPEAK = 71
"""Exit status of a worker whose channel a function has closed."""

Outcome = Tuple[List[Any], bytes]
"""The fields of one ``results`` item (see :mod:`mep.wire.frames`), and its payload."""

Function = Union[Callable[..., Any], payload.PayloadError]
"""A function that is ready to call, or why it could not be loaded."""


class Limits(NamedTuple):
    """What a result may hold."""

    result: int
    """Bytes of a payload."""
    text: int
    """Characters of a traceback."""
    message: int
    """Characters of a sentence."""


class Call(NamedTuple):
    """One task as a worker sees it."""

    task_id: str
    function_id: str
    spec: Dict[str, Any]
    arguments: bytes


def load(body: bytes) -> Function:
    """The function in `body`, or why there is none."""
    try:
        return payload.load_function(body)
    except payload.PayloadError as error:
        return error
    except BaseException as error:  # noqa: BLE001 - loading runs module-level code of the user
        return payload.PayloadError("function cannot be loaded: %s" % one_line(error))


def run(call: Call, function: Function, limits: Limits) -> Outcome:
    """Run one task. Never raises: whatever the function does becomes an outcome."""
    began = time.time()
    if isinstance(function, payload.PayloadError):
        return failed(call, "DESERIALIZATION_FAILED", unloadable(function), began, limits)
    try:
        args, kwargs = payload.load_arguments(call.arguments)
    except BaseException as error:  # noqa: BLE001 - unpickling runs code of the user
        text = unloadable(error)
        return failed(call, "DESERIALIZATION_FAILED", text, began, limits)
    try:
        value = function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - SystemExit of a function is its result
        return raised(call, error, began, limits)
    return returned(call, value, began, limits)


def returned(call: Call, value: Any, began: float, limits: Limits) -> Outcome:
    """The outcome of a function that returned `value`."""
    ended = time.time()
    try:
        packed = payload.dump_result(value, call.spec.get("serializers", ()))
    except BaseException as error:  # noqa: BLE001 - pickling runs code of the user
        text = "The function returned a value that cannot be serialized: %s" % plain(error)
        return failed(call, "SERIALIZATION_FAILED", text, began, limits)
    if len(packed) > limits.result:
        text = (
            "The result of type %s takes %d bytes serialized; at most %d are accepted. "
            "Return less, or write it to a file and return the path."
        ) % (type(value).__name__, len(packed), limits.result)
        return failed(call, "RESULT_TOO_LARGE", text, began, limits)
    return [call.task_id, "success", "", "", "", began, ended], packed


def raised(call: Call, error: BaseException, began: float, limits: Limits) -> Outcome:
    """The outcome of a function that raised `error`; our own frame is not in its traceback."""
    ended = time.time()
    own = error.__traceback__
    error.__traceback__ = own.tb_next if own else None
    try:
        packed, text = payload.dump_exception(error)
    except BaseException as second:  # noqa: BLE001 - __str__ of the exception is user code too
        packed, text = b"", "%s, which cannot be shown: %s" % (type(error).__name__, type(second))
    if len(packed) > limits.result:
        packed = b""
    message = printable(one_line(error))[: limits.message]
    text = printable(text)[-limits.text :]
    return [call.task_id, "failed", "USER_EXCEPTION", message, text, began, ended], packed


def failed(call: Call, code: str, message: str, began: float, limits: Limits) -> Outcome:
    """The outcome of a task that could not be run to its end."""
    message = printable(message)[: limits.message]
    return [call.task_id, "failed", code, message, "", began, time.time()], b""


def one_line(error: BaseException) -> str:
    """``ZeroDivisionError: division by zero``."""
    try:
        return "".join(traceback.format_exception_only(type(error), error)).strip()
    except BaseException:  # noqa: BLE001 - __str__ of the exception is user code
        return type(error).__name__


def printable(text: str) -> str:
    """`text` without lone surrogates, which names of files may bring and no encoding takes."""
    return text.encode("utf-8", "backslashreplace").decode()


def plain(error: BaseException) -> str:
    """Our own errors are sentences; others need their type."""
    return str(error) if isinstance(error, payload.PayloadError) else one_line(error)


def unloadable(error: BaseException) -> str:
    """Why a function or its arguments cannot be loaded, and what to do."""
    reason = plain(error)
    version = "%d.%d.%d" % sys.version_info[:3]
    sentence = "The worker (Python %s) could not load the call: %s." % (version, reason.rstrip("."))
    if "No module named" in reason:
        return sentence + " Install that module where the workers run, or import it elsewhere."
    if any(sign in reason for sign in ("code()", "marshal", "code expected", "unknown opcode")):
        return sentence + (
            " This is how a function from another Python version looks: submit from"
            " Python %d.%d, or register the function as source code." % sys.version_info[:2]
        )
    return sentence


# --- the process --------------------------------------------------------------------------------


def main(sock: socket.socket, log: int, settings: Dict[str, Any]) -> NoReturn:
    """The whole life of a worker process that has just been forked.

    Args:
        sock: this worker's end of the channel.
        log: descriptor that takes over 1 and 2.
        settings: ``directory`` to work in, and ``limits`` (see :class:`Limits`).
    """
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    log = _out_of_the_way(log)
    _stand_on(log)
    channel = Channel(socket.socket(fileno=_out_of_the_way(sock.detach())))
    channel.socket.setblocking(True)
    os.closerange(3, PROTOCOL_DESCRIPTOR)
    limits = Limits(**settings["limits"])
    try:
        _serve(channel, settings["directory"], limits, log)
    except OSError as error:
        message = "worker %d ends: its channel to the node pool is gone: %s\n" % (
            os.getpid(),
            error,
        )
        os.write(log, message.encode())
        os._exit(CANNOT_SPEAK)
    os._exit(0)


def _serve(channel: Channel, directory: str, limits: Limits, log: int) -> None:
    functions: Recent[Function] = Recent()
    missing = payload.PayloadError("its body did not reach the worker")
    pid = os.getpid()
    while True:
        message = channel.take()
        if message is None:
            if not channel.fill():
                return
            continue
        if message.kind == "function":
            functions.put(message.fields[0], load(message.payload))
            continue
        task_id, function_id, spec = message.fields
        call = Call(task_id, function_id, spec, message.payload)
        os.chdir(directory)
        os.environ["GC_TASK_UUID"] = call.task_id
        fields, result = run(call, functions.touch(call.function_id) or missing, limits)
        if os.getpid() != pid:
            os._exit(0)  # a child that the function forked came back here instead of ending
        channel.send(header("result", *fields), result)
        _mend(log)


def _out_of_the_way(descriptor: int) -> int:
    high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, PROTOCOL_DESCRIPTOR)
    os.close(descriptor)
    return high


def _stand_on(log: int) -> None:
    """Descriptors 0, 1 and 2, and the files of :mod:`sys` over them."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for wanted, source in ((0, nothing), (1, log), (2, log)):
        os.dup2(source, wanted)
    if nothing > 2:
        os.close(nothing)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - they live as long as the process
    sys.stdout = _lines_to(1)
    sys.stderr = _lines_to(2)


def _lines_to(descriptor: int) -> TextIO:
    return open(descriptor, "w", buffering=1, closefd=False, errors="backslashreplace")


def _mend(log: int) -> None:
    """Put back what a function may have closed, for the next one."""
    try:
        for number in (0, 1, 2):
            os.fstat(number)
        whole = not (sys.stdin.closed or sys.stdout.closed or sys.stderr.closed)
    except (OSError, AttributeError):
        whole = False
    if not whole:
        _stand_on(log)


def open_user_path() -> None:
    """Let functions import what the user's own Python would: PYTHONPATH and the user's site.

    Python runs isolated so that neither can stand in for our own modules; those are loaded by now,
    dill as the last of them.
    """
    import dill  # noqa: F401

    at = 0
    for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        if entry and entry not in sys.path:
            sys.path.insert(at, entry)
            at += 1
    own = site.getusersitepackages()
    if sys.prefix == sys.base_prefix and os.path.isdir(own) and own not in sys.path:
        site.addsitedir(own)
