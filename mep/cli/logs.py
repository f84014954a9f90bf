"""``mep logs``: what one's own user endpoint wrote, on the machine where it ran."""

from collections import deque
from pathlib import Path
from typing import Any, Final

import click

from mep.cli.errors import CliError
from mep.cli.login import sdk_client

FILES: Final = ("endpoint.log.1", "endpoint.log", "stderr.log")
"""In the directory of a user endpoint, in the order of reading."""


@click.command
@click.option("--task", metavar="ID", required=True, type=click.UUID, help="A task that it ran.")
@click.option("--lines", default=100, show_default=True, type=click.IntRange(1))
def command(task: object, lines: int) -> None:
    """Show the log of the user endpoint that ran a task of yours: the last lines of each file.

    Run it on the endpoint's machine, as the account that the tasks run as: the log is a file of
    that account, and nobody else reads it. Uses MEP_RELAY_URL and MEP_TOKEN, else what `mep login`
    stored, to find out which user endpoint it was.

    \b
    Example:
      mep logs --task 0b9e4a6e-... --lines 20
    """
    with sdk_client() as client:
        record = client.get_task_record(str(task))
        told = client.get_endpoint_metadata(record["endpoint_id"])
    where = Path.home() / ".mep" / record["user_endpoint_id"]
    found = [path for name in FILES if (path := where / name).is_file()]
    if not found:
        raise CliError(_elsewhere(record, told, where))
    for path in found:
        print(f"==> {path}")
        for line in _last(path, lines):
            print(line)


def _last(path: Path, lines: int) -> list[str]:
    """The last lines, fit for a terminal."""
    with path.open(encoding="utf-8", errors="replace") as file:
        kept = deque(file, lines)
    return ["".join(c if c.isprintable() or c == "\t" else "" for c in line) for line in kept]


def _elsewhere(record: dict[str, Any], told: dict[str, Any], where: Path) -> str:
    manager = told.get("manager") or {}
    host = manager.get("hostname") or "the endpoint's machine"
    message = record["failure_message"]
    failure = f"; the task failed: {message}" if message else ""
    return (
        f"there is no log in {where} on this machine; run this on {host}, as the account that your "
        f"tasks run as{failure}"
    )
