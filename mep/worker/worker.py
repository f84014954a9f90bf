"""The worker: takes tasks from its channel, runs one at a time, sends each result.

Nothing that a function does to its process may be taken for a result: a worker that cannot go on
ends, and the node pool reports how. Runs on Python 3.8 and newer; standard library,
:mod:`mep.payload` and dill.
"""

import contextlib
import fcntl
import os
import select
import signal
import site
import socket
import sys
import time
from collections import deque
from typing import Any, Deque, Dict, NoReturn, Optional, TextIO, Tuple

from mep import payload
from mep.wire.frames import header
from mep.worker.begun import Ring
from mep.worker.channel import Channel, Message
from mep.worker.execute import Call, Function, Terms, failed, load, run
from mep.worker.recent import Recent
from mep.worker.tickets import claim

PROTOCOL_DESCRIPTOR = 200
"""The channel's descriptor is at least this: out of the way of code that closes low numbers."""

MISSING = payload.PayloadError("its body did not reach the worker")

CANNOT_SPEAK = 71
"""Exit status of a worker whose channel a function has closed."""


def main(sock: socket.socket, log: int, settings: Dict[str, Any]) -> NoReturn:
    """The whole life of a worker process that has just been started.

    Args:
        sock: this worker's end of the channel.
        log: descriptor that takes over 1 and 2.
        settings: ``working_dir``, ``run_in_sandbox``, and ``terms`` (see
            :class:`mep.worker.execute.Terms`).
    """
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    log = _out_of_the_way(log)
    _stand_on(log)
    channel = Channel(socket.socket(fileno=_out_of_the_way(sock.detach())))
    channel.socket.setblocking(True)
    os.closerange(3, PROTOCOL_DESCRIPTOR)
    try:
        _serve(channel, settings, log)
    except OSError as error:
        message = "worker %d ends: its channel to the node pool is gone: %s\n" % (
            os.getpid(),
            error,
        )
        with contextlib.suppress(OSError):  # the function may have closed that, too
            os.write(log, message.encode())
        os._exit(CANNOT_SPEAK)
    os._exit(0)


def _serve(channel: Channel, settings: Dict[str, Any], log: int) -> None:
    terms = Terms(**settings["terms"])
    tickets, ring = _first_words(channel)
    shelf = _Shelf(channel, terms)
    standing = _standing()
    os.environ.pop("GC_TASK_SANDBOX_DIR", None)  # of a task around the endpoint, perhaps
    pid = os.getpid()
    while True:
        ticket = claim(tickets)
        if ticket is None:
            return
        number, place = ticket
        if ring is not None:
            ring.note(place)
        call, function = shelf.get(number)
        try:
            enter(settings["working_dir"], settings["run_in_sandbox"], call.task_id)
            if "environment" in call.spec:
                os.environ.update(call.spec["environment"])
        except OSError as error:
            text = "The task's directory cannot be used: %s" % error
            fields, result = failed(call, "ENGINE_FAILED", text, time.time(), terms)
        else:
            fields, result = run(call, function, terms)
        if os.getpid() != pid:
            os._exit(0)  # a child that the function forked came back here instead of ending
        channel.send(header("result", *fields), *result)
        if standing.poll(0) or not _whole():
            _stand_on(log)


def _first_words(channel: Channel) -> Tuple[int, Optional[Ring]]:
    """The pipe of tickets, and where to note what begins, if that is this process's to do."""
    tickets, *begun = channel.fill_with_descriptors()
    hello = channel.message()
    while hello is None:
        if not channel.fill():
            raise BrokenPipeError("the node pool has closed it")
        hello = channel.message()
    return _out_of_the_way(tickets), Ring(begun[0], hello.fields[0]) if begun else None


def enter(directory: str, sandbox: bool, task_id: str) -> None:
    """Go where the task shall run, and tell it so in Globus Compute's variables."""
    os.environ["GC_TASK_UUID"] = task_id
    if sandbox:
        directory = os.environ["GC_TASK_SANDBOX_DIR"] = os.path.join(directory, task_id)
    try:
        os.chdir(directory)
    except FileNotFoundError:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        os.chdir(directory)


class _Shelf:
    """The tasks that have come and have not begun."""

    def __init__(self, channel: Channel, terms: Terms) -> None:
        self._channel = channel
        self._terms = terms
        self._functions: Recent[Function] = Recent()
        self._tasks: Deque[Tuple[int, Call, Function]] = deque()

    def get(self, number: int) -> Tuple[Call, Function]:
        """The task with this number; those before it have been taken back by the node pool."""
        while True:
            while self._tasks:
                at, call, function = self._tasks.popleft()
                if at == number:
                    return call, function
            self._read()

    def _read(self) -> None:
        message = self._channel.message()
        while message is None:
            if not self._channel.fill():
                raise BrokenPipeError("the node pool has closed it")
            message = self._channel.message()
        if message.kind == "function":
            self._functions.put(message.fields[0], load(message.payload, self._terms))
        elif message.kind == "tasks":
            self._put(message)

    def _put(self, message: Message) -> None:
        first, items = message.fields
        payload = memoryview(message.payload)
        at = 0
        for number, (task_id, function_id, spec, length) in enumerate(items, first):
            call = Call(task_id, function_id, spec, payload[at : at + length])
            at += length
            # In the order in which they came, as the node pool does: both forget alike.
            function = self._functions.touch(function_id)
            self._tasks.append((number, call, function or MISSING))


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


def _standing() -> "select.poll":
    """Tells of descriptors 0, 1 and 2 when one is closed: a function may do that."""
    poll = select.poll()
    for number in (0, 1, 2):
        poll.register(number, 0)
    return poll


def _whole() -> bool:
    """Whether the files of :mod:`sys` are open."""
    try:
        return not (sys.stdin.closed or sys.stdout.closed or sys.stderr.closed)
    except AttributeError:
        return False


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
