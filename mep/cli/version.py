"""``mep version``."""

import click


@click.command
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool) -> None:
    """Show the version of this installation, of its protocol and of its Python."""
    import json
    import platform

    from mep import __version__
    from mep.wire import PROTOCOL

    facts = {
        "version": __version__,
        "protocol": PROTOCOL,
        "python": platform.python_version(),
    }
    if as_json:
        print(json.dumps(facts))
    else:
        print(f"mep {__version__} (protocol {PROTOCOL}, Python {facts['python']})")
