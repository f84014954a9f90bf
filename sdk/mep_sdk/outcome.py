"""How a task ended, as a value or an exception of this process."""

import contextlib
import linecache
import re
import sys
from concurrent.futures import InvalidStateError
from typing import Any

from mep import payload
from mep.wire import codes
from mep.wire.rest import TaskStatus
from mep.wire.tasks import Result
from mep_sdk.errors import MEPError, RemoteTraceback, SerializationError, TaskNotFound, failure
from mep_sdk.future import ComputeFuture

_FRAME = re.compile(r'  File "(?P<file>[^"<>]+)", line (?P<line>\d+), in ')


def value_of(packed: bytes) -> Any:
    """The value of a result.

    Raises:
        SerializationError: it cannot be loaded here (a module that only the site has, usually).
    """
    try:
        return as_local(payload.load_result(packed))
    except payload.PayloadError as error:
        raise SerializationError(
            f"the task succeeded, but its result cannot be loaded here: {error}",
            codes.DESERIALIZATION_FAILED,
        ) from error


def exception_of(code: str, message: str, traceback: str, packed: bytes) -> BaseException:
    """The function's own exception, its cause the remote traceback; else one of the SDK's."""
    traceback = with_lines(traceback)
    own = payload.load_exception(packed) if code in (codes.USER_EXCEPTION, "") else None
    if own is None:
        return failure(code, message, traceback)
    own = as_local(own)
    assert isinstance(own, BaseException)
    own.__cause__ = RemoteTraceback(traceback or message)
    return own


def error_of(result: Result) -> BaseException:
    """The exception of a failed task."""
    why = result.failure
    if why is None:
        return MEPError("the task failed, and the relay does not say why")
    return exception_of(why.code, why.message, why.traceback, result.payload)


def as_local(value: Any) -> Any:
    """`value`, an instance of this process's class where the remote one is a copy of it.

    A class of the user's own travels by value; without this, ``except MyError`` would not catch
    the copy.
    """
    remote = type(value)
    if remote.__module__ == "builtins":
        return value
    local: Any = sys.modules.get(remote.__module__)
    for name in remote.__qualname__.split("."):
        local = getattr(local, name, None)
    if local is remote or not isinstance(local, type):
        return value
    try:
        value.__class__ = local
    except TypeError:  # another layout: the class has changed since, or is no Python class
        return value
    return value


def with_lines(traceback: str) -> str:
    """The traceback, with source lines that the worker did not have and this machine has.

    The user's script lies here: its path and line number are in the traceback, its text is not.
    """
    lines = traceback.splitlines()
    shown: list[str] = []
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        shown.append(line)
        frame = _FRAME.match(line)
        if frame and not following.startswith("    "):
            text = linecache.getline(frame["file"], int(frame["line"])).strip()
            shown.extend([f"    {text}"] if text else [])
    return "\n".join(shown)


def shown(status: TaskStatus[bytes]) -> dict[str, Any]:
    """A task's status in the form that users see."""
    if status.status not in ("success", "failed", "cancelled"):
        return {"pending": True, "status": status.status}
    cancelled = status.failure_code == codes.CANCELLED
    told: dict[str, Any] = {
        "pending": False,
        "status": "cancelled" if cancelled else status.status,
        "completion_t": status.completion_t,
    }
    if status.status == "success":
        try:
            told["result"] = value_of(status.result or b"")
        except SerializationError as error:
            told["exception"] = error
        return told
    text = status.exception or "the task failed"
    if status.failure_code == codes.TASK_NOT_FOUND:
        told["exception"] = TaskNotFound(404, codes.TASK_NOT_FOUND, text)
        return told
    told["exception"] = exception_of(
        status.failure_code or "", text, "", status.exception_payload or b""
    )
    return told


def settle(future: ComputeFuture, status: dict[str, Any]) -> None:
    """End a future with what REST said of its task."""
    if status["status"] == "cancelled":
        future.cancelled_remotely()
        return
    future.task_state = status["status"]
    with contextlib.suppress(InvalidStateError):  # cancelled by the user meanwhile
        if "exception" in status:
            future.set_exception(status["exception"])
        else:
            future.set_result(status["result"])


def complete(future: ComputeFuture, result: Result) -> None:
    """Set a future to how its task ended; nothing where the user cancelled it first."""
    if result.outcome == "cancelled":
        future.cancelled_remotely()
        return
    value: Any = None
    error: BaseException | None = None
    try:
        if result.outcome == "success":
            value = value_of(result.payload)
        else:
            error = error_of(result)
    except Exception as problem:  # noqa: BLE001 - whatever a payload does, its future must end
        error = problem
    with contextlib.suppress(InvalidStateError):
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)
        future.task_state = result.outcome
