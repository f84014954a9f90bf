"""``mep endpoints``: the endpoints that one may use."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import click

from mep.cli.login import sdk_client
from mep.cli.tables import plain, show

AT_ONCE: Final = 8


@click.command
@click.argument("endpoint", required=False, type=click.UUID)
@click.option("--mine", is_flag=True, help="Only those that you registered.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list, or one object.")
def command(endpoint: object | None, mine: bool, as_json: bool) -> None:
    """Show the endpoints at the relay that you may use, or what ENDPOINT (an id) says of itself.

    Uses MEP_RELAY_URL and MEP_TOKEN, else what `mep login` stored. The endpoints of this machine,
    for who runs them: `mep list`.

    \b
    Examples:
      mep endpoints
      mep endpoints 4b1d9c2e-... --json | jq .metadata.user_config_schema
    """
    with sdk_client() as client:
        if endpoint is not None:
            _describe(client.get_endpoint_metadata(str(endpoint)), as_json)
            return
        rows = client.get_endpoints(role=None if mine else "any")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for row, told in zip(
                rows,
                pool.map(client.get_endpoint_status, [each["uuid"] for each in rows]),
                strict=True,
            ):
                row["status"] = told["status"]
    if as_json:
        print(json.dumps(rows, indent=2))
    elif not rows:
        print("no endpoints that are shown to you; an endpoint may serve you all the same: ask")
    else:
        show(("id", "name", "status", "for"), map(_row, rows))


def _row(endpoint: dict[str, Any]) -> tuple[Any, ...]:
    serves = "many users" if endpoint["multi_user"] else "its owner"
    return endpoint["uuid"], plain(endpoint["display_name"]), endpoint["status"], serves


def _describe(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(told, indent=2))
        return
    print(f"{plain(told['display_name'])}  {told['uuid']}  {told['status']}")
    functions = told.get("allowed_functions")
    if functions is not None:
        print(f"runs these functions alone: {', '.join(functions) or 'none'}")
    schema = (told.get("metadata") or {}).get("user_config_schema")
    schema = schema if isinstance(schema, dict) else {}
    options = schema.get("properties", {})
    if options:
        print("options (user_endpoint_config):")
    for name, rule in options.items():
        needed = ", required" if name in schema.get("required", ()) else ""
        print(f"  {plain(name)}  {plain(json.dumps(rule))}{needed}")
