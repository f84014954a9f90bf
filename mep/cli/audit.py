"""``mep audit``: what was decided, and what users' processes reported."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import click

from mep.cli import audit_log
from mep.cli.audit_filter import Wanted, moment
from mep.cli.audit_log import Record, records
from mep.cli.site import Site, configured_site

PAUSE_S: Final = 0.2
_SHOWN: Final = (
    *("user_endpoint_id", "pid", "task_id", "function_id", "block_id", "job_id"),
    *("status", "signal", "code", "reference", "text", "why", "said", "count", "disputed"),
)
_DECIDED: Final = ("uid", "identity", "rule", "rusage", "who", "reason", "by")
"""Of the warden's records besides."""


@click.command
@click.argument("name")
@click.option("--account", metavar="ACCOUNT", help="Only of this local account.")
@click.option("--identity", metavar="ID", help="Only of this identity: its id or user name.")
@click.option("--task", metavar="ID", help="Only of this task.")
@click.option("--since", metavar="TIME", help="Only after 30m, 2h, 3d ago, or 2026-11-29T10:30.")
@click.option("--refused", is_flag=True, help="Only refusals.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option("--follow", is_flag=True, help="Then go on with what comes, until Ctrl-C.")
def command(
    name: str,
    account: str | None,
    identity: str | None,
    task: str | None,
    since: str | None,
    refused: bool,
    as_json: bool,
    follow: bool,
) -> None:
    """Show the audit log of NAME: the warden's decisions, and what users' processes reported.

    Records of the warden and the manager are their own word. Those of users' processes are marked
    `user`: account, uid and pid are the kernel's, the rest is that process's word.

    \b
    Examples:
      mep audit cluster --since 1d --refused
      mep audit cluster --identity alice@example.edu
      mep audit cluster --task 3f1c2f1e-6a3e-4a55-9a0b-2f4f1b7c9d10
      mep audit cluster --follow --json | jq 'select(.event == "started")'
    """
    place = configured_site(name)
    after = None if since is None else moment(since, time.time())
    wanted = Wanted(account, identity, task, after, refused)
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        for record in audit_log.Joined().all(followed(place) if follow else records(place)):
            if wanted(record):
                print(json.dumps(record) if as_json else line(record), flush=follow)


def line(record: Record) -> str:
    """One record for people."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record["at"]))
    who = record.get("account") or _names(record) or "-"
    shown = (*_SHOWN, *_DECIDED) if record["reporter"] == "warden" else _SHOWN
    facts = " ".join(f"{key}={_word(record[key])}" for key in shown if key in record)
    event, reporter = plain(record["event"]), record["reporter"]
    return f"{when} {reporter:7} {event:12} {plain(who)} {facts}".rstrip()


def _names(record: Record) -> str:
    people = record.get("identities")
    people = people if isinstance(people, list) else []
    return ",".join(str(one.get("username") or one.get("id")) for one in people)


def plain(value: Any) -> str:
    """What others wrote, without what a terminal would obey."""
    text = str(value)
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def _word(value: Any) -> str:
    shown = plain(value)
    return f'"{shown}"' if " " in shown else shown


def followed(place: Site) -> Iterator[Record]:
    """What is there, then what comes; files may be rotated meanwhile."""
    tails = [
        _Tail(place.audit_file, audit_log.of_warden),
        _Tail(place.log / audit_log.EVENTS, audit_log.of_manager),
    ]
    try:
        yield from records(place, {tail.path: tail.end for tail in tails})
        while True:
            fresh = sorted((one for tail in tails for one in tail.new()), key=lambda one: one["at"])
            yield from fresh
            if not fresh:
                time.sleep(PAUSE_S)
    finally:
        for tail in tails:
            tail.close()


class _Tail:
    """The records that a file gets from now on, under whatever name it goes on."""

    def __init__(self, path: Path, parse: Any) -> None:
        self.path, self._parse = path, parse
        self._rest = b""
        self._file: IO[bytes] | None = audit_log.opened(path)
        self.end = self._file.seek(0, os.SEEK_END) if self._file else 0

    def new(self) -> list[Record]:
        """What has come."""
        lines = self._read()
        if not lines and self._has_a_successor():
            lines = self._read()
            self.close()
            self._file, self._rest = audit_log.opened(self.path), b""
            lines += self._read()
        return [record for line in lines if (record := self._parse(line)) is not None]

    def close(self) -> None:
        """Release the file."""
        if self._file is not None:
            self._file.close()

    def _has_a_successor(self) -> bool:
        try:
            there = self.path.stat()
        except OSError:
            return False
        if self._file is None:
            return True
        mine = os.fstat(self._file.fileno())
        return (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)

    def _read(self) -> list[bytes]:
        if self._file is None:
            return []
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        return lines
