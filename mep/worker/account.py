"""What functions expect to find in their environment about account and node. Pure.

Runs on Python 3.8 and newer; standard library only.
"""

import os
from typing import Callable, Dict, Mapping, NamedTuple

NAMES = ("HOSTNAME", "HOME", "USER", "LOGNAME", "SHELL")
"""Always set for tasks; PATH too, which is the container's own in a container."""
PATH = "/usr/local/bin:/usr/bin:/bin"
SHELL = "/bin/sh"


class Account(NamedTuple):
    """An entry of the password database."""

    name: str
    home: str
    shell: str


def completed(environment: Mapping[str, str], account: Account, hostname: str) -> Dict[str, str]:
    """What is missing in an environment: a batch job may bring next to nothing."""
    expected = {
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "SHELL": account.shell or SHELL,
        "PATH": PATH,
    }
    missing = {name: value for name, value in expected.items() if not environment.get(name)}
    return {**missing, "HOSTNAME": hostname}


def in_container(
    outside: Mapping[str, str],
    inside: Mapping[str, str],
    exists: Callable[[str], bool],
    working_dir: str,
) -> Dict[str, str]:
    """What a container's environment lacks of :data:`NAMES` and PATH, and what it has wrong.

    A home directory that the container does not show is replaced by the working directory: what a
    function writes to its home is then still there afterwards.

    Args:
        outside: the node pool's environment.
        inside: the container's.
        exists: whether a path is there in the container.
        working_dir: of tasks.
    """
    found = {name: outside[name] for name in NAMES}
    if not exists(found["HOME"]):
        found["HOME"] = working_dir
    if not exists(found["SHELL"]):
        found["SHELL"] = SHELL
    if not inside.get("PATH"):
        found["PATH"] = PATH
    return found


def own() -> Account:
    """The account of this process; one that the node does not know has its number for a name."""
    import pwd

    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:
        return Account(str(os.getuid()), os.getcwd(), SHELL)
    return Account(entry.pw_name, entry.pw_dir, entry.pw_shell)
