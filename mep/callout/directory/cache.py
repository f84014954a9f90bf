"""What a directory answered a moment ago: one small file for each identity.

Look-ups are processes that live for one question, so what they remember is on disk, in a directory
that nobody else can write. A file is replaced as a whole, hence there is nothing to lock; it is
named by all that its answer depends on, so another document or filter never meets it. Whatever is
wrong with it, the directory server is asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from typing import Final

MOST: Final = 10_000
"""Files; with more, nothing new is remembered until some are old."""
_FILE_BYTES: Final = 1024


class Cache:
    """Answers younger than `found_s`, or `missing_s` where nobody was found; epoch seconds.

    :attr:`why_not` says why nothing is remembered; None where it is.
    """

    def __init__(self, directory: str, found_s: float, missing_s: float, most: int = MOST) -> None:
        self._ages = (found_s, missing_s)
        self._most = most
        self._at = -1
        self.why_not: str | None = None
        if not any(self._ages):
            self.why_not = "cache_s and negative_cache_s are 0"
            return
        try:
            self._at = os.open(
                directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            )
            found = os.fstat(self._at)
            if found.st_uid != os.geteuid() or found.st_mode & 0o022:
                self.why_not = f"{directory} is not this account's alone to write"
        except OSError as error:
            self.why_not = f"{directory}: {error.strerror}"

    def get(self, key: str, now: float) -> str | None:
        """The account; empty: there is none; None: not known."""
        if self.why_not:
            return None
        with contextlib.suppress(OSError, ValueError, TypeError):
            descriptor = os.open(_name(key), os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._at)
            with open(descriptor, "rb") as file:
                at, account = json.loads(file.read(_FILE_BYTES))
            age = now - float(at)
            if isinstance(account, str) and 0 <= age < self._ages[not account]:
                return account
        return None

    def put(self, key: str, account: str, now: float) -> None:
        """Remember; where that fails, the server is asked again next time."""
        if self.why_not or not self._ages[not account]:
            return
        fresh = f".{secrets.token_hex(8)}"
        with contextlib.suppress(OSError):
            if not self._has_room(now):
                return
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with open(os.open(fresh, flags, 0o600, dir_fd=self._at), "w") as file:
                json.dump([now, account], file)
            os.rename(fresh, _name(key), src_dir_fd=self._at, dst_dir_fd=self._at)

    def _has_room(self, now: float) -> bool:
        names = os.listdir(self._at)
        if len(names) < self._most:
            return True
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                if os.stat(name, dir_fd=self._at).st_mtime + max(self._ages) < now:
                    os.unlink(name, dir_fd=self._at)
        return len(os.listdir(self._at)) < self._most


def _name(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
