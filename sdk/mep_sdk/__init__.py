"""The SDK: runs on the user's laptop or login node, as the user, with the user's token.

======================  =======================================================================
:mod:`mep_sdk.client`   :class:`Client`: every call of the relay's REST API that a user needs
:mod:`mep_sdk.connection`  what a client holds of its relay in one process;
                        :mod:`mep_sdk.shared` is the client of executors that were given none
:mod:`mep_sdk.registration`  functions as the relay registers them
:mod:`mep_sdk.batch`    calls of one request; :mod:`mep_sdk.batch_run` submits them
:mod:`mep_sdk.tasks`    what is asked of many tasks at once
:mod:`mep_sdk.executor` :class:`Executor`: a :class:`concurrent.futures.Executor`
:mod:`mep_sdk.future`   :class:`ComputeFuture`: what `submit` returns
:mod:`mep_sdk.submitter`  one thread per executor: takes what is queued, sends it in batches
:mod:`mep_sdk.backlog`  what is queued, cut into batches (no I/O)
:mod:`mep_sdk.results`  what all executors of a client share: results into futures
:mod:`mep_sdk.receiver`  one thread per client: the WebSocket that brings results
:mod:`mep_sdk.polling`  the same over REST; :mod:`mep_sdk.fallback` says when
:mod:`mep_sdk.ledger`   which future waits for which task (no I/O)
:mod:`mep_sdk.transport`  HTTP: keep-alive, time-outs, what may be tried again
:mod:`mep_sdk.serialize`  functions and arguments to payloads; :mod:`mep_sdk.by_value` and
                        :mod:`mep_sdk.source` are its two ways with functions
:mod:`mep_sdk.shell`    :class:`ShellFunction` and :class:`MPIFunction`: commands as functions
:mod:`mep_sdk.containers`  registered images, as options of a template
:mod:`mep_sdk.progress` a bar on the terminal
:mod:`mep_sdk.outcome`  results and failures to values and exceptions
:mod:`mep_sdk.auth`     credentials: environment, stored login
:mod:`mep_sdk.login`    other ways to be logged in: browser, authorizer, login manager
:mod:`mep_sdk.bearer`   the token to send now; :mod:`mep_sdk.oauth` gets the next one
:mod:`mep_sdk.errors`   the tree of exceptions
======================  =======================================================================

May import :mod:`mep.link`, :mod:`mep.payload`, :mod:`mep.shell` and :mod:`mep.wire`. Names are
loaded when they are first used, so that ``import mep_sdk`` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mep import __version__

if TYPE_CHECKING:
    from mep_sdk.batch import Batch
    from mep_sdk.client import Client
    from mep_sdk.errors import MEPError, RelayError, TaskExecutionFailed, TaskPending
    from mep_sdk.executor import Executor
    from mep_sdk.future import ComputeFuture
    from mep_sdk.serialize import Serializer
    from mep_sdk.shell import MPIFunction, ShellFunction, ShellResult

__all__ = [
    "Batch",
    "Client",
    "ComputeFuture",
    "Executor",
    "MEPError",
    "MPIFunction",
    "RelayError",
    "Serializer",
    "ShellFunction",
    "ShellResult",
    "TaskExecutionFailed",
    "TaskPending",
    "__version__",
]

_HOMES = {
    "Batch": "batch",
    "Client": "client",
    "ComputeFuture": "future",
    "Executor": "executor",
    "MEPError": "errors",
    "MPIFunction": "shell",
    "RelayError": "errors",
    "Serializer": "serialize",
    "ShellFunction": "shell",
    "ShellResult": "shell",
    "TaskExecutionFailed": "errors",
    "TaskPending": "errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
