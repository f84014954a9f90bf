"""Starts workers on demand: a clean process that has imported dill, and neither zmq nor threads.

The node pool forks it before it imports zmq itself. It ends every worker, with the process group
of each, as soon as the pool is gone; and tells the pool how each worker ended. Over a
``SOCK_SEQPACKET`` pair, one packet a message: ``spawn NUMBER`` (with two descriptors: the
worker's end of its channel, its log), ``kill NUMBER``; back come ``exit NUMBER STATUS`` with the
status of :func:`os.waitpid`.
"""

import array
import contextlib
import gc
import os
import select
import signal
import socket
from typing import Any, Dict, List, NoReturn, Optional, Sequence, Tuple

from mep.worker.command import become
from mep.worker.layout import Share

_PACKET = 64
_DESCRIPTORS = 256
"""More than a node pool has open when it forks the server."""
_SPACE = socket.CMSG_SPACE(2 * array.array("i").itemsize)


class ForkServer:
    """The node pool's side."""

    def __init__(self, control: socket.socket, pid: int) -> None:
        self._control = control
        self.pid = pid

    @classmethod
    def launch(
        cls,
        settings: Dict[str, Any],
        shares: Sequence[Share],
        command: Optional[Sequence[str]] = None,
    ) -> "ForkServer":
        """Fork it. Call before anything has started a thread.

        Args:
            settings: see :func:`mep.worker.worker.main`.
            shares: what each worker gets, by its number.
            command: starts a worker of another Python, see :mod:`mep.worker.command`; without one
                workers are forked.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            ours.close()
            _Server(theirs, settings, shares, command).run()
        theirs.close()
        return cls(ours, pid)

    def fileno(self) -> int:
        """Readable when :meth:`exits` has something to say."""
        return self._control.fileno()

    def spawn(self, number: int, channel: socket.socket, log: int) -> None:
        """Fork worker `number` on that end of its channel, which is closed here."""
        descriptors = array.array("i", [channel.fileno(), log])
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]
        try:
            self._control.sendmsg([b"spawn %d" % number], rights)
        except (BrokenPipeError, ConnectionResetError):
            pass  # its end is noticed by exits()
        finally:
            channel.close()

    def kill(self, number: int) -> None:
        """End worker `number` and its process group, if it still runs."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # see exits()
            self._control.send(b"kill %d" % number)

    def exits(self) -> Optional[List[Tuple[int, int]]]:
        """Number and wait status of the workers that ended; None when the server itself is gone."""
        ended: List[Tuple[int, int]] = []
        while True:
            try:
                packet = self._control.recv(_PACKET, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return ended
            except ConnectionResetError:
                return None
            if not packet:
                return None
            _, number, status = packet.split()
            ended.append((int(number), int(status)))

    def close(self) -> None:
        """Let it end all workers and itself; returns when it has."""
        self._control.close()
        os.waitpid(self.pid, 0)


class _Server:
    def __init__(
        self,
        control: socket.socket,
        settings: Dict[str, Any],
        shares: Sequence[Share],
        command: Optional[Sequence[str]],
    ) -> None:
        self._control = control
        self._settings = settings
        self._shares = shares
        self._command = command
        self._pids: Dict[int, int] = {}

    def run(self) -> NoReturn:
        status = 1
        control = self._control.fileno()
        os.closerange(3, control)
        os.closerange(control + 1, _DESCRIPTORS)
        try:
            self._serve()
            status = 0
        finally:
            self._end_all()
            os._exit(status)

    def _serve(self) -> None:
        woken, wake = socket.socketpair()
        wake.setblocking(False)
        woken.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        if self._command is None:
            from mep.worker import worker

            worker.open_user_path()
            gc.freeze()
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(woken, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if woken.fileno() in ready:
                woken.recv(4096)
                self._reap()
            if self._control.fileno() in ready and not self._obey():
                return

    def _obey(self) -> bool:
        packet, rights, _, _ = self._control.recvmsg(_PACKET, _SPACE, socket.MSG_CMSG_CLOEXEC)
        if not packet:
            return False
        verb, number = packet.split()
        if verb == b"spawn":
            descriptors = array.array("i")
            descriptors.frombytes(rights[0][2])
            self._spawn(int(number), *descriptors)
        elif int(number) in self._pids:
            _end_group(self._pids[int(number)])
        return True

    def _spawn(self, number: int, channel: int, log: int) -> None:
        pid = os.fork()
        if pid == 0:
            self._become_worker(self._shares[number], channel, log)
        self._pids[number] = pid
        with contextlib.suppress(PermissionError, ProcessLookupError):  # the child was faster
            os.setpgid(pid, pid)
        os.close(channel)
        os.close(log)

    def _become_worker(self, share: Share, channel: int, log: int) -> NoReturn:
        try:
            os.setpgid(0, 0)
            self._control.close()
            os.environ.update(share.environment)
            if share.cores is not None:
                os.sched_setaffinity(0, share.cores)
            if self._command is not None:
                become(self._command, channel, log)
            from mep.worker import worker

            worker.main(socket.socket(fileno=channel), log, self._settings)
        finally:
            os._exit(1)

    def _reap(self) -> None:
        numbers = {pid: number for number, pid in self._pids.items()}
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            _end_group(ended.si_pid)  # what the worker left behind; its id is still held
            _, status = os.waitpid(ended.si_pid, 0)
            number = numbers[ended.si_pid]
            del self._pids[number]
            try:
                self._control.send(b"exit %d %d" % (number, status))
            except (BrokenPipeError, ConnectionResetError):
                return  # the pool is gone; _serve ends next

    def _end_all(self) -> None:
        for pid in self._pids.values():
            _end_group(pid)
        for pid in self._pids.values():
            os.waitpid(pid, 0)


def _end_group(pid: int) -> None:
    """SIGKILL to the group of a child that has not been reaped, and to itself."""
    for end in (os.killpg, os.kill):
        try:
            end(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue  # already a zombie, or a set-uid program of the user's
