"""The service's own accounts: ``mep`` for the manager, ``mep-map`` for identity look-ups."""

import os
import pwd
from dataclasses import dataclass
from typing import Final

from mep.cli.errors import CliError

MANAGER: Final = "mep"
CALLOUT: Final = "mep-map"


@dataclass(frozen=True)
class Account:
    """A local account's numbers."""

    uid: int
    gid: int


def manager_account(manager: str = MANAGER, callout: str = CALLOUT) -> Account:
    """The account that the manager runs as.

    Raises:
        CliError: one of the two does not exist; the message has the line that makes it.
    """
    if absent := missing(manager, callout):
        raise CliError(absent)
    entry = pwd.getpwnam(manager)
    if entry.pw_uid == 0:
        raise CliError(f"the manager's account {manager} is root; it must have no privilege")
    return Account(entry.pw_uid, entry.pw_gid)


def missing(*names: str) -> str:
    """Which of these accounts do not exist, with the line that makes them; else nothing."""
    absent = [name for name in names if not exists(name)]
    if not absent:
        return ""
    it = "it" if len(absent) == 1 else "them"
    return (
        f"this machine has no account {' and no account '.join(absent)}; make {it} with:  "
        f"{creation(absent)}"
    )


def creation(names: list[str]) -> str:
    """The line for a shell that makes these accounts."""
    return " && ".join(
        "useradd --system --user-group --no-create-home --home-dir /nonexistent "
        f"--shell /usr/sbin/nologin {name}"
        for name in names
    )


def become(account: Account) -> None:
    """Give up root for good, before anything is parsed that a user may have written.

    Raises:
        OSError: it cannot be given up.
    """
    os.setgroups([])
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)


def exists(name: str) -> bool:
    """Whether this machine has an account of that name."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
