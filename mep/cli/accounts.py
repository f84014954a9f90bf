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


def manager_account(name: str = MANAGER) -> Account:
    """The account that the manager runs as.

    Raises:
        CliError: it does not exist; the message has the line that makes it.
    """
    missing = [account for account in (name, CALLOUT) if not _exists(account)]
    if missing:
        raise CliError(
            f"this machine has no account {' and no account '.join(missing)}; make "
            f"{'it' if len(missing) == 1 else 'them'} with:  {creation(missing)}"
        )
    entry = pwd.getpwnam(name)
    if entry.pw_uid == 0:
        raise CliError(f"the manager's account {name} is root; it must be one without privilege")
    return Account(entry.pw_uid, entry.pw_gid)


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


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
