"""``mep check``: everything that can be said of an endpoint before somebody is refused."""

import json

import click

from mep.cli.checks import all_checks
from mep.cli.errors import DONE, FAILED
from mep.cli.site import configured_site

_SIGNS = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}


@click.command
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(name: str, as_json: bool) -> int:
    """Check the files of NAME, and run its identity look-ups once, as the account that runs them.

    Settings and their agreement, accounts, owners and modes, the mapping, programs and directories
    that it asks (for somebody who does not exist), the template, room for the audit logs. Nothing
    is changed. The exit status is 1 where something is wrong; warnings are not.

    \b
    Examples:
      mep check cluster
      mep check cluster --json | jq '.said[] | select(.level != "ok")'
    """
    said = list(all_checks(configured_site(name)))
    good = not any(one.level == "error" for one in said)
    if as_json:
        print(json.dumps({"good": good, "said": [one._asdict() for one in said]}, indent=2))
    else:
        for one in said:
            words = "".join(c if c.isprintable() else " " for c in one.words)
            print(f"{_SIGNS[one.level]} {one.subject}: {words}")
    return DONE if good else FAILED
