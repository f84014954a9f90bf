"""PAM services of a test run's own, in /etc/pam.d.

Accounts are in a file of pam_pwdfile's, which checks a password for whoever can read it, as a
directory server does for everybody. They are no accounts of this machine.
"""

import os
import subprocess
from pathlib import Path

MODULE = "pam_pwdfile.so"
PREFIX = "mep-test-"


class Stacks:
    """Writes services and removes them again."""

    def __init__(self, directory: Path) -> None:
        self.accounts = directory / "accounts"
        self.expired = directory / "expired"
        self.expired.write_text("")
        self._written: list[Path] = []
        for left in Path("/etc/pam.d").glob(f"{PREFIX}*"):
            # Of a test run that was killed.
            if not Path(f"/proc/{left.name.removeprefix(PREFIX).split('-')[0]}").exists():
                left.unlink(missing_ok=True)

    def add(self, name: str, password: str) -> None:
        """An account of the site."""
        command = ["openssl", "passwd", "-6", "-stdin"]
        done = subprocess.run(command, input=password, capture_output=True, text=True, check=True)
        with self.accounts.open("a") as file:
            file.write(f"{name}:{done.stdout.strip()}\n")

    def write(self, *lines: str) -> str:
        """A service of these lines; its name."""
        name = f"{PREFIX}{os.getpid()}-{len(self._written)}"
        path = Path("/etc/pam.d") / name
        path.write_text("\n".join([*lines, ""]))
        self._written.append(path)
        return name

    def directory(self) -> str:
        """A stack that knows the accounts, and lets nobody in whose account has expired."""
        return self.write(
            f"auth required {MODULE} pwdfile={self.accounts} nodelay",
            f"account required pam_listfile.so item=user sense=deny onerr=fail file={self.expired}",
        )

    def close(self) -> None:
        for path in self._written:
            path.unlink()
