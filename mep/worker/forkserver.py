"""The fork server as the node pool sees it: it starts workers, and tells how each ended.

A clean process that has imported dill, and neither zmq nor threads: the pool forks it before it
imports zmq itself. It ends every worker, with the process group of each, as soon as the pool is
gone. Over a
``SOCK_SEQPACKET`` pair, one packet a message: ``spawn NUMBER`` (with two descriptors: the
worker's end of its channel, its log), ``kill NUMBER``, ``drop NUMBER``, ``end NUMBER``; back
come ``exit NUMBER STATUS CAUSE`` as in :class:`Exit`. In a container the server is another
process's child, see :mod:`mep.worker.contained`.
"""

import array
import contextlib
import os
import socket
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from mep.worker.layout import Share
from mep.worker.server import PACKET, Server


class Exit(NamedTuple):
    """How a worker ended."""

    number: int
    status: int
    """As of :func:`os.waitpid`."""
    cause: str
    """``memory`` or ``memory=BYTES``: the kernel ended it because memory ran out, of which there is
    so much; ``dropped``: it lived on without its channel; ``own``: anything else."""


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
            Server(theirs, settings, shares, command).run()
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
        self._tell(b"kill %d" % number)

    def end(self, number: int) -> None:
        """The same, but what it started is asked first (SIGTERM) and has GRACE_S to end."""
        self._tell(b"end %d" % number)

    def drop(self, number: int) -> None:
        """The same for one whose channel has ended, most often because it has ended itself."""
        self._tell(b"drop %d" % number)

    def _tell(self, packet: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # see exits()
            self._control.send(packet)

    def exits(self) -> Optional[List[Exit]]:
        """The workers that ended; None when the server itself is gone."""
        ended: List[Exit] = []
        while True:
            try:
                packet = self._control.recv(PACKET, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return ended
            except ConnectionResetError:
                return None
            if not packet:
                return None
            _, number, status, cause = packet.decode().split()
            ended.append(Exit(int(number), int(status), cause))

    def why(self) -> str:
        """Why the server itself is gone, for a person to read."""
        return "the fork server of its workers ended"

    def close(self) -> None:
        """Let it end all workers and itself; returns when it has."""
        self._control.close()
        os.waitpid(self.pid, 0)
