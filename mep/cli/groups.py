"""``mep groups``: people with whom functions are shared."""

import json
from collections.abc import Callable
from typing import Any, Final

import click

from mep.cli.login import logged_in

_as_json: Final[Callable[[Any], Any]] = click.option(
    "--json", "as_json", is_flag=True, help="Print the relay's answer as JSON."
)


@click.group
def command() -> None:
    """Make groups of people, to share functions with them.

    A function that is registered with group=ID can be called by the group's members. A group's
    managers change it; whoever makes it is its first manager.

    \b
    Examples:
      mep groups create physics
      mep groups add GROUP bob@example.org
      mep groups add GROUP carol@example.org --manager
    """


@command.command
@click.argument("name")
@click.option("--description", default="")
@_as_json
def create(name: str, description: str, as_json: bool) -> None:
    """Make a group called NAME; prints its id."""
    body = {"name": name, "description": description}
    made = logged_in().ask("POST", "/v3/groups", dict[str, Any], body)
    print(json.dumps(made, indent=2) if as_json else made["id"])


@command.command("list")
@click.argument("group", required=False)
@_as_json
def listing(group: str | None, as_json: bool) -> None:
    """Show the groups that you are in, or who is in GROUP (an id)."""
    relay = logged_in()
    if group is None:
        rows = relay.ask("GET", "/v3/groups", list[dict[str, Any]])
    else:
        rows = relay.ask("GET", _path(group), dict[str, Any])["members"]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(f"{row['id']}  {row['role']:7}  {row.get('name') or row.get('username')}")


@command.command
@click.argument("group")
@click.argument("user")
@click.option("--manager", is_flag=True, help="May change the group, too.")
def add(group: str, user: str, manager: bool) -> None:
    """Add USER (id or username) to GROUP (an id), or change what they may."""
    body = {"user": user, "role": "manager" if manager else "member"}
    answer = logged_in().ask("POST", f"{_path(group)}/members", dict[str, Any], body)
    print(f"{user} is a {body['role']} of {answer['name']}")


@command.command
@click.argument("group")
@click.argument("user")
def remove(group: str, user: str) -> None:
    """Take USER (id or username) out of GROUP (an id)."""
    from urllib.parse import quote

    path = f"{_path(group)}/members/{quote(user, safe='@')}"
    logged_in().ask("DELETE", path, dict[str, Any])
    print(f"{user} is in the group no more")


@command.command
@click.argument("group")
def delete(group: str) -> None:
    """Delete GROUP (an id). Functions shared with it are their owners' alone again."""
    logged_in().ask("DELETE", _path(group), dict[str, Any])
    print("deleted")


def _path(group: str) -> str:
    from urllib.parse import quote

    return f"/v3/groups/{quote(group, safe='')}"
