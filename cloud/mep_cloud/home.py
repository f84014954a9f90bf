"""The data directory: database, master credential. 0700, for the relay's account alone."""

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from mep_cloud.errors import HomeError

MASTER_BYTES: Final = 32
_MASTER: Final = "master.key"
_DATABASE: Final = "relay.sqlite3"


class Home:
    """Paths and secrets below one data directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.database = directory / _DATABASE

    def create(self) -> None:
        """Make the directory and a new master credential.

        Raises:
            HomeError: something is there already; nothing was touched.
        """
        if self.directory.exists() and any(self.directory.iterdir()):
            raise HomeError(
                f"{self.directory} is not empty, so no relay is set up there. "
                "Name a new directory; an existing relay is used with `mep-relay serve --data`."
            )
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(self.directory / _MASTER, flags, 0o600), "w") as file:
            file.write(secrets.token_hex(MASTER_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def check(self) -> None:
        """Refuse a directory that `create` did not make or that others can enter.

        Raises:
            HomeError: with the remedy.
        """
        if not self.database.exists():
            raise HomeError(
                f"{self.directory} holds no relay. Set one up with `mep-relay init "
                f"{self.directory}`."
            )
        _refuse_if_open_to_others(self.directory)

    def master(self) -> bytes:
        """The master credential.

        Raises:
            HomeError: missing, unreadable, damaged, or readable by other accounts.
        """
        path = self.directory / _MASTER
        try:
            _refuse_if_open_to_others(path)
            key = bytes.fromhex(path.read_text("ascii").strip())
        except (OSError, ValueError) as error:
            raise HomeError(f"The master credential {path} cannot be used: {error}.") from error
        if len(key) != MASTER_BYTES:
            raise HomeError(f"The master credential {path} is damaged; restore it from a backup.")
        return key


def _refuse_if_open_to_others(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise HomeError(
            f"{path} is open to other accounts (mode {mode:04o}), so the relay does not use it. "
            f"Run `chmod go= {path}`, and replace the credential if it may have been read."
        )
