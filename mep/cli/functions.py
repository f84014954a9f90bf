"""``mep functions``: search the functions that one may call."""

import hashlib
import time
import urllib.parse
from typing import Any

import click
import msgspec

from mep.cli.login import logged_in
from mep.cli.relay import Relay, printable
from mep.cli.tables import plain, show
from mep.wire.rest import FoundFunction, FoundFunctions


@click.command
@click.argument("words", nargs=-1)
@click.option("--pin", metavar="ID", help="Print ID@SHA256 of its body, for allowed_functions.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 100))
@click.option("--offset", default=0, type=click.IntRange(0), help="Leave out so many.")
@click.option("--json", "as_json", is_flag=True, help="Print the relay's answer, a JSON object.")
def command(
    words: tuple[str, ...], pin: str | None, limit: int, offset: int, as_json: bool
) -> None:
    """Show functions with all of WORDS in name or description, newest first.

    Your own, those of your groups, and public ones. Uses MEP_RELAY_URL and MEP_TOKEN, else what
    `mep login` stored.

    \b
    Examples:
      mep functions
      mep functions --pin 6ea2c1b0-2f4c-4b7e-9a36-0c7a4f6d1e55
      mep functions array stats --json | jq -r '.functions[].function_uuid'
    """
    relay = logged_in()
    if pin is not None:
        print(_pinned(relay, pin))
        return
    query = urllib.parse.urlencode({"q": " ".join(words), "offset": offset, "limit": limit})
    page = relay.ask("GET", f"/v3/functions?{query}", FoundFunctions)
    if as_json:
        print(printable(msgspec.to_builtins(page)))
    else:
        _show(page)


def _pinned(relay: Relay, function_id: str) -> str:
    """The function with the hash of what the relay hands out for it."""
    quoted = urllib.parse.quote(function_id, safe="")
    said = relay.ask("GET", f"/v2/functions/{quoted}", _Code)
    digest = hashlib.sha256(said.function_code.encode()).hexdigest()
    return f"{said.function_uuid}@{digest}"


class _Code(msgspec.Struct):
    function_uuid: str
    function_code: str


def _show(page: FoundFunctions) -> None:
    if not page.functions:
        print("no functions; register one with Client().register_function(f)")
        return
    show(("id", "name", "for", "registered", "description"), map(_row, page.functions))
    if page.has_next_page:
        print(f"more with --offset {page.offset + len(page.functions)}")


def _row(each: FoundFunction) -> tuple[Any, ...]:
    shared = "all" if each.public else f"group {each.group}" if each.group else "its owner"
    day = time.strftime("%Y-%m-%d", time.localtime(each.created))
    lines = (each.description or "").strip().splitlines()
    first = lines[0] if lines else ""
    return each.function_uuid, *map(plain, (each.function_name, shared, day, first))
