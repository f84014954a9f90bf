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
        "compute_nodes": compute_nodes(),
    }
    if as_json:
        print(json.dumps(facts))
    else:
        print(f"mep {__version__} (protocol {PROTOCOL}, Python {facts['python']})")
        if facts["compute_nodes"]:
            print(f"compute nodes may have {facts['compute_nodes']}")


def compute_nodes() -> str | None:
    """The Pythons that node pools of this installation run on; None: it has no endpoint."""
    import importlib.metadata

    from mep.endpoint.runtime import pyzmq
    from mep.worker.boot import build_of, named

    try:
        tags = pyzmq.tags()
    except importlib.metadata.PackageNotFoundError:
        return None
    return named([build for build in map(build_of, tags) if build])
