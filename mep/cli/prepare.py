"""``mep prepare``: what ``mep start`` does first, for systemd's ``ExecStartPre``."""

import sys

import click

from mep.cli.checks import warn_of_template
from mep.cli.preparation import checked_config, untold
from mep.cli.preparation import prepare as prepare_site
from mep.cli.site import configured_site


@click.command
@click.argument("name")
def command(name: str) -> None:
    """Check NAME's configuration, and write what is generated from it.

    parent.json is made from config.yaml, directories get their owners and modes, settings that
    disagree are refused. `mep start` and systemd do this before every start.
    """
    place = configured_site(name)
    for warning in checked_config(place)[1]:
        print(f"warning: {warning}", file=sys.stderr)
    parent = prepare_site(place)
    if words := untold(place):
        print(f"warning: {words}", file=sys.stderr)
    if parent.allowed_functions is not None:
        warn_of_template(place)
    print(f"endpoint {parent.endpoint_id} is ready to start")
