"""Readiness and state, to whoever started the manager: systemd, or ``mep start``.

Both listen on the datagram socket that ``NOTIFY_SOCKET`` names (sd_notify(3)). systemd shows
``STATUS`` and ignores the keys that begin with ``X_``; ``mep start`` waits for those.
"""

import os
import socket
from typing import Final

WARDEN: Final = "X_MEP_WARDEN"
RELAY: Final = "X_MEP_RELAY"


def notify(**fields: str) -> None:
    """Send fields such as ``READY="1"``; without ``NOTIFY_SOCKET`` nothing happens.

    The receiver is a convenience: where it is gone or full, the manager goes on.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    text = "\n".join(f"{key}={value.splitlines()[0]}" for key, value in fields.items() if value)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        try:
            sender.sendto(text.encode(), address)
        except OSError:
            return
