"""``mep-relay settings``: what can be set in ``relay.toml``."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from mep_cloud import settings
from mep_cloud.cli.common import json_option, show
from mep_cloud.home import Home


@click.command("settings")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Check and show the relay.toml of this data directory. Without it: the defaults.",
)
@json_option
def show_settings(data: Path | None, as_json: bool) -> None:
    """Print every setting of relay.toml: type, default, value, description."""
    values = settings.Settings() if data is None else settings.load(Home(data).settings)
    every = list(settings.declared(values))
    text = "\n".join(_lines(every))
    show({"settings": [asdict(each) for each in every]}, text, as_json)


def _lines(every: list[settings.Declared]) -> list[str]:
    lines: list[str] = []
    table = None
    for each in every:
        if each.table != table:
            table = each.table
            lines += ["", f"[{table}]"]
        lines += [
            f"# {each.description}",
            f"# {each.type}, default {_toml(each.default)}",
            f"{each.name} = {_toml(each.value)}",
        ]
    return lines[1:]


def _toml(value: object) -> str:
    return json.dumps(value)
