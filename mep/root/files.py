"""Files that decide what root does, read only from where nobody else can have written.

The path is walked from ``/`` by descriptor, following no symbolic link; the file and every
directory above it must belong to root (or, in a warden that is not root, to its owner) and be
writable by that owner alone.
"""

import os
import stat
from typing import Final

from mep.root.refusal import ConfigError

LIMIT: Final = 1024 * 1024
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def read(path: str, *, secret: bool = False, optional: bool = False) -> bytes:
    """The bytes of a trusted regular file of at most :data:`LIMIT` bytes.

    `secret`: nobody but the owner may even read it. `optional`: empty where there is none.

    Raises:
        ConfigError: missing, too large, or others can change (or read) it.
    """
    if optional and not os.path.lexists(path):
        return b""
    descriptor = trusted(path)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode) or (secret and mode & 0o077):
        os.close(descriptor)
        raise ConfigError(f"{path} must be a file{' for its owner alone: chmod 600' * secret}")
    with open(descriptor, "rb") as file:
        data = file.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise ConfigError(f"{path} is larger than {LIMIT} bytes")
    return data


def trusted(path: str) -> int:
    """A descriptor of `path`, once it and every directory above it is trusted.

    Raises:
        ConfigError: missing, a symbolic link, or somebody else can change it.
    """
    at = os.open("/", _FLAGS)
    for name in path.strip("/").split("/"):
        above = at
        try:
            at = os.open(name, _FLAGS, dir_fd=above)
        except OSError as error:
            raise ConfigError(f"{path}: {name}: {error.strerror} (links do not count)") from error
        finally:
            os.close(above)
        found = os.fstat(at)
        # In /tmp nobody can replace what is the owner's; root keeps out of there altogether.
        writable = found.st_mode & 0o022 and not (found.st_mode & stat.S_ISVTX and os.geteuid())
        if found.st_uid not in (0, os.geteuid()) or writable:
            os.close(at)
            raise ConfigError(f"{path}: others can change {name}: chown root, chmod go-w")
    return at
