"""Data directories of two relay processes that are to serve one PostgreSQL database."""

import shutil
import subprocess
import sys
from pathlib import Path

from testbed.postgres import Server

METRICS_TOKEN = "mep_metrics_of_both"


def two_directories(server: Server, parent: Path, settings: str) -> tuple[Path, Path, str]:
    """Both, as an administrator makes them, and the name of their database.

    `settings` is appended to ``relay.toml``.
    """
    password = parent / "password"
    password.write_text(server.password + "\n")
    url = server.new_database()
    first, second = parent / "first", parent / "second"
    command = [sys.executable, "-m", "mep_cloud", "init", first, "--domain", "example.edu"]
    where = ["--database", url, "--database-password-file", password]
    done = subprocess.run([*command, *where], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    with open(first / "relay.toml", "a") as file:
        file.write(settings)
    (first / "metrics.token").write_text(METRICS_TOKEN)
    (first / "metrics.token").chmod(0o600)
    shutil.copytree(first, second)
    return first, second, url.rsplit("/", 1)[1]
