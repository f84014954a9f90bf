"""Shows that a process with the master credential wrote an address, and not just anybody who can
write to the database: links, with their credentials, are handed on to that address.
"""

import hmac
from typing import Final

_LABEL: Final = b"mep-process-1\0"


def of(master: bytes, url: str) -> bytes:
    """The seal of a process's URL."""
    return hmac.digest(master, _LABEL + url.encode(), "sha256")


def genuine(master: bytes, url: str, seal: bytes) -> bool:
    """Whether it is this URL's."""
    return hmac.compare_digest(of(master, url), seal)
