"""``mep list``: the endpoints of this machine."""

import json
from typing import Any

import click

from mep.cli.running import state
from mep.cli.site import Site, sites
from mep.cli.tables import show
from mep.manager.site import load_parent
from mep.wire.settings import SettingsError


@click.command
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def command(as_json: bool) -> None:
    """Show the endpoints of this machine: root's when you are root, else your own.

    \b
    Examples:
      mep list
      mep list --json | jq -r '.[] | select(.running) | .name'
    """
    rows = [_row(place) for place in sites()]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    if not rows:
        print("no endpoints here; make one with `mep configure NAME --relay-url URL`")
        return
    show(("name", "id", "state", "users"), map(_shown, rows))


def _shown(row: dict[str, Any]) -> tuple[str, ...]:
    users = str(row["user_endpoints"]) if row["running"] else ""
    return row["name"], row["endpoint_id"] or "not registered", row["state"], users


def _row(place: Site) -> dict[str, Any]:
    now = state(place)
    relay = f", relay link {now.status.relay.state}" if now.status else ""
    return {
        "name": place.name,
        "endpoint_id": _endpoint_id(place),
        "multi_user": place.privileged,
        "running": now.running,
        "state": f"running{relay}" if now.running else "stopped",
        "user_endpoints": len(now.status.user_endpoints) if now.status else 0,
    }


def _endpoint_id(place: Site) -> str | None:
    try:
        return load_parent(place.etc).endpoint_id
    except SettingsError:
        return None
