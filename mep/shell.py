"""A shell command as a function: how a worker runs it, and what comes back.

A :class:`mep_sdk.ShellFunction` is sent as source of a function of its own that calls :func:`run`,
so any worker can run it and the site's own version of this module does the work. Arguments, exit
status 124 and the names of exceptions are those of Globus Compute's ``ShellFunction``, which
functions of users know.

Runs on Python 3.8 and newer, on Linux; standard library only. Imported by the SDK and the worker.
"""

import io
import os
import re
import shutil
import signal
import string
import subprocess
import tempfile
import time
import uuid
from typing import Any, BinaryIO, Dict, Mapping, NamedTuple, Optional, Set, Union

OUT_OF_TIME = 124
"""Exit status of a command that was ended by its walltime, as of timeout(1)."""
SNIPPET_BYTES = 4 * 1024 * 1024
"""The end of an output that is read back, at most: two of them fit a result of 10 MB."""
SNIPPET_LINES = 1000
_GRACE_S = 3.0
"""From asking a command to end to ending it; a launcher ends its ranks on other nodes meanwhile."""
_LOOK_S = 0.02
_MARK = "MEP_SHELL"
"""A variable that all processes of a command have, by which those are found whose parent ended."""
_LAUNCHES = re.compile(r"\$\{?PARSL_\w+_PREFIX\b")
_BEFORE_FIRST = re.compile(r"([ \t]*(#.*)?\n)*[ \t]*")
"""Blank lines and comments before the first that is run."""


class MissingField(KeyError):
    """A command names a field in braces that the call gives no value for."""

    def __str__(self) -> str:
        return str(self.args[0])


class ShellResult:
    """What a command left behind.

    Attributes:
        cmd: the command as it was run.
        stdout: the last lines of what it wrote there.
        stderr: likewise.
        returncode: its exit status; minus the signal that ended it; 124 if its walltime did.
        exception_name: ``subprocess.CalledProcessError`` or ``subprocess.TimeoutExpired`` where
            Python would have raised it, else None.
    """

    def __init__(
        self,
        cmd: str,
        stdout: str,
        stderr: str,
        returncode: int,
        exception_name: Optional[str] = None,
    ) -> None:
        self.cmd = cmd
        self.stdout = stdout
        self.stderr = stderr
        self.returncode = returncode
        self.exception_name = exception_name

    def __repr__(self) -> str:
        fields = ("returncode", "cmd", "exception_name", "stdout", "stderr")
        return "ShellResult(%s)" % ", ".join("%s=%r" % (f, getattr(self, f)) for f in fields)

    def __str__(self) -> str:
        lines = ["exit status %d: %s" % (self.returncode, self.cmd)]
        if self.exception_name:
            lines.append(self.exception_name)
        for name in ("stdout", "stderr"):
            if getattr(self, name):
                lines.append("%s:\n%s" % (name, getattr(self, name).rstrip("\n")))
        return "\n".join(lines)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShellResult) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


def run(
    command: str,
    arguments: Mapping[str, Any],
    mpi: bool = False,
    stdout: Optional[str] = None,
    stderr: Optional[str] = None,
    walltime: Optional[float] = None,
    snippet_lines: int = SNIPPET_LINES,
    run_dir: Optional[str] = None,
    return_dict: bool = False,
) -> Union[ShellResult, Dict[str, Any]]:
    """Run a command with bash and wait for it.

    Args:
        command: with fields in braces, as for :meth:`str.format`.
        arguments: values of the fields.
        mpi: start it by the launcher of the task's nodes, ``$PARSL_MPI_PREFIX``; a command that
            names such a variable itself is left as it is.
        stdout: file that gets its output; a nameless one if not given. Relative to where it runs.
        stderr: likewise.
        walltime: seconds after which it is ended, with all that it started.
        snippet_lines: how many lines of each output come back, from the end.
        run_dir: where it runs; made if missing. If not given, in the task's sandbox where the
            endpoint gives each task one, else where functions run.
        return_dict: a dictionary instead of a :class:`ShellResult`.

    Raises:
        MissingField: `arguments` lacks a field.
        OSError: directory, files or shell cannot be used.
    """
    line = formatted(command, arguments)
    if mpi and not _LAUNCHES.search(line):
        line = _BEFORE_FIRST.sub(r"\g<0>$PARSL_MPI_PREFIX ", line, count=1)
    where = run_dir or os.environ.get("GC_TASK_SANDBOX_DIR") or os.getcwd()
    os.makedirs(where, exist_ok=True)
    with _opened(stdout, where) as out, _opened(stderr, where) as err:
        starts = out.tell(), err.tell()
        status = _wait(line, where, out, err, walltime)
        result = ShellResult(
            line,
            _snippet(out, starts[0], snippet_lines),
            _snippet(err, starts[1], snippet_lines),
            OUT_OF_TIME if status is None else status,
            _exception_name(status),
        )
    return vars(result) if return_dict else result


