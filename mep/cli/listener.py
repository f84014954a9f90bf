"""The warden's socket where systemd does not make it: bound here, passed to each warden in turn."""

import os
import socket
from pathlib import Path


def listen(path: Path, group: int | None) -> socket.socket:
    """A listening socket at `path`, which its owner and `group`, if any, may connect to.

    It stands in a directory that only the owner writes.
    """
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    if group is not None:
        os.chown(path, -1, group)
        path.chmod(0o660)
    listener.listen()
    listener.set_inheritable(True)
    return listener
