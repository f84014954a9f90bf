"""``mep status``: what an endpoint is doing."""

import json
import time
from typing import Any

import click
import msgspec

from mep.cli.errors import DONE, NOT_RUNNING
from mep.cli.figures import Figures, figures, lines, printable
from mep.cli.processes import Process
from mep.cli.running import State, state
from mep.cli.site import Site, configured_site
from mep.cli.users import living
from mep.manager.site import load_parent
from mep.wire.settings import SettingsError


@click.command
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(name: str, as_json: bool) -> int:
    """Show what NAME is doing: its processes, the link to the relay, users' endpoints and blocks.

    The exit status is 3 when it is not running.

    \b
    Examples:
      mep status cluster
      mep status cluster --json | jq '.user_endpoints[].account'
    """
    place = configured_site(name)
    now = state(place)
    facts = describe(place, now)
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        _show(facts)
    return DONE if now.running else NOT_RUNNING


def describe(place: Site, now: State) -> dict[str, Any]:
    """The state as plain data: what ``--json`` prints."""
    status, processes = now.status, now.processes
    warden = _entry(processes.warden if processes else None)
    if status is not None:
        warden = {**warden, "state": status.warden.state, "since": status.warden.since}
        warden["pid"] = warden["pid"] or status.warden.pid
    return {
        "name": place.name,
        "endpoint_id": _endpoint_id(place),
        "multi_user": place.privileged,
        "running": now.running,
        "run_by": "mep start" if processes else "another" if status else None,
        "supervisor": _entry(processes.supervisor if processes else None),
        "manager": {"pid": status.manager.pid if status else None},
        "warden": warden,
        "relay": {
            "url": status.relay.url if status else None,
            "state": status.relay.state if status else "down",
            "since": status.relay.since if status else None,
            "message": status.relay.message if status else "",
        },
        "user_endpoints": _users(place, now),
    }


def _users(place: Site, now: State) -> list[dict[str, Any]]:
    """As the warden records them; how long they have been there is the manager's knowledge."""
    told = {
        user.user_endpoint_id: user for user in (now.status.user_endpoints if now.status else ())
    }
    records = {record.user_endpoint_id: record for record in living(place)}
    rows = []
    for name in told | records:
        user, record = told.get(name), records.get(name)
        said = figures(record.account, name) if record else None
        rows.append(
            {
                "id": name,
                "account": record.account if record else user.account if user else "",
                "pid": record.pid if record else user.pid if user else 0,
                "since": user.since if user else None,
                "figures": msgspec.to_builtins(said) if said else None,
            }
        )
    return rows


def _entry(process: Process | None) -> dict[str, Any]:
    return {"pid": process.pid if process else None}


def _endpoint_id(place: Site) -> str | None:
    try:
        return load_parent(place.etc).endpoint_id
    except SettingsError:
        return None


def _show(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    kind = "multi-user" if facts["multi_user"] else "single-user"
    console.print(f"[bold]{facts['name']}[/] ({kind}), {facts['endpoint_id'] or 'not registered'}")
    if not facts["running"]:
        console.print(f"not running; start it with: mep start {facts['name']}")
        if facts["user_endpoints"]:
            _show_users(console, facts["user_endpoints"])
        return
    relay, warden = facts["relay"], facts["warden"]
    words = f": {escape(relay['message'])}" if relay["message"] else ""
    console.print(f"relay    {relay['state']}{words}{_ago(relay['since'])}  {relay['url'] or ''}")
    console.print(f"warden   {warden.get('state', 'down')}  process {warden['pid'] or '?'}")
    console.print(f"manager  process {facts['manager']['pid'] or '?'}")
    _show_users(console, facts["user_endpoints"])


def _show_users(console: Any, users: list[dict[str, Any]]) -> None:
    from rich.markup import escape

    console.print(f"user endpoints: {len(users)}")
    for user in users:
        account = escape(user["account"] or "?")
        console.print(
            f"  {user['id']}  {account}  process {user['pid'] or '?'}{_ago(user['since'])}"
        )
        if user["figures"]:
            said = msgspec.convert(user["figures"], Figures)
            for line in lines(said, time.time()):
                console.print(f"    {escape(printable(line))}")


def _ago(since: float | None) -> str:
    if not since:
        return ""
    seconds = max(0, int(time.time() - since))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f", {seconds // size} {unit}"
    return f", {seconds} s"