def formatted(command: str, arguments: Mapping[str, Any]) -> str:
    """The command with its fields filled in.

    Raises:
        MissingField: one has no value.
        ValueError: braces that are no field; literal ones are to be doubled.
    """
    try:
        return string.Formatter().vformat(command, (), arguments)
    except KeyError as error:
        raise MissingField(
            "the command has the field {%s}, for which the call gives no value: pass %s=..., or "
            "double the braces if they belong to the command" % (error.args[0], error.args[0])
        ) from None
    except (ValueError, IndexError) as error:
        raise ValueError(
            "the braces of the command are no fields (%s): name each field, as in {message}, and "
            "double braces that belong to the command" % error
        ) from None


def _opened(name: Optional[str], where: str) -> BinaryIO:
    if name is None:
        return tempfile.TemporaryFile(dir=where)
    path = os.path.join(where, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    file = open(path, "ab+")  # noqa: SIM115 - the caller's
    file.seek(0, os.SEEK_END)
    return file


def _wait(
    line: str, where: str, out: BinaryIO, err: BinaryIO, walltime: Optional[float]
) -> Optional[int]:
    """Run it to its end; the exit status, or None if its time was over."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [shutil.which("bash") or "/bin/sh", "-c", line],
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        cwd=where,
        env={**os.environ, _MARK: mark},
    )
    try:
        return process.wait(walltime)
    except subprocess.TimeoutExpired:
        _end(process, mark)
        return None


def _exception_name(status: Optional[int]) -> Optional[str]:
    if status is None:
        return "subprocess.TimeoutExpired"
    return "subprocess.CalledProcessError" if status else None


def _snippet(file: BinaryIO, start: int, lines: int) -> str:
    """The last lines of what was written from `start` on, within :data:`SNIPPET_BYTES`."""
    end = file.seek(0, io.SEEK_END)
    first = max(start, end - SNIPPET_BYTES)
    file.seek(first)
    text = file.read(end - first).decode("utf-8", "replace")
    return "".join(text.splitlines(keepends=True)[-lines:]) if lines > 0 else ""


# --- ending a command with all that it started ---------------------------------------------------


def _end(process: "subprocess.Popen[bytes]", mark: str) -> None:
    """Ask, wait a moment, and end what is left."""
    deadline = time.monotonic() + _GRACE_S
    asked: Dict[int, _Process] = {}
    while True:
        living = _living()
        left = _started_by(process.pid, mark, living)
        left |= {pid for pid, known in asked.items() if _same(known, living.get(pid))}
        if process.poll() is not None and not left:
            return
        if time.monotonic() > deadline:
            _send(left, signal.SIGKILL)
        else:
            _send(left - set(asked), signal.SIGTERM, signal.SIGCONT)  # who is stopped hears nothing
        asked.update((pid, living[pid]) for pid in left)
        time.sleep(_LOOK_S)  # no descriptor tells of the end of a grandchild on Python 3.8


class _Process(NamedTuple):
    """Fields of proc(5)."""

    parent: int
    began: int
    """In clock ticks; tells a process from a later one with its number."""


def _same(one: _Process, other: Optional[_Process]) -> bool:
    return other is not None and other.began == one.began


def _send(pids: Set[int], *numbers: int) -> None:
    for pid in pids:
        for number in numbers:
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):
                break  # gone, or a set-uid program


def _started_by(pid: int, mark: str, living: Mapping[int, _Process]) -> Set[int]:
    """Living processes of the command `pid`: its descendants, and all that bear its mark."""
    marked = ("%s=%s" % (_MARK, mark)).encode()
    found = {pid} | {other for other in living if marked in _read(other, "environ").split(b"\0")}
    while True:
        more = {child for child, one in living.items() if one.parent in found} - found
        if not more:
            return found & set(living)
        found |= more


def _living() -> Dict[int, _Process]:
    living: Dict[int, _Process] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _read(int(name), "stat").rpartition(b")")[2].split()
            if fields and fields[0] not in b"ZX":
                living[int(name)] = _Process(int(fields[1]), int(fields[19]))
    return living


def _read(pid: int, name: str) -> bytes:
    """A file of a process; empty if it has ended, or is another user's."""
    try:
        with open("/proc/%d/%s" % (pid, name), "rb") as file:
            return file.read()
    except OSError:
        return b""
