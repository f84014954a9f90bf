"""Entries of ``allowed_functions``: a function's UUID, or ``UUID@SHA256`` of its body.

A body is what was registered, as the relay hands it out. With the hash the site need not trust the
relay to keep it unchanged.
"""

import re
import uuid
from typing import Final, NamedTuple

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class Allowed(NamedTuple):
    """One entry."""

    function_id: str
    sha256: str
    """Empty: any body."""

    def __str__(self) -> str:
        """As it is written."""
        return f"{self.function_id}@{self.sha256}" if self.sha256 else self.function_id


def parse(text: str) -> Allowed:
    """One entry.

    Raises:
        ValueError: it is none; a sentence.
    """
    name, at, digest = text.partition("@")
    try:
        function_id = str(uuid.UUID(name))
    except ValueError:
        raise ValueError(f"{text!r} is no UUID of a function, nor UUID@SHA256") from None
    if at and not _SHA256.fullmatch(digest.lower()):
        raise ValueError(f"{text!r}: what follows the @ is no SHA-256 (64 hexadecimal digits)")
    return Allowed(function_id, digest.lower())
