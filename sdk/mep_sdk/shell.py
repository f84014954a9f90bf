"""Shell commands as functions: :class:`ShellFunction`, and :class:`MPIFunction` over it.

They travel as source (:meth:`ShellFunction.as_function`), so that a worker of any Python runs them;
:mod:`mep.shell` does so there.
"""

import itertools
import keyword
import linecache
import math
import os
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar

from mep import shell
from mep.shell import ShellResult

__all__ = ["MPIFunction", "ShellFunction", "ShellResult"]

_numbers = itertools.count()


class ShellFunction:
    """A command that runs at the endpoint: ``submit(ShellFunction("echo {word}"), word="hello")``.

    The result is a :class:`mep.shell.ShellResult`; a command that fails is a result too, with its
    exit status, and raises nothing. Changes of an object after its first submit have no effect.

    Args:
        cmd: for bash, may have several lines; fields in braces are filled in with the keyword
            arguments of the call, literal braces are doubled.
        stdout: file at the endpoint that gets its output (added at the end), relative to where it
            runs.
        stderr: likewise.
        walltime: seconds after which it is ended, with all that it started: exit status 124.
        snippet_lines: how many lines of each output come back, from the end.
        name: of the function, as it is registered; an identifier.
        return_dict: a dictionary instead of a ShellResult, for results in JSON.
        run_dir: directory at the endpoint to run in; made if missing.

    Raises:
        TypeError: a file or directory that is no path.
        ValueError: no identifier, no number or a negative one, or nothing to run.
    """

    _mpi: ClassVar[bool] = False

    def __init__(
        self,
        cmd: str,
        stdout: str | os.PathLike[str] | None = None,
        stderr: str | os.PathLike[str] | None = None,
        walltime: float | None = None,
        snippet_lines: int = shell.SNIPPET_LINES,
        name: str | None = None,
        return_dict: bool = False,
        run_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.cmd = _command(cmd)
        self.stdout = _path(stdout)
        self.stderr = _path(stderr)
        self.walltime = None if walltime is None else _number(walltime, "walltime", Real)
        self.snippet_lines = _number(snippet_lines, "snippet_lines", Integral)
        self.__name__ = _identifier(name or type(self).__name__)
        self.return_dict = return_dict
        self.run_dir = _path(run_dir)

    def __call__(self, **arguments: Any) -> "ShellResult | dict[str, Any]":
        """Run it here: what an endpoint does with it.

        Raises:
            mep.shell.MissingField: a field of the command has no value.
        """
        return shell.run(self.cmd, arguments, **self._settings())

    def as_function(self) -> Callable[..., Any]:
        """A plain function that does the same, with source of its own."""
        settings = "".join(f", {key}={value!r}" for key, value in self._settings().items())
        source = (
            f"def {self.__name__}(**arguments):\n"
            "    from mep.shell import run\n"
            f"    return run({self.cmd!r}, arguments{settings})\n"
        )
        file = f"<mep shell function {next(_numbers)}>"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        # Of no module, so that every serializer takes the function itself and asks for its source.
        namespace: dict[str, Any] = {"__name__": "mep_shell_function"}
        exec(compile(source, file, "exec"), namespace)  # noqa: S102 - made of literals, above
        function: Callable[..., Any] = namespace[self.__name__]
        return function

    def _settings(self) -> dict[str, Any]:
        settings = {
            "stdout": self.stdout,
            "stderr": self.stderr,
            "walltime": self.walltime,
            "run_dir": self.run_dir,
            "mpi": self._mpi or None,
            "return_dict": self.return_dict or None,
        }
        given = {key: value for key, value in settings.items() if value is not None}
        return {**given, "snippet_lines": self.snippet_lines}

    def __repr__(self) -> str:
        settings = {**self._settings(), "name": self.__name__}
        settings.pop("mpi", None)
        if self.snippet_lines == shell.SNIPPET_LINES:
            del settings["snippet_lines"]
        if self.__name__ == type(self).__name__:
            del settings["name"]
        rest = "".join(f", {key}={value!r}" for key, value in settings.items())
        return f"{type(self).__name__}({self.cmd!r}{rest})"


class MPIFunction(ShellFunction):
    """A command that the endpoint's MPI launcher starts on the nodes that a task gets.

    How many those are, and how many ranks, says ``Executor.resource_specification``. The command,
    from its first line on that is neither blank nor a comment, is put behind ``$PARSL_MPI_PREFIX``.
    One that names one of the ``PARSL_..._PREFIX`` variables itself is run as it is.
    """

    _mpi = True


def _command(cmd: str) -> str:
    if not isinstance(cmd, str) or not cmd.strip():
        raise ValueError(f"the command must be text that says what to run, not {cmd!r}")
    return str(cmd)


def _path(value: str | os.PathLike[str] | None) -> str | None:
    """As text: settings travel as their repr, and that of a path is no literal."""
    return None if value is None else str(os.fspath(value))


def _number(value: Any, name: str, kind: type[Real] | type[Integral]) -> Any:
    """As a number of Python's own, for the same reason."""
    if not isinstance(value, kind) or not 0 <= float(value) < math.inf:
        what = "whole number" if kind is Integral else "number"
        raise ValueError(f"{name} is {value!r}; it must be a {what} of at least 0")
    return int(value) if isinstance(value, Integral) else float(value)


def _identifier(name: str) -> str:
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(f"name={name!r} must be a Python identifier, as in 'count_lines'")
    return name
