"""The data directory: database, settings, master key. 0700, for the relay's account alone."""

import fcntl
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from mep_cloud.errors import HomeError

MASTER_BYTES: Final = 32
_MASTER: Final = "master.key"
_DATABASE: Final = "relay.sqlite3"
_SETTINGS: Final = "relay.toml"
_BLOBS: Final = "blobs"
_METRICS: Final = "metrics.token"


class Home:
    """Paths and secrets below one data directory."""

    PASSWORD: Final = "database.password"  # noqa: S105 - the name of a file
    """Of the PostgreSQL account, if there is one and it needs one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.database = directory / _DATABASE
        self.settings = directory / _SETTINGS
        self.blobs = directory / _BLOBS
        self._claim: int | None = None

    def create(self) -> None:
        """Make the directory and a new master credential.

        Raises:
            HomeError: something is there already, and nothing was touched; or it cannot be made.
        """
        try:
            if self.directory.exists() and any(self.directory.iterdir()):
                raise HomeError(
                    f"{self.directory} is not empty, so no relay is set up there. "
                    "Name a new directory; an existing relay is used with `mep-relay serve --data`."
                )
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.directory.chmod(0o700)
            _write_new(self.directory / _MASTER, secrets.token_hex(MASTER_BYTES) + "\n")
        except OSError as error:
            raise HomeError(f"No relay can be set up in {self.directory}: {error}.") from error

    def use_database(self, url: str, password: str | None) -> None:
        """Have a new relay keep its data in PostgreSQL.

        Raises:
            HomeError: that cannot be written.
        """
        try:
            _write_new(self.settings, f"[database]\nurl = {json.dumps(url)}\n")
            if password is not None:
                _write_new(self.directory / self.PASSWORD, password + "\n")
        except OSError as error:
            raise HomeError(f"No relay can be set up in {self.directory}: {error}.") from error

    def discard(self) -> None:
        """Undo `create` and `use_database` where the set-up could not go on."""
        for name in (_MASTER, _SETTINGS, self.PASSWORD, _DATABASE):
            (self.directory / name).unlink(missing_ok=True)

    def database_password(self) -> str | None:
        """The password of the PostgreSQL account, if its file is there.

        Raises:
            HomeError: unreadable, or readable by other accounts.
        """
        path = self.directory / self.PASSWORD
        try:
            _refuse_if_open_to_others(path)
            return path.read_text("utf-8").rstrip("\n")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise HomeError(f"The password file {path} cannot be used: {error}.") from error

    def check(self) -> None:
        """Refuse a directory that `create` did not make or that others can enter.

        Raises:
            HomeError: with the remedy.
        """
        try:
            there = (self.directory / _MASTER).exists()
        except OSError as error:
            raise HomeError(f"{self.directory} cannot be used: {error}.") from error
        if not there:
            raise HomeError(
                f"{self.directory} holds no relay. Set one up with `mep-relay init "
                f"{self.directory}`."
            )
        _refuse_if_open_to_others(self.directory)

    def claim(self) -> None:
        """Keep other processes from serving this directory, until `release` or death.

        Raises:
            HomeError: one does; or that cannot be said, as on a file system without locks.
        """
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            message = f"Another process serves the relay in {self.directory}. Only one can."
            raise HomeError(message) from None
        except OSError as error:
            os.close(descriptor)
            raise HomeError(f"{self.directory} cannot be locked: {error}.") from error
        self._claim = descriptor

    def release(self) -> None:
        """Let other processes serve this directory."""
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    def new_metrics_token(self) -> str:
        """Make the token of ``GET /metrics``, in the place of the one there was.

        Raises:
            HomeError: it cannot be written.
        """
        token = "mep_metrics_" + secrets.token_urlsafe(32)
        new = self.directory / f"{_METRICS}.new"
        try:
            new.unlink(missing_ok=True)
            _write_new(new, token + "\n")
            new.rename(self.directory / _METRICS)
        except OSError as error:
            raise HomeError(f"{self.directory / _METRICS} cannot be written: {error}.") from error
        return token

    def metrics_token(self) -> str | None:
        """The token of ``GET /metrics``; None: there is none, and no such route.

        Raises:
            HomeError: unreadable, or readable by other accounts.
        """
        path = self.directory / _METRICS
        try:
            _refuse_if_open_to_others(path)
            return path.read_text("ascii").strip() or None
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise HomeError(f"{path} cannot be used: {error}.") from error

    def secret(self, name: str) -> str | None:
        """The secret that the relay shares with an identity provider, in `name`.secret.

        Raises:
            HomeError: unreadable, or readable by other accounts.
        """
        path = self.directory / f"{name}.secret"
        try:
            _refuse_if_open_to_others(path)
            return path.read_text("utf-8").strip() or None
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise HomeError(f"The secret {path} cannot be used: {error}.") from error

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


def _write_new(path: Path, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    descriptor = os.open(path, flags, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink()  # an empty one would be in the way of the next try
        raise


def _refuse_if_open_to_others(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise HomeError(
            f"{path} is open to other accounts (mode {mode:04o}), so the relay does not use it. "
            f"Run `chmod go= {path}`, and replace the credential if it may have been read."
        )
