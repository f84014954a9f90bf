"""Entry of the node pool: ``python -I -m mep.worker.pool FILE``, a process of the user's.

FILE holds one JSON object, see :class:`mep.worker.settings.Settings`, and is for the user's eyes
alone: it may hold a key. An argument after it is the version that the endpoint has, where this
might be another's. Several nodes of a block may be given the same one. The order of things is the
reason for this module: the fork server is forked while the process is small and has no thread,
and imports dill while this process imports what it needs itself.
"""

import json
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from mep import __version__
from mep.worker.account import completed, own
from mep.worker.command import chosen_python, worker_command
from mep.worker.elsewhere import with_directory
from mep.worker.forkserver import ForkServer
from mep.worker.job import ends_at, path_before
from mep.worker.layout import LayoutError, Node, Share, layout

if TYPE_CHECKING:
    from mep.worker.spread import Spread

WORKERS_SETTINGS = ("working_dir", "run_in_sandbox", "terms")
"""What workers are told too, see :func:`mep.worker.worker.main`."""


def main() -> int:
    """Run a node pool to its end, and return its exit status."""
    settings = _read(sys.argv[1:])
    if settings["lifeline"] is not None:
        os.set_inheritable(settings["lifeline"], False)
    settings["ends_at"] = ends_at(os.environ, settings.pop("block_walltime", None), time.time())
    settings["path_before"] = path_before(os.environ, settings["path_before"])
    with with_directory(settings):
        return _run(settings)


def _run(settings: Dict[str, Any]) -> int:
    _make_working_directory(settings["working_dir"])
    os.environ.update(completed(os.environ, own(), socket.gethostname()))
    try:
        shares = layout(_this_node(), settings)
    except LayoutError as error:
        sys.exit(str(error))
    settings["walltime_s"] = _walltime(os.environ.get("GC_TASK_TIMEOUT", ""))
    told = {name: settings[name] for name in WORKERS_SETTINGS}
    forks: Optional[ForkServer] = None
    if settings["container"]:
        forks = _contained(settings, told, shares)
    elif settings["mode"] == "process":
        forks = ForkServer.launch(told, shares, _command(settings, told))
    spread = _spread(settings.pop("mpi"))
    from mep.worker.node import NodePool, pool_name
    from mep.worker.settings import Settings
    from mep.worker.upstream import Unreachable, connected

    try:
        upstream = connected(pool_name(settings["block_id"]), settings["connect"])
    except Unreachable as error:
        sys.exit(str(error))
    return NodePool(Settings(**settings), len(shares), forks, upstream, spread).run()


def _spread(launcher: Optional[str]) -> "Optional[Spread]":
    """The block's nodes, where its tasks are spread over them."""
    if launcher is None:
        return None
    from mep.worker.job_nodes import NodesError, job_nodes
    from mep.worker.spread import Spread, asked_flavour

    try:
        nodes = job_nodes(os.environ, socket.gethostname(), _text_of)
    except NodesError as error:
        sys.exit(str(error))
    return Spread(launcher, asked_flavour(), nodes, os.environ)


def _text_of(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def _contained(settings: Dict[str, Any], told: Dict[str, Any], shares: List[Share]) -> ForkServer:
    """The fork server, in a container that is up."""
    from mep.worker.contained import StartError, Starting
    from mep.worker.containers import Container, ContainerError

    container = Container(**settings["container"])
    python = settings["worker_python"] or "python3"
    block_id = settings["block_id"]
    try:
        starting = Starting(container, python, settings["directory"], block_id, told, shares)
        import zmq  # noqa: F401 - while the container starts

        return starting.connected(settings["lifeline"])
    except (ContainerError, StartError) as error:
        sys.exit(str(error))


def _read(arguments: List[str]) -> Dict[str, Any]:
    if len(arguments) not in (1, 2):
        sys.exit(
            "usage: mep-pool FILE [VERSION], where FILE holds the settings that the endpoint, of "
            "that version, wrote"
        )
    if arguments[1:] not in ([], [__version__]):
        sys.exit(
            "this node pool is of MEP %s, and the endpoint of MEP %s; put the endpoint's version "
            "where the node pool was found, %s"
            % (__version__, arguments[1], os.path.dirname(__file__))
        )
    try:
        with open(arguments[0], encoding="utf-8") as file:
            settings: Dict[str, Any] = json.load(file)
    except (OSError, ValueError) as error:
        sys.exit("the settings of the node pool cannot be read: %s" % error)
    return settings


def _make_working_directory(path: str) -> None:
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        sys.exit(
            "the working directory %s cannot be made on %s: %s; set working_dir to one that every "
            "node can have" % (path, socket.gethostname(), error.strerror)
        )


def _walltime(text: str) -> float:
    try:
        return max(float(text or 0), 0.0)
    except ValueError:
        sys.exit("GC_TASK_TIMEOUT is %r, which is no number of seconds" % text)


def _this_node() -> Node:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Node(sorted(os.sched_getaffinity(0)), memory / 2**30)


def _command(settings: Dict[str, Any], told: Dict[str, Any]) -> Optional[List[str]]:
    """How workers are started; None: by a fork of this very Python."""
    path = os.environ.get("PATH", os.defpath)
    python = chosen_python(settings["worker_python"], settings["path_before"], path)
    if not python:
        return None
    from mep.worker.bundle import bundle

    return worker_command(python, bundle(settings["directory"]), told)


if __name__ == "__main__":
    sys.exit(main())
