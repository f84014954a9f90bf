"""The fork server in a container: the node pool's side of it.

One container a node, as in Globus Compute, whose first process is the fork server from the zip of
:mod:`mep.worker.bundle`. It connects to a Unix socket in the run directory, which the container
sees, and gets workers' descriptors through that like any other fork server. The connection ends
with the node pool, whatever way that ends; then the server ends, and with it the container.
"""

import json
import os
import secrets
import select
import shlex
import shutil
import socket
import subprocess
import tempfile
from typing import Any, Dict, List, Optional, Sequence

from mep.worker.account import NAMES
from mep.worker.bundle import bundle
from mep.worker.containers import Container, ContainerError, Host, container_command
from mep.worker.endings import signal_name, tail
from mep.worker.forkserver import ForkServer
from mep.worker.inside import SOCKET, TOLD
from mep.worker.layout import Share

_PACKET = 128
_START_S = 3600.0
"""Longer than any image takes to be fetched."""
_WORDS = 1000
_END_S = 10.0
"""For the container's end once the fork server in it has been told."""


class StartError(Exception):
    """The container did not come up; the message is for the user, with its own last words."""


class Starting:
    """A container that has been started and whose fork server has not connected yet.

    Args:
        container: see :class:`mep.worker.containers.Container`.
        python: command of the Python in the container.
        directory: the user endpoint's.
        block_id: of the node pool.
        settings, shares: see :meth:`mep.worker.forkserver.ForkServer.launch`.

    Raises:
        ContainerError: there is no such command.
        StartError: it cannot be started.
    """

    def __init__(
        self,
        container: Container,
        python: str,
        directory: str,
        block_id: str,
        settings: Dict[str, Any],
        shares: Sequence[Share],
    ) -> None:
        os.makedirs(os.path.join(directory, "containers"), mode=0o700, exist_ok=True)
        home = tempfile.mkdtemp(prefix=block_id + ".", dir=os.path.join(directory, "containers"))
        log = os.path.basename(home) + "-container.log"
        self._output = os.path.join(directory, "workers", log)
        self._home = home
        self._token = secrets.token_hex(16)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        _bind(self._listener, home, SOCKET)
        self._listener.listen(1)
        told = {"token": self._token, "settings": settings, "shares": shares}
        told["variables"] = {name: os.environ[name] for name in NAMES}
        _write(os.path.join(home, TOLD), json.dumps(told))
        launch = [python, "-I", bundle(directory), home]
        host = Host(directory, settings["working_dir"], os.getuid(), _groups(), os.environ)
        try:
            self._command = container_command(container, launch, host)
            self._process = self._run(directory)
        except (ContainerError, StartError):
            self._forget()
            raise

    def connected(self, lifeline: Optional[int]) -> "ContainedServer":
        """The fork server, once it is there.

        Args:
            lifeline: a descriptor that becomes readable when nobody waits any more.

        Raises:
            StartError: the container ended before, or takes too long.
        """
        ended = os.pidfd_open(self._process.pid)
        poll = select.poll()
        for descriptor in (self._listener.fileno(), ended, *([lifeline] if lifeline else [])):
            poll.register(descriptor, select.POLLIN)
        control = None
        try:
            while control is None:
                ready = {descriptor for descriptor, _ in poll.poll(_START_S * 1000)}
                if self._listener.fileno() not in ready:
                    break
                control = self._accept()
        finally:
            os.close(ended)
            self._forget()
        if control is None:
            raise StartError(self._why_not(ended in ready, bool(ready)))
        return ContainedServer(control, self._process, self._output)

    def _forget(self) -> None:
        self._listener.close()
        shutil.rmtree(self._home)

    def _run(self, directory: str) -> "subprocess.Popen[bytes]":
        """Started in the run directory: runtimes leave files where they are started."""
        with open(self._output, "wb") as output:
            try:
                return subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=directory,
                )
            except OSError as error:
                text = "The container runtime %s cannot be started on node %s: %s."
                raise StartError(
                    text % (self._command[0], socket.gethostname(), error.strerror)
                ) from error

    def _accept(self) -> Optional[socket.socket]:
        """The connection of whoever has read what the user alone can read; others are sent off."""
        control, _ = self._listener.accept()
        control.settimeout(_END_S)
        try:
            said = control.recv(_PACKET)
        except OSError:
            said = b""
        if not secrets.compare_digest(said, self._token.encode()):
            control.close()
            return None
        control.settimeout(None)
        return control

    def _why_not(self, ended: bool, anything: bool) -> str:
        where = "on node %s" % socket.gethostname()
        if not ended:
            self._process.terminate()
            _wait(self._process)
            return "The wait for the container %s ended: %s." % (
                where,
                "the user endpoint is gone" if anything else "%d s are enough" % _START_S,
            )
        return "The container %s %s before its workers could start. Started by: %s\n%s" % (
            where,
            how(self._process.wait()),
            " ".join(map(shlex.quote, self._command)),
            last_words(self._output),
        )


class ContainedServer(ForkServer):
    """A fork server that is not this process's child: the container's command is."""

    def __init__(
        self, control: socket.socket, process: "subprocess.Popen[bytes]", output: str
    ) -> None:
        super().__init__(control, process.pid)
        self._process = process
        self._output = output

    def why(self) -> str:
        """As of the container."""
        _wait(self._process)
        words = last_words(self._output)
        status = how(self._process.returncode)
        return "the container of its workers %s%s" % (status, words and "; it wrote: " + words)

    def close(self) -> None:
        """Let it end all workers and itself; returns when the container has ended."""
        self._control.close()
        _wait(self._process)


def how(returncode: int) -> str:
    """A return code of :mod:`subprocess` in words."""
    if returncode < 0:
        return "was ended by signal %d (%s)" % (-returncode, signal_name(-returncode))
    return "ended with status %d" % returncode


def last_words(path: str) -> str:
    """The end of what a container's command wrote, short enough for a sentence to the user."""
    return tail(path, 0)[-_WORDS:].strip()


def _wait(process: "subprocess.Popen[bytes]") -> None:
    """For the end of a container that has nothing left to do; not longer than that can take."""
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _bind(listener: socket.socket, directory: str, name: str) -> None:
    """By descriptor: socket paths are limited to 107 bytes, home directories are not."""
    at = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listener.bind("/proc/self/fd/%d/%s" % (at, name))
    os.close(at)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _groups() -> List[int]:
    own = os.getgid()
    return [own, *(gid for gid in os.getgroups() if gid != own)]
