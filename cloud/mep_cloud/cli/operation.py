"""``mep-relay backup`` and ``metrics-token``: for those who keep a relay running."""

from pathlib import Path

import click

from mep_cloud.backup import backup as write_backup
from mep_cloud.cli.common import data_option, json_option, show
from mep_cloud.home import Home


@click.command()
@click.argument("destination", type=click.Path(path_type=Path, dir_okay=False))
@data_option
@json_option
def backup(destination: Path, data: Path, as_json: bool) -> None:
    """Copy the database to the new file DESTINATION while the relay serves.

    The copy is consistent and does not hold the master key: keep master.key elsewhere, once. To
    restore, put the copy in the place of relay.sqlite3 (and remove relay.sqlite3-wal and -shm)
    while the relay is stopped. A database in PostgreSQL is backed up with pg_dump.
    """
    write_backup(Home(data), destination)
    size = destination.stat().st_size
    show({"backup": str(destination), "bytes": size}, f"{destination}: {size} bytes", as_json)


@click.command("metrics-token")
@data_option
@json_option
def metrics_token(data: Path, as_json: bool) -> None:
    """Make a new token for GET /metrics and print it. It opens nothing else.

    It is kept in metrics.token (0600) in the data directory and holds from the relay's next start
    on; without that file there is no /metrics.
    """
    home = Home(data)
    home.check()
    token = home.new_metrics_token()
    show({"token": token}, token, as_json)
