"""Files that decide what root does, read only from where nobody else can have written.

The file and every directory above it must belong to root (or, in a warden that is not root, to its
owner), be writable by that owner alone, and be no symbolic link. They are looked at from ``/``
down: what lies in a directory that was found good can be replaced by nobody else, unless the owner
lets others in between looking and opening. So what was opened must be what was looked at, or all
is looked at again.
"""

import os
import stat

from mep.root.refusal import ConfigError

LIMIT = 1024 * 1024


def read(path: str, *, secret: bool = False, optional: bool = False) -> bytes:
    """The bytes of a trusted regular file of at most :data:`LIMIT` bytes.

    `secret`: nobody but the owner may even read it. `optional`: empty where there is none, which
    counts where nobody else can have taken it away.

    Raises:
        ConfigError: too large, or others can change (or read) it.
        OSError: it is missing.
    """
    if optional and not os.path.lexists(path):
        trusted(os.path.dirname(path))
        return b""
    found = trusted(path)
    if not stat.S_ISREG(found.st_mode) or found.st_size > LIMIT:
        raise ConfigError(f"{path} is no file of at most {LIMIT} bytes")
    if secret and found.st_mode & 0o077:
        raise ConfigError(f"{path} is a secret that others can read: chmod 600 {path}")
    with open(path, "rb") as file:
        if not os.path.samestat(found, os.fstat(file.fileno())):
            return read(path, secret=secret, optional=optional)  # an editor's rename, or worse
        return file.read(LIMIT)


def trusted(path: str) -> os.stat_result:
    """What `path` is, once it and every directory above it is trusted.

    Raises:
        ConfigError: a symbolic link, or somebody else can change it.
        OSError: it is missing.
    """
    names = path.strip("/").split("/")
    for step in ["/" + "/".join(names[:count]) for count in range(len(names) + 1)]:
        found = os.lstat(step)
        # In /tmp nobody can replace what is the owner's; root keeps out of there altogether.
        writable = found.st_mode & 0o022 and not (found.st_mode & stat.S_ISVTX and os.geteuid())
        if stat.S_ISLNK(found.st_mode) or found.st_uid not in (0, os.geteuid()) or writable:
            raise ConfigError(f"others can change {step}: chown root, chmod go-w, no links")
    return found
