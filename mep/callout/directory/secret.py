"""The password of the bind DN: a file that no other account may read."""

from __future__ import annotations

import os
import stat
from typing import Final

from mep.callout.errors import ExternalError

_MOST: Final = 4096


def read(path: str) -> str:
    """The password in a file: root's or ours, readable for us and nobody else.

    Raises:
        ExternalError: it cannot be read, others can read or change it, or it is empty: a bind with
            an empty password succeeds with no check at all (RFC 4513, 5.1.2).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ExternalError(f"password_file {path}: {error.strerror}") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ExternalError(f"password_file {path} is no regular file")
        if found.st_uid not in (0, os.geteuid()) or not _is_private(found):
            raise ExternalError(
                f"password_file {path} is open to others: it must be root's or that of the account "
                "that looks people up, mode 0400, or 0440 with that account's group"
            )
        password = os.read(descriptor, _MOST).decode("utf-8", "surrogateescape").rstrip("\r\n")
    finally:
        os.close(descriptor)
    if not password:
        raise ExternalError(f"password_file {path} is empty")
    return password


def _is_private(found: os.stat_result) -> bool:
    ours = found.st_gid == os.getegid()
    return not found.st_mode & (0o037 if ours else 0o077)
