"""Messages on the stream socket between node pool and worker, see :mod:`mep.wire.frames`."""

import array
import contextlib
import socket
from typing import Any, List, NamedTuple, Optional

from mep.wire.frames import FrameError, Piece, parse
from mep.wire.stream import READ_BYTES, Stream, lead

_DESCRIPTORS = 2


class Message(NamedTuple):
    """One message of a channel."""

    kind: str
    fields: List[Any]
    payload: Piece
    """A large one can be written to: it is nobody else's."""


class Channel(Stream):
    """One end of the socket."""

    def fill_with_descriptors(self) -> List[int]:
        """Read once, and with it the descriptors that the peer sent by :meth:`pass_descriptors`.

        Raises:
            FrameError: there is none.
        """
        space = socket.CMSG_SPACE(_DESCRIPTORS * array.array("i").itemsize)
        chunk, rights, _, _ = self.socket.recvmsg(READ_BYTES, space, socket.MSG_CMSG_CLOEXEC)
        self._in += chunk
        if not rights:
            raise FrameError("no descriptor came with the first message")
        return list(array.array("i", rights[0][2]))

    def pass_descriptors(self, header: bytes, descriptors: List[int]) -> None:
        """Send a message, the first of all, and one or two descriptors with it."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # as in flush()
            self.socket.sendmsg([lead(header, 0)], rights)

    def message(self) -> Optional[Message]:
        """The next whole message that has been read, or None.

        Raises:
            FrameError: bytes that are no message.
        """
        taken = self.take()
        if taken is None:
            return None
        kind, fields = parse(taken[0])
        return Message(kind, fields, taken[1])
