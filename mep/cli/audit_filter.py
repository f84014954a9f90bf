"""Which records of the audit log are asked for. Pure."""

import datetime
import re
from dataclasses import dataclass
from typing import Any, Final

from mep.cli.audit_log import Record
from mep.cli.errors import CliError

REFUSALS: Final = frozenset({"refused", "REFUSED", "settings-refused", "peer-refused", "disputed"})
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_AGO: Final = re.compile(r"(\d+)([smhdw])")


@dataclass(frozen=True)
class Wanted:
    """What a record must be; None: anything."""

    account: str | None = None
    identity: str | None = None
    """Id or user name."""
    task: str | None = None
    since: float | None = None
    refused: bool = False

    def __call__(self, record: Record) -> bool:
        """Whether the record is asked for."""
        return (
            (self.account is None or self.account in (record.get("account"), record.get("who")))
            and (self.identity is None or self.identity.casefold() in _folded(record))
            and (self.task is None or self.task in _tasks(record))
            and (self.since is None or record["at"] >= self.since)
            and (not self.refused or record["event"] in REFUSALS)
        )


def identities(record: Record) -> set[Any]:
    """Every id and user name that a record is about; `who` is whom `mep deny` named."""
    people = record.get("identities")
    people = people if isinstance(people, list) else []
    named = {one.get(key) for one in people if isinstance(one, dict) for key in ("id", "username")}
    return {record.get("identity"), record.get("who"), *named} - {None, ""}


def _tasks(record: Record) -> list[Any]:
    """Its own task, or those that waited for a start that was refused."""
    waited = record.get("tasks") if record["event"] == "refused" else None
    return [record.get("task_id"), *(waited if isinstance(waited, list) else [])]


def _folded(record: Record) -> set[str]:
    return {str(one).casefold() for one in identities(record)}


def moment(text: str, now: float) -> float:
    """Epoch seconds of ``10m``, ``2h``, ``3d`` ago, or of a local date or date and time.

    Raises:
        CliError: it is neither.
    """
    if ago := _AGO.fullmatch(text):
        return now - int(ago[1]) * _UNITS[ago[2]]
    try:
        return datetime.datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        raise CliError(
            f"--since {text!r} is no time: 30m, 2h, 3d (ago), 2026-11-29 or 2026-11-29T10:30"
        ) from None
