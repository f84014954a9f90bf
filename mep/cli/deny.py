"""``mep deny``, ``mep allow`` and ``mep recheck``: who may go on, now."""

import os
import signal
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from mep.cli import users
from mep.cli.accounts import exists
from mep.cli.audit_log import of_warden
from mep.cli.errors import CliError
from mep.cli.files import replace
from mep.cli.preparation import root_policy
from mep.cli.site import Site, configured_site, sites
from mep.manager.config import read_text
from mep.wire.settings import SettingsError

if TYPE_CHECKING:
    from mep.root.children import Record

DENIED: Final = "denied"
"""Root reads it: one account, identity id or username a line. Remarks begin with ``#``."""
SETTLE_S: Final = 3.0
"""How long leaders may take to look."""
LOOK_S: Final = 0.05
LATE_S: Final = 10.0
"""How much later than stop_grace_s one that was told to end may have ended."""
GRACE_S: Final = 10.0

endpoint_option = click.option(
    "--endpoint", "name", metavar="NAME", help="Of this endpoint alone; else of all that are here."
)


@click.command("deny")
@click.argument("who")
@endpoint_option
@click.option("--reason", default="", metavar="TEXT", help="Kept beside it, for colleagues.")
def deny(who: str, name: str | None, reason: str) -> None:
    """Refuse WHO from now on, and end what runs of theirs.

    WHO is an account of this machine, or an identity: its id or its username at the relay. Running
    user endpoints are told to end (SIGTERM), and killed after stop_grace_s of policy.toml; batch
    jobs are theirs to cancel, and end when their node pools find nobody.

    \b
    Examples:
      mep deny alice
      mep deny mallory@example.org --reason "ticket 4711"
      mep deny 9f6d2c1e-8b60-4a0e-b6a5-3a4d9f6a7b10 --endpoint cluster
    """
    entry = _entry(who)
    if not _somebody(who):
        words = "is no account of this machine, and no identity's id or username (NAME@DOMAIN)"
        print(f"warning: {who} {words}: is it spelt right?", file=sys.stderr)
    for place in _places(name):
        before = users.living(place)
        lines = _lines(place)
        if entry not in _entries(lines):
            remark = f"# {time.strftime('%Y-%m-%d %H:%M')} {' '.join(reason.split())}".rstrip()
            _write(place, [*lines, remark, who])
        _note(place, "denied", who, reason)
        ended = _look_again(place, before, lambda one: entry in _words(one))
        print(f"{place.name}: {who} is refused; {ended} of {len(before)} user endpoints ended")


@click.command("allow")
@click.argument("who")
@endpoint_option
def allow(who: str, name: str | None) -> None:
    """Undo `mep deny WHO`. What the policy and the mapping say holds as before.

    \b
    Examples:
      mep allow alice
    """
    entry, found = _entry(who), False
    for place in _places(name):
        lines = _lines(place)
        if entry in _entries(lines):
            found = True
            _write(place, _without(lines, entry))
            _note(place, "allowed", who, "")
            print(f"{place.name}: {who} is not refused any more")
    if not found:
        raise CliError(f"{who} is not denied here; `mep deny {who}` would")


@click.command("recheck")
@click.argument("name")
def recheck(name: str) -> None:
    """Look at once whether the user endpoints of NAME may go on, by mapping and policy as they are.

    They are looked at every recheck_s (policy.toml) anyway; `systemctl reload mep-warden@NAME` does
    the same. What cannot be decided now, because a directory is away, goes on.
    """
    place = configured_site(name)
    before = users.living(place)
    ended = _look_again(place, before, lambda _: False)
    print(f"{name}: {ended} of {len(before)} user endpoints ended")


def _places(name: str | None) -> list[Site]:
    places = [configured_site(name)] if name else sites()
    if not places:
        raise CliError("there is no endpoint here; see `mep list`")
    return places


def _entry(who: str) -> str:
    """As root compares it.

    Raises:
        CliError: it could not be one line of the file.
    """
    if not who or who != who.strip() or not who.isprintable() or who.startswith("#"):
        raise CliError(f"{who!r} is no account and no identity")
    return who.casefold()


def _somebody(who: str) -> bool:
    try:
        return "@" in who or bool(uuid.UUID(who))
    except ValueError:
        return exists(who)


def entries(place: Site) -> set[str]:
    """Whom `mep deny` refuses here, as root compares them."""
    return _entries(_lines(place))


def _lines(place: Site) -> list[str]:
    path = place.file(DENIED)
    return read_text(path).splitlines() if path.exists() else []


def _entries(lines: list[str]) -> set[str]:
    return {line.casefold() for line in lines if line and not line.startswith("#")}


def _without(lines: list[str], entry: str) -> list[str]:
    """Without the entry, and the remark before it."""
    kept: list[str] = []
    for line in lines:
        if line.casefold() != entry:
            kept.append(line)
        elif kept and kept[-1].startswith("#"):
            kept.pop()
    return kept


def _write(place: Site, lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    replace(place.file(DENIED), text.encode(), 0o644 if place.privileged else 0o600)


def _note(place: Site, event: str, who: str, reason: str) -> None:
    """The warden's log has it, too."""
    from mep.root.refusal import Audit

    if place.audit_file.parent.is_dir():
        by = os.environ.get("SUDO_USER", "")
        Audit(str(place.audit_file)).record(event, who=who, reason=reason, by=by)


def _words(record: "Record") -> set[str]:
    return {word.casefold() for word in (record.account, *record.person)}


def _grace_s(place: Site) -> float:
    try:
        return float(root_policy(place).stop_grace_s)
    except SettingsError:  # leaders go by what they knew, and a denial is no matter of settings
        return GRACE_S


def _look_again(place: Site, before: "list[Record]", surely: "Callable[[Record], bool]") -> int:
    """Have all leaders look; how many have ended. Those that are to end, `surely` or by the
    warden's log, are waited for.
    """
    log = place.audit_file
    size = log.stat().st_size if log.exists() else 0
    for record in before:
        users.tell(record, signal.SIGHUP)
    grace, begun = _grace_s(place) + LATE_S, time.monotonic()
    while True:
        left = [one for one in users.living(place) if one in before]
        told = _told_to_end(log, size)
        ending = any(surely(one) or one.user_endpoint_id in told for one in left)
        if not left or time.monotonic() - begun > (grace if ending else SETTLE_S):
            return len(before) - len(left)
        time.sleep(LOOK_S)


def _told_to_end(log: Path, size: int) -> set[str]:
    """User endpoints whose leader has written so since the log had this size."""
    if not log.exists():
        return set()
    with log.open("rb") as file:
        file.seek(size)
        found = [record for line in file if (record := of_warden(line)) is not None]
    return {one["user_endpoint_id"] for one in found if one["event"] == "ending"}
