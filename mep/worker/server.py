"""The fork server itself: starts workers, reaps them, tells how each ended.

Runs on Python 3.8 and newer, for in a container it runs on that one's; standard library, dill from
the zip.
"""

import array
import contextlib
import gc
import os
import select
import signal
import socket
import time
import traceback
from typing import Any, Dict, List, NoReturn, Optional, Sequence, Set, Tuple

from mep.worker.command import become
from mep.worker.layout import Share
from mep.worker.memory import Watch

PACKET = 64
"""Bytes of a message, see :mod:`mep.worker.forkserver`."""
_DESCRIPTORS = 256
"""More than a node pool has open when it forks the server."""
GRACE_S = 3.0
"""From asking a task's processes to end to ending them; a launcher ends its ranks meanwhile."""
_LOOK_MS = 20
_PF_EXITING = 0x4
_SPACE = socket.CMSG_SPACE(2 * array.array("i").itemsize)


class Server:
    """The server's own side; arguments as of :meth:`mep.worker.forkserver.ForkServer.launch`."""

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
        self._dropped: Set[int] = set()
        self._ending: Dict[int, float] = {}
        """Until when those that have been asked to end are waited for."""
        self._memory = Watch()
        self._wake: Optional[Tuple[socket.socket, socket.socket]] = None
        """Open for as long as this process lives: signals go on to write there."""

    def run(self) -> NoReturn:
        """Serve until the node pool is gone."""
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
        woken, wake = self._wake = socket.socketpair()
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
            ready = {descriptor for descriptor, _ in poll.poll(_LOOK_MS if self._ending else None)}
            self._look_after_ending()
            if woken.fileno() in ready:
                woken.recv(4096)
                self._reap()
            if self._control.fileno() in ready and not self._obey():
                return

    def _obey(self) -> bool:
        packet, rights, _, _ = self._control.recvmsg(PACKET, _SPACE, socket.MSG_CMSG_CLOEXEC)
        if not packet:
            return False
        verb, number = packet.split()
        if verb == b"spawn":
            descriptors = array.array("i")
            descriptors.frombytes(rights[0][2])
            self._spawn(int(number), *descriptors)
        elif int(number) in self._pids and verb == b"end":
            self._ask_to_end(int(number))
        elif int(number) in self._pids:
            self._kill(int(number), verb == b"drop")
        return True

    def _kill(self, number: int, dropped: bool) -> None:
        pid = self._pids[number]
        if dropped and not _is_exiting(pid):
            self._dropped.add(number)
        _end_group(pid)

    def _ask_to_end(self, number: int) -> None:
        """Stop the worker, so that its function does not go on, and ask what it started."""
        pid = self._pids[number]
        os.kill(pid, signal.SIGSTOP)
        others = offspring(pid)
        _signal(others, signal.SIGTERM)
        self._ending[number] = time.monotonic() + (GRACE_S if others else 0.0)
        self._look_after_ending()

    def _look_after_ending(self) -> None:
        now = time.monotonic()
        for number, until in list(self._ending.items()):
            pid = self._pids.get(number)
            left = [] if pid is None else offspring(pid)
            if now >= until or not left:
                del self._ending[number]
                if pid is not None:
                    _signal(left, signal.SIGKILL)
                    _end_group(pid)

    def _spawn(self, number: int, channel: int, log: int) -> None:
        self._memory.look()
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
        except BaseException:  # noqa: BLE001 - above this frame is the server
            traceback.print_exc()
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
            number = numbers.get(ended.si_pid)
            if number is None:  # an orphan: in a container this is process 1
                os.waitpid(ended.si_pid, 0)
                continue
            _end_group(ended.si_pid)  # what the worker left behind; its id is still held
            _, status = os.waitpid(ended.si_pid, 0)
            del self._pids[number]
            packet = "exit %d %d %s" % (number, status, self._cause(number, status))
            try:
                self._control.send(packet.encode())
            except (BrokenPipeError, ConnectionResetError):
                return  # the pool is gone; _serve ends next

    def _cause(self, number: int, status: int) -> str:
        dropped = number in self._dropped
        self._dropped.discard(number)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            return "own"
        return self._memory.ran_out() or ("dropped" if dropped else "own")

    def _end_all(self) -> None:
        for pid in self._pids.values():
            _end_group(pid)
        for pid in self._pids.values():
            os.waitpid(pid, 0)


def _is_exiting(pid: int) -> bool:
    """Whether a child is on its way out, whose descriptors are closed before it can be waited for.

    By the flags in ``/proc/PID/stat``, see proc(5).
    """
    with open("/proc/%d/stat" % pid, "rb") as file:
        flags = file.read().rpartition(b")")[2].split()[6]
    return bool(int(flags) & _PF_EXITING)


def _signal(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # gone, or a set-uid program
            os.kill(pid, number)


def _end_group(pid: int) -> None:
    """SIGKILL to the group of a child that has not been reaped, and to itself."""
    for end in (os.killpg, os.kill):
        try:
            end(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue  # already a zombie, or a set-uid program of the user's


def offspring(pid: int) -> List[int]:
    """The processes of this one's group and those that descend from it, without itself.

    Those that have ended are left out; fields of ``/proc/PID/stat`` as in proc(5).
    """
    parents: Dict[int, int] = {}
    members: Set[int] = set()
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == pid:
            continue
        try:
            with open("/proc/%s/stat" % name, encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] in "ZX":
            continue
        parents[int(name)] = int(fields[1])
        if int(fields[2]) == pid:
            members.add(int(name))
    found: Set[int] = set()
    members |= {one for one, parent in parents.items() if parent == pid}
    while members - found:
        found |= members
        members = {one for one, parent in parents.items() if parent in found}
    return sorted(found)
